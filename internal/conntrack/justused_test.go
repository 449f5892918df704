package conntrack_test

import (
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// checkedSocket counts the checks at a socket.
type checkedSocket struct {
	net.Conn
	n *atomic.Int64
}

func (c checkedSocket) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.Conn.(syscall.Conn).SyscallConn()
	return countedRaw{raw, c.n}, err
}

type countedRaw struct {
	syscall.RawConn
	n *atomic.Int64
}

func (r countedRaw) Control(f func(uintptr)) error {
	r.n.Add(1)
	return r.RawConn.Control(f)
}

// The check at a checkout is skipped for what was used a moment ago, but not
// before a node has gone without failures for a while, and not after a connection failed.
func TestWhatWasUsedAMomentAgoIsNotCheckedOnANodeWithoutFailures(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize, opt.PipelinePoolSize = 2, -1
	var checks atomic.Int64
	dial := redis.NewDialer(opt)
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		return checkedSocket{c, &checks}, err
	}
	r := newRig(t, opt, conntrack.Config{})
	r.Ping(bg)

	command := func() {
		t.Helper()
		if err := r.Ping(bg).Err(); err != nil {
			t.Fatal(err)
		}
	}
	lease := func() {
		t.Helper()
		conn := r.Conn()
		defer conn.Close()
		if _, err := r.node.Acquire(bg, conn, nil); err != nil {
			t.Fatal(err)
		}
	}
	looksIn := func(take func()) bool {
		t.Helper()
		before := checks.Load()
		take()
		return checks.Load() > before
	}
	every := func(when string) {
		t.Helper()
		for range 20 {
			if !looksIn(command) {
				t.Fatalf("%s a checkout did not look at its connection", when)
			}
		}
	}
	seldom := func(when string, take func()) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
			command()
			if !looksIn(take) {
				return
			}
		}
		t.Fatalf("%s all checkouts look", when)
	}
	every("on a new node")
	r.node.ForgetFailures()
	seldom("on a node without failures", command)
	seldom("of leases on a node without failures", lease)

	for name, take := range map[string]func(){"given out": command, "leased": lease} {
		time.Sleep(2 * time.Millisecond)
		if !looksIn(take) {
			t.Errorf("one that had been idle was %s without a look", name)
		}
	}

	s.KillClients(t)
	time.Sleep(5 * time.Millisecond)
	if err := r.Ping(bg).Err(); err != nil {
		t.Fatalf("the idle connections were killed, and a command met one: %v", err)
	}
	every("after a connection was found dead")
}
