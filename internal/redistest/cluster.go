package redistest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	slots       = 16384
	nodeTimeout = 1000 // ms; a lost master is replaced about 2 s after its loss
	settleTime  = 30 * time.Second
)

// Cluster is a cluster of plain processes. Shard i (from 0) has the i-th equal
// part of the slots; which of its nodes is the master may change.
type Cluster struct {
	t      testing.TB
	nodes  []*Server
	shards int
}

// StartCluster starts a cluster of the given server program ("redis-server" or
// "valkey-server") and returns once it is complete, after 2 to 3 seconds. replicas is the
// number for each master. The cluster stops when the test ends.
func StartCluster(t testing.TB, server string, masters, replicas int) *Cluster {
	t.Helper()
	bin := Binary(t, server)
	c := &Cluster{t: t, shards: masters}
	for range masters * (1 + replicas) {
		c.nodes = append(c.nodes, startServer(t, bin, nil, []string{
			"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
			"--cluster-node-timeout", strconv.Itoa(nodeTimeout),
			"--cluster-allow-replica-migration", "no", "--repl-diskless-sync-delay", "0",
			// CLUSTER SLOTS hides a replica to which nothing was ever sent.
			"--repl-ping-replica-period", "1",
		}))
	}
	for i, n := range c.nodes {
		do(t, n, "CLUSTER", "SET-CONFIG-EPOCH", i+1) // else they quarrel over it first
		if i < masters {
			do(t, n, "CLUSTER", "ADDSLOTSRANGE", c.first(i), c.first(i+1)-1)
		}
		if i > 0 {
			host, port, _ := strings.Cut(c.nodes[0].addr, ":")
			do(t, n, "CLUSTER", "MEET", host, port, c.nodes[0].bus)
		}
	}
	Eventually(t, "all nodes of the cluster know each other", settleTime, func() bool {
		for _, n := range c.nodes {
			known := do(t, n, "CLUSTER", "NODES").(string)
			if strings.Count(known, "\n") != len(c.nodes) || strings.Contains(known, "handshake") {
				return false
			}
		}
		return true
	})
	for i, n := range c.nodes[masters:] {
		do(t, n, "CLUSTER", "REPLICATE", do(t, c.nodes[i%masters], "CLUSTER", "MYID"))
	}
	c.Settle()
	return c
}

// StartOneNodeCluster starts a cluster whose only node has all slots. It takes less time
// than StartCluster; the node does not know its own address, so clients go on with theirs.
func StartOneNodeCluster(t testing.TB) *Server {
	t.Helper()
	s := Start(t, "--cluster-enabled", "yes")
	do(t, s, "CLUSTER", "ADDSLOTSRANGE", 0, slots-1)
	Eventually(t, "the cluster is up", settleTime, func() bool {
		return strings.Contains(do(t, s, "CLUSTER", "INFO").(string), "cluster_state:ok")
	})
	return s
}

// first is the first slot of a shard.
func (c *Cluster) first(shard int) int { return shard * slots / c.shards }

// Nodes returns all nodes: first those that started as masters, in the order of their
// shards, then those that started as replicas.
func (c *Cluster) Nodes() []*Server { return append([]*Server(nil), c.nodes...) }

// Addrs returns the addresses of Nodes.
func (c *Cluster) Addrs() []string { return addrs(c.nodes) }

// Options returns new options for the cluster.
func (c *Cluster) Options() *redis.ClusterOptions { return &redis.ClusterOptions{Addrs: c.Addrs()} }

// Shard returns the shard that a slot belongs to.
func (c *Cluster) Shard(slot int) int {
	for i := range c.shards {
		if slot < c.first(i+1) {
			return i
		}
	}
	return -1
}

// Key returns a key that belongs to the shard and ends with s.
func (c *Cluster) Key(shard int, s string) string {
	c.t.Helper()
	for i := 0; ; i++ {
		key := fmt.Sprintf("{%d}%s", i, s)
		slot, err := c.anybody().Admin().ClusterKeySlot(context.Background(), key).Result()
		if err != nil {
			c.t.Fatalf("redistest: CLUSTER KEYSLOT: %v", err)
		}
		if c.Shard(int(slot)) == shard {
			return key
		}
	}
}

// Master returns the node that all running nodes consider the master of a shard.
func (c *Cluster) Master(shard int) *Server {
	c.t.Helper()
	return c.NextMaster(shard, nil)
}

// NextMaster waits until the running nodes agree on a master of a shard that
// is running and is not old, and returns it.
func (c *Cluster) NextMaster(shard int, old *Server) *Server {
	c.t.Helper()
	var master *Server
	Eventually(c.t, fmt.Sprintf("shard %d has a master", shard), settleTime, func() bool {
		nodes := c.agreed(shard)
		if len(nodes) == 0 || nodes[0] == old || !nodes[0].Running() {
			return false
		}
		master = nodes[0]
		return true
	})
	return master
}

// Replicas returns the running replicas of a shard.
func (c *Cluster) Replicas(shard int) []*Server {
	c.t.Helper()
	c.Master(shard)
	var list []*Server
	for _, n := range c.agreed(shard)[1:] {
		if n.Running() {
			list = append(list, n)
		}
	}
	return list
}

// Failover promotes a replica to master of its shard with CLUSTER FAILOVER, waits until
// all nodes know it, and returns the new master.
func (c *Cluster) Failover(shard int) *Server {
	c.t.Helper()
	c.Settle()
	old := c.Master(shard)
	replicas := c.Replicas(shard)
	if len(replicas) == 0 {
		c.t.Fatalf("redistest: failover of shard %d: it has no replica that runs", shard)
	}
	do(c.t, replicas[0], "CLUSTER", "FAILOVER")
	master := c.NextMaster(shard, old)
	c.Settle()
	return master
}

// Settle waits until all running nodes say that the cluster is whole, agree on
// its shape, and all replicas that run have their link up.
func (c *Cluster) Settle() {
	c.t.Helper()
	Eventually(c.t, "the cluster has settled", settleTime, func() bool {
		known := 0
		for i := range c.shards {
			nodes := c.agreed(i)
			if len(nodes) == 0 || !nodes[0].Running() {
				return false
			}
			for _, n := range nodes {
				if n.Running() {
					known++
				}
			}
		}
		for _, n := range c.nodes {
			if !n.Running() {
				continue
			}
			known--
			if !strings.Contains(do(c.t, n, "CLUSTER", "INFO").(string), "cluster_state:ok") || !linked(c.t, n) {
				return false
			}
		}
		return known == 0 // each running node has its place
	})
}

// agreed is a shard's nodes, the master first, if all running nodes report the
// same; else nil.
func (c *Cluster) agreed(shard int) []*Server {
	c.t.Helper()
	var agreed []*Server
	said := ""
	for _, n := range c.nodes {
		if !n.Running() {
			continue
		}
		//lint:ignore SA1019 it is what go-redis's cluster client goes by
		shape, err := n.Admin().ClusterSlots(context.Background()).Result()
		if err != nil {
			c.t.Fatalf("redistest: CLUSTER SLOTS on %s: %v", n.addr, err)
		}
		var nodes []*Server
		members := map[string]bool{}
		for _, part := range shape {
			if part.Start != c.first(shard) || len(part.Nodes) == 0 {
				continue
			}
			for _, m := range part.Nodes {
				if s := byAddr(c.nodes, m.Addr); s != nil {
					nodes = append(nodes, s)
					members[s.addr] = true
				}
			}
		}
		if len(nodes) == 0 {
			return nil
		}
		// The replicas' order is each node's own.
		now := fmt.Sprint(nodes[0].addr, members)
		if said != "" && said != now {
			return nil
		}
		said, agreed = now, nodes
	}
	return agreed
}

func (c *Cluster) anybody() *Server {
	c.t.Helper()
	for _, n := range c.nodes {
		if n.Running() {
			return n
		}
	}
	c.t.Fatal("redistest: no node of the cluster is running")
	return nil
}

// linked reports whether a server is a master, or a replica with its link up.
func linked(t testing.TB, s *Server) bool {
	t.Helper()
	info, err := s.Admin().Info(context.Background(), "replication").Result()
	if err != nil {
		t.Fatalf("redistest: INFO on %s: %v", s.addr, err)
	}
	return strings.Contains(info, "role:master") || strings.Contains(info, "master_link_status:up")
}

func byAddr(list []*Server, addr string) *Server {
	for _, s := range list {
		if s.addr == addr {
			return s
		}
	}
	return nil
}

func addrs(list []*Server) []string {
	a := make([]string, len(list))
	for i, s := range list {
		a[i] = s.addr
	}
	return a
}

func do(t testing.TB, s *Server, args ...any) any {
	t.Helper()
	v, err := s.Admin().Do(context.Background(), args...).Result()
	if err != nil {
		t.Fatalf("redistest: %v on %s: %v", args, s.addr, err)
	}
	return v
}
