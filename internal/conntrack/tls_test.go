package conntrack_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// eachTLS runs f for TLS 1.2 and 1.3, RESP2 and RESP3, with the client-side cache and without.
func eachTLS(t *testing.T, f func(t *testing.T, s *redistest.Server, opt *redis.Options)) {
	s := redistest.StartTLS(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, mode := range []string{"RESP2", "RESP3", "cached"} {
			t.Run(fmt.Sprintf("%s %s", tls.VersionName(version), mode), func(t *testing.T) {
				opt := s.Options()
				opt.TLSConfig.MinVersion, opt.TLSConfig.MaxVersion = version, version
				switch mode {
				case "RESP2":
					opt.Protocol = 2
				case "cached":
					opt.ClientSideCacheConfig = &redis.ClientSideCacheConfig{}
				}
				f(t, s, opt)
			})
		}
	}
}

func TestADeadTLSConnectionIsRecognisedAtACheckout(t *testing.T) {
	eachTLS(t, func(t *testing.T, s *redistest.Server, opt *redis.Options) {
		for _, how := range waysToDie(opt) {
			r := newRig(t, opt, conntrack.Config{})
			r.fill(t, 3)
			killAll(t, s, how)
			waitPending(t, r)
			for range 3 {
				err := r.Incr(bg, "n").Err()
				if _, ok := conntrack.RefusedFor(err); ok && opt.ClientSideCacheConfig != nil {
					continue // the guard is the first write there: unsent, repeated by package retry
				}
				if err != nil {
					t.Errorf("%s: a caller met a dead connection: %v", how, err)
				}
			}
			_ = r.Close()
		}
	})
}

func TestADeadTLSConnectionIsRecognisedByAVisit(t *testing.T) {
	eachTLS(t, func(t *testing.T, s *redistest.Server, opt *redis.Options) {
		for _, how := range waysToDie(opt) {
			r := newRig(t, opt, conntrack.Config{})
			r.fill(t, 3)
			before, _ := r.node.Dials()
			ids := r.conns()
			killAll(t, s, how)
			waitPending(t, r)
			for range 20 {
				if r.tracker.Len() == 0 {
					break
				}
				if met, removed, err := r.visit(hooks.PoolMain); met != nil && !removed {
					t.Errorf("%s: a visit kept dead connection %d (%v)", how, met.ID(), err)
				}
			}
			for _, c := range ids {
				r.events.wantClosed(t, c.ID(), hooks.ReasonError)
			}
			if after, _ := r.node.Dials(); after != before {
				t.Errorf("%s: visits of dead connections dialed %d times", how, after-before)
			}
			_ = r.Close()
		}
	})
}

// waysToDie: a server's timeout takes it two seconds, so it is shown once per version of TLS.
func waysToDie(opt *redis.Options) []string {
	if opt.Protocol != 2 && opt.ClientSideCacheConfig == nil {
		return []string{"CLIENT KILL", "timeout"}
	}
	return []string{"CLIENT KILL"}
}

// killAll has the server end all idle connections in one of two ways.
func killAll(t *testing.T, s *redistest.Server, how string) {
	t.Helper()
	if how == "timeout" {
		if err := s.Admin().ConfigSet(bg, "timeout", "1").Err(); err != nil {
			t.Fatal(err)
		}
		redistest.Eventually(t, "the server's timeout ends idle connections", soon, func() bool { return s.NumClients(t) == 0 })
		s.Admin().ConfigSet(bg, "timeout", "0")
		return
	}
	s.KillClients(t)
	waitDead(t, s)
}

// waitPending returns when what the server said on closing has arrived.
func waitPending(t *testing.T, r *rig) {
	t.Helper()
	redistest.Eventually(t, "the server's goodbye has arrived on every connection", soon, func() bool {
		for _, c := range r.conns() {
			if alive, pending := c.Peek(); alive && !pending {
				return false
			}
		}
		return true
	})
}

func TestAHealthyTLSConnectionIsNotTakenForDead(t *testing.T) {
	eachTLS(t, func(t *testing.T, s *redistest.Server, opt *redis.Options) {
		r := newRig(t, opt, conntrack.Config{})
		r.fill(t, 3)
		old := r.conns()
		for range 12 {
			if _, removed, err := r.visit(hooks.PoolMain); removed {
				t.Fatalf("a visit removed a healthy connection: %v", err)
			}
			if err := r.Ping(bg).Err(); err != nil {
				t.Fatal(err)
			}
			conn, c := r.lease(t)
			if err := conn.Ping(bg).Err(); err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
			c.SetLeased(false)
		}
		if now := r.conns(); len(now) != 3 || now[0] != old[0] || now[2] != old[2] {
			t.Errorf("healthy connections were replaced: %v", r.tracker.CloseReasons())
		}
	})
}

func TestMaxAgeEndsTLSConnectionsUnderLoad(t *testing.T) {
	s := redistest.StartTLS(t)
	r := newRig(t, s.Options(), conntrack.Config{})
	r.fill(t, 1)
	old := r.only(t).ID()
	r.tracker.SetMaxAge(time.Millisecond, 0)
	redistest.Eventually(t, "a connection past its max age is replaced at a checkout", soon, func() bool {
		if err := r.Ping(bg).Err(); err != nil {
			t.Fatal(err)
		}
		return r.conns()[0].ID() != old
	})
	r.events.wantClosed(t, old, hooks.ReasonAge)
}

// go-redis's own TLS dial does not obey its ctx.
func TestATLSDialObeysItsCtxAndTheDialTimeout(t *testing.T) {
	addr := redistest.Mute(t)
	s := redistest.StartTLS(t) // for a certificate
	opt := s.Options()
	opt.Addr = addr
	opt.DialTimeout = 200 * time.Millisecond
	opt.PoolTimeout = soon
	r := newRig(t, opt, conntrack.Config{})
	start := time.Now()
	var err error
	hang(t, "a command over a TLS dial to a silent listener", func() { err = r.Ping(bg).Err() })
	if !errors.Is(err, context.DeadlineExceeded) && !os.IsTimeout(err) {
		t.Errorf("got %v, want a timeout", err)
	}
	opt = s.Options()
	opt.Addr = addr
	opt.DialTimeout = 200 * time.Millisecond
	other := newRig(t, opt, conntrack.Config{}) // the first one knows that the node is unreachable
	hang(t, "a Subscribe over a TLS dial to a silent listener", func() {
		ps := other.Subscribe(bg)
		defer ps.Close()
		err = ps.Subscribe(bg, "x")
	})
	if err == nil {
		t.Error("Subscribe at a silent listener succeeded")
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("two dials of 200 ms took %v", d)
	}

	ctx, cancel := context.WithCancel(bg)
	dialed := make(chan error, 1)
	opt2 := s.Options()
	opt2.Addr = redistest.Mute(t)
	conntrack.NewTracker(conntrack.Config{}).NewNode(opt2)
	go func() {
		c, err := opt2.Dialer(ctx, "tcp", opt2.Addr)
		if err == nil {
			_, err = c.Write([]byte("x"))
			_ = c.Close()
		}
		dialed <- err
	}()
	cancel()
	hang(t, "a TLS dial whose ctx was cancelled", func() {
		if err := <-dialed; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
}

// What waits on a TLS socket may be a push frame: that is for the server's
// answer to sort out, not a sign of death.
func TestAPushThatWaitsOnATLSConnectionIsDeliveredByAVisit(t *testing.T) {
	eachTLS(t, func(t *testing.T, s *redistest.Server, opt *redis.Options) {
		if opt.Protocol == 2 || opt.ClientSideCacheConfig != nil {
			return // no pushes, or the drainer of the cache reads them first
		}
		r, got := trackedRig(t, opt)
		for i := range 5 {
			key := redistest.UniqueKey(t, fmt.Sprint(i))
			if err := r.Get(bg, key).Err(); err != redis.Nil {
				t.Fatal(err)
			}
			c := r.only(t)
			if err := s.Admin().Set(bg, key, "x", 0).Err(); err != nil {
				t.Fatal(err)
			}
			redistest.Eventually(t, "the push waits on the socket", soon, func() bool {
				alive, pending := c.Peek()
				if !alive {
					t.Fatal("a connection with a push on its socket is taken for dead")
				}
				return pending
			})
			if _, removed, err := r.visit(hooks.PoolMain); removed || err != nil {
				t.Errorf("a visit of a connection with a push on its socket: removed %v, %v", removed, err)
			}
			if !got.have(key) || r.only(t) != c {
				t.Errorf("the visit did not deliver the push: %v", got.keys)
			}
		}
	})
}
