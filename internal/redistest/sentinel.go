package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

const (
	masterName    = "mymaster"
	sentinelCount = 3
	downAfter     = 1000 // ms
)

// SentinelSet is a master with two replicas, and three Sentinels that watch
// over them.
type SentinelSet struct {
	t         testing.TB
	nodes     []*Server
	sentinels []*Server
}

// StartSentinel starts such a set with the given server program ("redis-server" or
// "valkey-server") and returns once all members know each other, after about 3 seconds.
// The set stops when the test ends.
func StartSentinel(t testing.TB, server string) *SentinelSet {
	t.Helper()
	bin := Binary(t, server)
	set := &SentinelSet{t: t}
	flags := []string{"--repl-diskless-sync-delay", "0"}
	for range 3 {
		set.nodes = append(set.nodes, startServer(t, bin, nil, flags))
		if len(set.nodes) == 1 {
			host, port, _ := net.SplitHostPort(set.nodes[0].addr)
			flags = append(flags, "--replicaof", host, port)
		}
	}
	// Before that a Sentinel would know of no replicas, and look again only 10 s later.
	Eventually(t, "the replicas are linked", settleTime, func() bool {
		return linked(t, set.nodes[1]) && linked(t, set.nodes[2])
	})
	for range sentinelCount {
		set.sentinels = append(set.sentinels, startSentinel(t, bin, set.nodes[0].addr))
	}
	set.Settle()
	return set
}

// StartOneSentinel starts a master without replicas and a Sentinel that watches it, for tests
// without a failover: it takes less time than StartSentinel. It returns the master and options.
func StartOneSentinel(t testing.TB) (*Server, *redis.FailoverOptions) {
	t.Helper()
	bin := Binary(t, "redis-server")
	master := startServer(t, bin, nil, nil)
	sentinel := startSentinel(t, bin, master.addr)
	return master, &redis.FailoverOptions{MasterName: masterName, SentinelAddrs: []string{sentinel.addr}}
}

func startSentinel(t testing.TB, bin, master string) *Server {
	t.Helper()
	s, err := onFreePorts(func(ports []int) (*Server, error) { return launchSentinel(ports[0], bin, master) })
	if err != nil {
		t.Fatal(err)
	}
	s.t = t
	t.Cleanup(s.end)
	return s
}

func launchSentinel(port int, bin, master string) (*Server, error) {
	proc, err := newProcess(bin)
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(proc.dir, "sentinel.conf") // rewritten by the Sentinel, so it has to be a file
	masterHost, masterPort, _ := net.SplitHostPort(master)
	text := fmt.Sprintf(`bind %s
port %d
unixsocket %s
logfile %s
dir %s
sentinel monitor %s %s %s 2
sentinel down-after-milliseconds %[6]s %[9]d
sentinel failover-timeout %[6]s 5000
sentinel parallel-syncs %[6]s 2
`, host, port, proc.unix(), proc.logFile(), proc.dir, masterName, masterHost, masterPort, downAfter)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		proc.remove()
		return nil, fmt.Errorf("redistest: configuration of a Sentinel: %w", err)
	}
	proc.args = []string{conf, "--sentinel"}
	if err := proc.start(); err != nil {
		proc.remove()
		return nil, err
	}
	s := &Server{proc: proc, addr: addrOf(port), admin: addrOf(port)}
	// With its own periods (10 s between two INFOs, four times 2 s before it
	// tells an old master to follow) a failover takes 11 s. Older Sentinels
	// have no such settings, and are that slow.
	s.Admin().Do(context.Background(), "SENTINEL", "DEBUG", "INFO-PERIOD", "200", "PUBLISH-PERIOD", "200")
	return s, nil
}

// MasterName is the name of the master in the Sentinels' configuration.
func (s *SentinelSet) MasterName() string { return masterName }

// Nodes returns the three servers; the first one started as the master.
func (s *SentinelSet) Nodes() []*Server { return append([]*Server(nil), s.nodes...) }

// Sentinels returns the three Sentinels.
func (s *SentinelSet) Sentinels() []*Server { return append([]*Server(nil), s.sentinels...) }

// Addrs returns the addresses of the Sentinels.
func (s *SentinelSet) Addrs() []string { return addrs(s.sentinels) }

// Options returns new options for the set.
func (s *SentinelSet) Options() *redis.FailoverOptions {
	return &redis.FailoverOptions{MasterName: masterName, SentinelAddrs: s.Addrs()}
}

// Master returns the node that all running Sentinels consider the master.
func (s *SentinelSet) Master() *Server {
	s.t.Helper()
	return s.NextMaster(nil)
}

// NextMaster waits until the running Sentinels agree on a master that is
// running, calls itself one and is not old, and returns it.
func (s *SentinelSet) NextMaster(old *Server) *Server {
	s.t.Helper()
	var master *Server
	Eventually(s.t, "the Sentinels agree on a master", settleTime, func() bool {
		master = s.agreed()
		return master != nil && master != old && master.Running() && role(s.t, master) == "master"
	})
	return master
}

// Failover promotes a replica with SENTINEL FAILOVER, waits until all members follow it,
// and returns the new master.
func (s *SentinelSet) Failover() *Server {
	s.t.Helper()
	s.Settle()
	old := s.Master()
	Eventually(s.t, "a Sentinel begins a failover", settleTime, func() bool {
		// It refuses while it takes no replica for good enough, or is at it.
		return s.sentinels[0].Admin().Do(context.Background(), "SENTINEL", "FAILOVER", masterName).Err() == nil
	})
	master := s.NextMaster(old)
	s.Settle()
	return master
}

// Settle waits until the running Sentinels agree on a master and know of each
// other and of both replicas, and each replica that runs is linked to it.
func (s *SentinelSet) Settle() {
	s.t.Helper()
	Eventually(s.t, "the Sentinels have settled", settleTime, func() bool {
		master := s.agreed()
		if master == nil || !master.Running() || role(s.t, master) != "master" {
			return false
		}
		_, port, _ := net.SplitHostPort(master.addr)
		for _, n := range s.nodes {
			if n == master || !n.Running() {
				continue
			}
			info := n.Admin().Info(context.Background(), "replication").Val()
			if !strings.Contains(info, "master_port:"+port+"\r\n") || !strings.Contains(info, "master_link_status:up") {
				return false
			}
		}
		for _, n := range s.sentinels {
			if !n.Running() {
				continue
			}
			m, err := n.state()
			if err != nil || m["flags"] != "master" || m["num-slaves"] != "2" ||
				m["num-other-sentinels"] != strconv.Itoa(sentinelCount-1) {
				return false
			}
		}
		return true
	})
}

// agreed is the master of all running Sentinels, nil if they differ.
func (s *SentinelSet) agreed() *Server {
	said := ""
	for _, n := range s.sentinels {
		if !n.Running() {
			continue
		}
		m, err := n.state()
		if err != nil {
			return nil
		}
		now := net.JoinHostPort(m["ip"], m["port"])
		if said != "" && said != now {
			return nil
		}
		said = now
	}
	return byAddr(s.nodes, said)
}

// state is what a Sentinel says about the master.
func (s *Server) state() (map[string]string, error) {
	list, err := s.Admin().Do(context.Background(), "SENTINEL", "MASTER", masterName).StringSlice()
	if err != nil {
		return nil, err
	}
	m := make(map[string]string, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		m[list[i]] = list[i+1]
	}
	return m, nil
}

func role(t testing.TB, s *Server) string {
	t.Helper()
	v, ok := do(t, s, "ROLE").([]any)
	if !ok || len(v) == 0 {
		t.Fatalf("redistest: ROLE on %s gave no role", s.addr)
	}
	name, _ := v[0].(string)
	return name
}
