package conntrack_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// Every idle connection is refused at the checkout, so go-redis dials within an Acquire that did
// not expect that, and the server accepts and says nothing.
func TestAnAcquireThatHasToDialAfterAllEndsWithItsCtx(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	for _, x := range []struct {
		name  string
		plain bool // on a Conn that is made for a lease
	}{{"Conn of the client", false}, {"Conn of a lease", true}} {
		t.Run(x.name, func(t *testing.T) {
			p.Stall(false)
			opt := s.Options()
			opt.Addr, opt.PoolSize, opt.PipelinePoolSize = p.Addr(), 4, -1
			opt.ReadTimeout, opt.WriteTimeout = time.Minute, time.Minute
			r := newRig(t, opt, conntrack.Config{})
			r.fill(t, 2)
			p.Stall(true)
			for _, c := range r.conns() {
				c.Evict(hooks.ReasonReset)
			}
			conn := r.Conn()
			if x.plain {
				var plain bool
				if conn, plain = r.node.Conn(r.Client); !plain {
					t.Fatal("the lease has a Conn with hooks")
				}
			}
			ctx, cancel := context.WithTimeout(bg, 50*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, err := r.node.Acquire(ctx, conn, nil)
			if took := time.Since(start); took > soon {
				t.Errorf("it took %v", took)
			}
			var ce *hooks.ConnError
			if !errors.As(err, &ce) || !ce.Handshake || !ce.Self || !errors.Is(attempt.Reveal(err), context.DeadlineExceeded) {
				t.Errorf("the error is %v", err)
			}
			if h := r.node.Health(); h != hooks.Healthy {
				t.Errorf("the caller's own haste makes the node %v", h)
			}
			redistest.Eventually(t, "no connection is left", soon, func() bool { return len(r.conns()) == 0 })
		})
	}
}

// ... and a ctx that ends later, when the connection is known to others, leaves it alone.
func TestACtxEndsNoConnectionWhoseHandshakeIsOver(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	opt.PipelinePoolSize = -1
	r := newRig(t, opt, conntrack.Config{})
	r.fill(t, 1)
	r.only(t).Evict(hooks.ReasonReset)
	ctx, cancel := context.WithCancel(bg)
	conn := r.Conn()
	if _, err := r.node.Acquire(ctx, conn, nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := conn.Ping(bg).Err(); err != nil {
		t.Error(err)
	}
	_ = conn.Close()
	if err := r.Ping(bg).Err(); err != nil {
		t.Error(err)
	}
	if dials, _ := r.node.Dials(); dials != 2 {
		t.Errorf("%d dials, want 2", dials)
	}
}
