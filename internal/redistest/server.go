package redistest

import (
	"crypto/tls"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// judgeName is the client name of the connections of Admin. ClientList omits them.
const judgeName = "judge"

// Server is a server process of one test. Safe for concurrent use.
type Server struct {
	t        testing.TB
	proc     *process
	addr     string
	admin    string
	password string
	bus      string // the port of the cluster bus
	tls      *tls.Config

	judgeOnce sync.Once
	judge     *redis.Client
}

// Start starts a private redis-server for this test and ends it with the test.
// args are further flags of redis-server ("--maxclients", "20"); they win over
// our own. Without a redis-server the test skips, or fails with CI=true.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return startServer(t, Binary(t, "redis-server"), nil, args)
}

// StartValkey is Start with valkey-server.
func StartValkey(t testing.TB, args ...string) *Server {
	t.Helper()
	return startServer(t, Binary(t, "valkey-server"), nil, args)
}

// StartTLS starts a server that speaks TLS at Addr, with a certificate of an
// authority made for this test, and plain text at AdminAddr.
func StartTLS(t testing.TB, args ...string) *Server {
	t.Helper()
	bin := Binary(t, "redis-server")
	ca, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	return startServer(t, bin, ca, args)
}

func startServer(t testing.TB, bin string, ca *authority, args []string) *Server {
	t.Helper()
	s, err := launch(bin, ca, args)
	if err != nil {
		t.Fatal(err)
	}
	s.t = t
	t.Cleanup(s.end)
	return s
}

func launch(bin string, ca *authority, args []string) (*Server, error) {
	return onFreePorts(func(ports []int) (*Server, error) { return launchOn(ports, bin, ca, args) })
}

// onFreePorts starts a server on free ports, on other ones when somebody else
// was quicker to take them.
func onFreePorts(start func(ports []int) (*Server, error)) (*Server, error) {
	for try := 1; ; try++ {
		ports, err := freePorts(3)
		if err != nil {
			return nil, err
		}
		s, err := start(ports)
		if err == nil || !errors.Is(err, errPortTaken) || try == portTries {
			return s, err
		}
	}
}

func launchOn(ports []int, bin string, ca *authority, args []string) (*Server, error) {
	proc, err := newProcess(bin)
	if err != nil {
		return nil, err
	}
	s := &Server{proc: proc, addr: addrOf(ports[0]), admin: addrOf(ports[0])}
	proc.args = []string{
		"--bind", host, "--port", strconv.Itoa(ports[0]),
		"--unixsocket", proc.unix(), "--logfile", proc.logFile(), "--dir", proc.dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no",
	}
	for i, a := range args {
		switch {
		case a == "--cluster-enabled":
			// The bus is otherwise at port+10000, in the range of outgoing connections.
			s.bus = strconv.Itoa(ports[2])
			proc.args = append(proc.args, "--cluster-port", s.bus)
		case a == "--requirepass" && i+1 < len(args):
			s.password = args[i+1]
		}
	}
	if ca != nil {
		flags, err := ca.install(proc.dir)
		if err != nil {
			proc.remove()
			return nil, err
		}
		s.addr, s.tls = addrOf(ports[1]), ca.clientConfig()
		proc.args = append(proc.args, "--tls-port", strconv.Itoa(ports[1]))
		proc.args = append(proc.args, flags...)
	}
	proc.args = append(proc.args, args...)
	if err := proc.start(); err != nil {
		proc.remove()
		return nil, err
	}
	return s, nil
}

func (s *Server) end() {
	s.judgeOnce.Do(func() {}) // a later Admin finds nil, not a client nobody closes
	if s.judge != nil {
		s.judge.Close()
	}
	s.proc.remove()
}

// Addr is the server's host:port, the TLS one for StartTLS.
func (s *Server) Addr() string { return s.addr }

// AdminAddr is the host:port that speaks plain text.
func (s *Server) AdminAddr() string { return s.admin }

// Unix is the path of the server's Unix socket (plain text).
func (s *Server) Unix() string { return s.proc.unix() }

// TLSConfig is what a client needs to talk to Addr; nil without TLS. The
// server's name is fixed in it, so that it fits behind a Proxy too.
func (s *Server) TLSConfig() *tls.Config { return s.tls.Clone() }

// Options are new options for Addr: with TLS and the password of
// --requirepass where there are such.
func (s *Server) Options() *redis.Options {
	return &redis.Options{Addr: s.addr, Password: s.password, TLSConfig: s.TLSConfig()}
}

// Admin returns a bare client for AdminAddr, for what a test checks on the server. It is closed
// at the end of the test, and ClientList omits its connections. The first use dials: do that
// before the server is full.
func (s *Server) Admin() *redis.Client {
	s.judgeOnce.Do(func() {
		s.judge = redis.NewClient(&redis.Options{
			Addr:            s.admin,
			Password:        s.password,
			ClientName:      judgeName,
			Protocol:        2,
			PoolSize:        2,
			DisableIdentity: true,
			ReadTimeout:     10 * time.Second,
			DialTimeout:     2 * time.Second,
			MaxRetries:      3,
			DialerRetries:   1,
			MaxRetryBackoff: 50 * time.Millisecond,
			ConnMaxIdleTime: -1,
			MaintNotificationsConfig: &maintnotifications.Config{
				Mode: maintnotifications.ModeDisabled,
			},
		})
	})
	return s.judge
}

// Running reports whether the server is neither killed nor paused by us.
func (s *Server) Running() bool { return s.proc.running() }

// Kill ends the server as a crash would (SIGKILL) and returns when it is gone.
func (s *Server) Kill() { s.proc.kill() }

// Restart starts the server again on the same ports with the same flags, and
// returns when it answers. A server that still runs is killed first.
func (s *Server) Restart() {
	s.t.Helper()
	s.proc.kill()
	var err error
	for range portTries {
		if err = s.proc.start(); !errors.Is(err, errPortTaken) {
			break
		}
		time.Sleep(200 * time.Millisecond) // somebody's for a moment; they are ours
	}
	if err != nil {
		s.t.Fatalf("restart on %s: %v", s.addr, err)
	}
}

// Pause stops the server (SIGSTOP): the kernel still accepts connections and
// bytes for it, and nothing answers.
func (s *Server) Pause() {
	s.t.Helper()
	if err := s.proc.stop(); err != nil {
		s.t.Fatal(err)
	}
}

// Resume lets a paused server go on (SIGCONT).
func (s *Server) Resume() {
	s.t.Helper()
	if err := s.proc.cont(); err != nil {
		s.t.Fatal(err)
	}
}
