package conntrack_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// The visit, on every kind of connection there is.

func flavours(t *testing.T, f func(t *testing.T, s *redistest.Server, opt *redis.Options)) {
	plain := redistest.Start(t)
	secure := redistest.StartTLS(t)
	for _, x := range []struct {
		name string
		s    *redistest.Server
		set  func(*redis.Options)
	}{
		{"RESP2", plain, func(o *redis.Options) { o.Protocol = 2 }},
		{"RESP3", plain, func(o *redis.Options) {}},
		{"cached", plain, func(o *redis.Options) { o.ClientSideCacheConfig = &redis.ClientSideCacheConfig{} }},
		{"unix", plain, func(o *redis.Options) { o.Network, o.Addr = "unix", plain.Unix() }},
		{"TLS RESP2", secure, func(o *redis.Options) { o.Protocol = 2 }},
		{"TLS RESP3", secure, func(o *redis.Options) {}},
		{"TLS cached", secure, func(o *redis.Options) { o.ClientSideCacheConfig = &redis.ClientSideCacheConfig{} }},
		{"no read deadline", plain, func(o *redis.Options) { o.ReadTimeout, o.WriteTimeout = -2, -2 }},
		{"no timeout", plain, func(o *redis.Options) { o.ReadTimeout, o.WriteTimeout = -1, -1 }},
		{"small buffers", plain, func(o *redis.Options) { o.WriteBufferSize, o.PipelineWriteBufferSize = 16, 16 }},
		{"ctx timeouts", plain, func(o *redis.Options) { o.ContextTimeoutEnabled = true }},
	} {
		t.Run(x.name, func(t *testing.T) {
			opt := x.s.Options()
			x.set(opt)
			f(t, x.s, opt)
		})
	}
}

func TestAVisitReachesEveryIdleConnectionWithoutNetworkTraffic(t *testing.T) {
	flavours(t, func(t *testing.T, s *redistest.Server, opt *redis.Options) {
		r := newRig(t, opt, conntrack.Config{})
		const n = 8
		r.fill(t, n)
		if _, err := r.Pipelined(bg, func(p redis.Pipeliner) error { p.Ping(bg); return nil }); err != nil {
			t.Fatal(err)
		}
		var before []hooks.ConnInfo
		redistest.Eventually(t, "all replies of the handshakes have been read", soon, func() bool {
			before = r.tracker.Conns()
			for _, i := range before {
				if i.State != hooks.StateIdle {
					return false
				}
			}
			return true
		})
		met := map[uint64]bool{}
		cached, limit := opt.ClientSideCacheConfig != nil, time.Now().Add(soon)
		visits := 0
		for ; len(met) < n && (visits < n || cached && time.Now().Before(limit)); visits++ {
			if visits >= n {
				time.Sleep(time.Millisecond) // the drainer of the cache disturbs the order
			}
			c, removed, err := r.visit(hooks.PoolMain)
			if errors.Is(err, conntrack.ErrWouldWait) && cached {
				continue
			}
			if err != nil || removed {
				t.Fatalf("Visit: %v, removed %v", err, removed)
			}
			met[c.ID()] = true
		}
		if len(met) != n {
			t.Errorf("%d visits of %d idle connections reached %d of them", visits, n, len(met))
		}
		c, removed, err := r.visit(hooks.PoolPipeline)
		if err != nil || removed || c.Info().Pool != hooks.PoolPipeline {
			t.Errorf("a visit of the pipeline pool: %v, %v, %v", c, removed, err)
		}
		for i, after := range r.tracker.Conns() {
			if i < len(before) && (after.BytesOut != before[i].BytesOut) {
				t.Errorf("visits wrote %d bytes to connection %d", after.BytesOut-before[i].BytesOut, after.ID)
			}
		}
		// Everything still works, on every connection.
		for i := range 3 * n {
			if got, err := r.Echo(bg, i).Result(); err != nil || got != fmt.Sprint(i) {
				t.Fatalf("after visits ECHO %d gives %q, %v", i, got, err)
			}
		}
	})
}

func TestAVisitEndsAnEvictedConnectionAndLeavesTheOthers(t *testing.T) {
	flavours(t, func(t *testing.T, s *redistest.Server, opt *redis.Options) {
		r := newRig(t, opt, conntrack.Config{})
		r.fill(t, 4)
		all := r.conns()
		dialsBefore, _ := r.node.Dials()
		doomed := all[2]
		doomed.Evict(hooks.ReasonReset)
		gone := 0
		for range 40 {
			if r.tracker.Len() < 4 {
				break
			}
			_, removed, err := r.visit(hooks.PoolMain)
			if removed {
				gone++
				if why, ok := conntrack.RefusedFor(err); !ok || why != hooks.ReasonReset {
					t.Errorf("a visit ended the connection with %v, want a refusal for %q", err, hooks.ReasonReset)
				}
			} else if err != nil && !errors.Is(err, conntrack.ErrWouldWait) {
				t.Fatal(err)
			}
		}
		r.events.wantClosed(t, doomed.ID(), hooks.ReasonReset)
		if gone != 1 || r.tracker.Len() != 3 {
			t.Errorf("visits removed %d connections and %d remain, want 1 and 3", gone, r.tracker.Len())
		}
		if st := r.PoolStats(); st.TotalConns != 3 {
			t.Errorf("the pool counts %d connections, want 3", st.TotalConns)
		}
		if dials, _ := r.node.Dials(); dials != dialsBefore {
			t.Errorf("ending one connection dialed %d new ones", dials-dialsBefore)
		}
		if err := r.Ping(bg).Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestASweepOfEvictedConnectionsDialsNothing(t *testing.T) {
	s := redistest.Start(t)
	for _, how := range []string{"evicted", "dead"} {
		opt := s.Options()
		opt.PoolSize = 30
		r := newRig(t, opt, conntrack.Config{})
		r.fill(t, 30)
		if how == "evicted" {
			for _, c := range r.conns() {
				c.Evict(hooks.ReasonReadOnly)
			}
		} else {
			s.KillClients(t)
			waitDead(t, s)
		}
		before, _ := r.node.Dials()
		removed := 0
		for range 30 {
			if _, gone, _ := r.visit(hooks.PoolMain); gone {
				removed++
			}
		}
		after, _ := r.node.Dials()
		if removed != 30 || after != before {
			t.Errorf("30 %s connections: %d removed with %d dials, want 30 with none", how, removed, after-before)
		}
	}
}

// waitDead returns when the server has no client left, which is after its FINs.
func waitDead(t testing.TB, s *redistest.Server) {
	t.Helper()
	redistest.Eventually(t, "the server has closed all connections", soon, func() bool { return s.NumClients(t) == 0 })
}

// A caller that gets an evicted connection during a sweep is refused,
// unsent, instead of using it.
func TestACommandDuringASweepNeverUsesAnEvictedConnection(t *testing.T) {
	s := redistest.Start(t)
	r := newRig(t, s.Options(), conntrack.Config{})
	r.fill(t, 1)
	c := r.only(t)
	c.Evict(hooks.ReasonReset)
	end := r.node.Sweep()
	err := r.Incr(bg, "n").Err()
	end()
	why, refused := conntrack.RefusedFor(err)
	if !refused || why != hooks.ReasonReset {
		t.Errorf("INCR on an evicted connection during a sweep: %v, want a refusal", err)
	}
	var u interface{ Unsent() bool }
	if !errors.As(err, &u) || !u.Unsent() {
		t.Errorf("the refusal %v does not say that nothing was sent", err)
	}
	if n := s.Admin().Exists(bg, "n").Val(); n != 0 {
		t.Error("the refused INCR was executed")
	}
	r.events.wantClosed(t, c.ID(), hooks.ReasonReset)
	if err := r.Incr(bg, "n").Err(); err != nil {
		t.Error(err)
	}
}

// Without a sweep the caller does not notice at all.
func TestTheGuardReplacesAnEvictedConnectionUnnoticed(t *testing.T) {
	flavours(t, func(t *testing.T, s *redistest.Server, opt *redis.Options) {
		if opt.TLSConfig != nil && opt.ClientSideCacheConfig != nil {
			return // here the guard is the first write, which fails unsent and is repeated by package retry
		}
		r := newRig(t, opt, conntrack.Config{})
		r.fill(t, 1)
		c := r.only(t)
		c.Evict(hooks.ReasonReset)
		if err := r.Ping(bg).Err(); err != nil {
			t.Errorf("a caller who came upon an evicted connection: %v", err)
		}
		r.events.wantClosed(t, c.ID(), hooks.ReasonReset)
		if r.tracker.Len() != 1 {
			t.Errorf("%d connections are open, want 1", r.tracker.Len())
		}
	})
}

func TestTheGuardOverTLSWithACacheIsTheFirstWriteAndFailsUnsent(t *testing.T) {
	s := redistest.StartTLS(t)
	opt := s.Options()
	opt.ClientSideCacheConfig = &redis.ClientSideCacheConfig{}
	r := newRig(t, opt, conntrack.Config{})
	r.fill(t, 1)
	c := r.only(t)
	c.Evict(hooks.ReasonReset)
	err := r.Incr(bg, "n").Err()
	if why, ok := conntrack.RefusedFor(err); !ok || why != hooks.ReasonReset {
		t.Errorf("got %v, want a refusal for %q", err, hooks.ReasonReset)
	}
	r.events.wantClosed(t, c.ID(), hooks.ReasonReset)
	if n, err := r.Incr(bg, "n").Result(); n != 1 || err != nil {
		t.Errorf("INCR afterwards: %d, %v, want 1", n, err)
	}
}

func TestAnAcquireTakesTheConnectionForRealAndKnowsIt(t *testing.T) {
	flavours(t, func(t *testing.T, s *redistest.Server, opt *redis.Options) {
		opt.PoolSize = 3
		r := newRig(t, opt, conntrack.Config{})
		r.fill(t, 3)
		seen := map[uint64]bool{}
		var held []*redis.Conn
		for range 3 {
			conn, c := r.lease(t)
			held = append(held, conn)
			if seen[c.ID()] {
				t.Errorf("connection %d was leased twice", c.ID())
			}
			seen[c.ID()] = true
			id, err := conn.ClientID(bg).Result()
			if err != nil {
				t.Fatal(err)
			}
			var addr string
			for _, i := range s.ClientList(t) {
				if i.ID == id {
					addr = i.Addr
				}
			}
			if got := c.Info().Local; opt.Network != "unix" && got != addr {
				t.Errorf("the lease says that it holds %s, the server that its commands come from %s", got, addr)
			}
		}
		if st := r.PoolStats(); st.IdleConns != 0 || st.TotalConns != 3 {
			t.Errorf("three leases of three: %d idle of %d", st.IdleConns, st.TotalConns)
		}
		for _, c := range held {
			_ = c.Close()
		}
	})
}

func TestAVisitValidatesWithAPlainPing(t *testing.T) {
	s := redistest.Start(t)
	for _, protocol := range []int{2, 3} {
		p := redistest.NewProxy(t, s.Addr())
		var withArg, pings atomic.Int64
		p.OnRequest(func(_ int, b []byte) redistest.Action {
			low := bytes.ToLower(b)
			if bytes.Contains(low, []byte("*2\r\n$4\r\nping")) {
				withArg.Add(1)
				return redistest.CutBefore // such proxies exist
			}
			if bytes.Equal(low, []byte("*1\r\n$4\r\nping\r\n")) {
				pings.Add(1)
			}
			return redistest.Forward
		})
		opt := s.Options()
		opt.Addr = p.Addr()
		opt.Protocol = protocol
		r := newRig(t, opt, conntrack.Config{})
		r.fill(t, 3)
		pings.Store(0)
		for _, c := range r.conns() {
			c.Validate()
		}
		for range 3 {
			if _, removed, err := r.visit(hooks.PoolMain); removed || err != nil {
				t.Errorf("RESP%d: a PING through a proxy that hangs up on PING with an argument: removed %v, %v", protocol, removed, err)
			}
		}
		r.tracker.SetValidateAfter(0)
		conn, _ := r.lease(t)
		_ = conn.Close()
		if withArg.Load() > 0 || pings.Load() != 4 {
			t.Errorf("RESP%d: 3 validating visits and a validated lease sent %d plain PINGs and %d with an argument, want 4 and 0", protocol, pings.Load(), withArg.Load())
		}
		// An order to validate is carried out once.
		for range 3 {
			_, _, _ = r.visit(hooks.PoolMain)
		}
		if pings.Load() != 4 {
			t.Errorf("RESP%d: visits without an order to validate sent PINGs", protocol)
		}
	}
}

func TestTheTokenNeverLeavesTheProcess(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	var leaked atomic.Int64
	p.OnRequest(func(_ int, b []byte) redistest.Action {
		if bytes.Contains(b, conntrack.VisitHead()[20:]) {
			leaked.Add(1)
		}
		return redistest.Forward
	})
	opt := s.Options()
	opt.Addr = p.Addr()
	opt.WriteBufferSize, opt.PipelineWriteBufferSize = 16, 1 // would cut a visit in pieces
	r := newRig(t, opt, conntrack.Config{})
	r.fill(t, 3)
	_, _ = r.Pipelined(bg, func(p redis.Pipeliner) error { p.Ping(bg); return nil })
	ps := r.Subscribe(bg, "x")
	defer ps.Close()
	if _, err := ps.Receive(bg); err != nil {
		t.Fatal(err)
	}
	for i, c := range r.conns() {
		if i%2 == 0 {
			c.Validate()
		}
	}
	for range 6 {
		_, _, _ = r.visit(hooks.PoolMain)
		_, _, _ = r.visit(hooks.PoolPipeline)
	}
	conn, c := r.lease(t)
	conn.Do(bg, "MULTI")
	if err := conntrack.Undo(conn, c); err != nil {
		t.Error(err)
	}
	conntrack.Discard(conn, c, hooks.ReasonDiscarded)
	_ = conn.Close()
	if n := leaked.Load(); n > 0 {
		t.Errorf("the token was sent to the server %d times", n)
	}
}

func TestAServerThatForbidsPingIsAlive(t *testing.T) {
	s := redistest.Start(t)
	if err := s.Admin().Do(bg, "ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-ping").Err(); err != nil {
		t.Fatal(err)
	}
	for _, protocol := range []int{2, 3} {
		opt := s.Options()
		opt.Username, opt.Password = "app", "pw"
		opt.Protocol = protocol
		r := newRig(t, opt, conntrack.Config{})
		for range 2 {
			if err := r.Set(bg, "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		c := r.only(t)
		c.Validate()
		if _, removed, err := r.visit(hooks.PoolMain); removed || err != nil {
			t.Errorf("RESP%d: a PING that gets NOPERM: removed %v, %v, want the connection kept", protocol, removed, err)
		}
		r.tracker.SetValidateAfter(0)
		conn := r.Conn()
		if _, err := r.node.Acquire(bg, conn, nil); err != nil {
			t.Errorf("RESP%d: a validated lease that gets NOPERM: %v", protocol, err)
		}
		if err := conn.Get(bg, "k").Err(); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
		if r.only(t) != c {
			t.Errorf("RESP%d: the connection was replaced", protocol)
		}
	}
}

func TestThePingOfAVisitToADeadPeerEndsTheConnectionWithinItsPatience(t *testing.T) {
	s := redistest.Start(t)
	for _, timeout := range []time.Duration{0, -1, -2} {
		p := redistest.NewProxy(t, s.Addr())
		opt := s.Options()
		opt.Addr = p.Addr()
		opt.ReadTimeout = timeout
		r := newRig(t, opt, conntrack.Config{ValidateTimeout: 100 * time.Millisecond})
		r.fill(t, 2)
		p.StallExisting()
		first := r.conns()[0]
		first.Validate()
		start := time.Now()
		hang(t, "a validating visit", func() {
			if _, removed, err := r.visit(hooks.PoolMain); !removed || err == nil {
				t.Errorf("ReadTimeout %v: a PING into a black hole: removed %v, %v", timeout, removed, err)
			}
		})
		r.tracker.SetValidateAfter(0)
		hang(t, "an Acquire that validates", func() {
			conn := r.Conn()
			defer conn.Close()
			if _, err := r.node.Acquire(bg, conn, nil); err == nil {
				t.Errorf("ReadTimeout %v: an Acquire validated a black hole", timeout)
			}
		})
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("ReadTimeout %v: two PINGs of 100 ms took %v", timeout, d)
		}
	}
}

// The PING of a visit must not leave its short deadline to the commands that follow.
func TestTheDeadlineOfAVisitsPingEndsWithIt(t *testing.T) {
	s := redistest.Start(t, "--enable-debug-command", "yes")
	for _, timeout := range []time.Duration{0, -1, -2} {
		opt := s.Options()
		opt.ReadTimeout = timeout
		r := newRig(t, opt, conntrack.Config{ValidateTimeout: 80 * time.Millisecond})
		r.fill(t, 1)
		r.tracker.SetValidateAfter(0)
		conn, _ := r.lease(t)
		// Longer than the PING may take.
		if err := conn.Do(bg, "DEBUG", "SLEEP", "0.2").Err(); err != nil {
			t.Errorf("ReadTimeout %v: a command of 200 ms after a PING of at most 80 ms: %v", timeout, err)
		}
		_ = conn.Close()
		r.only(t).Validate()
		if _, _, err := r.visit(hooks.PoolMain); err != nil {
			t.Error(err)
		}
		if err := r.Do(bg, "DEBUG", "SLEEP", "0.2").Err(); err != nil {
			t.Errorf("ReadTimeout %v: a command of 200 ms after a validating visit: %v", timeout, err)
		}
	}
}

func TestADiscardCostsOneConnectionEvenWithRetriesOn(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	opt.MaxRetries = 3
	opt.MinRetryBackoff, opt.MaxRetryBackoff = -1, -1
	r := newRig(t, opt, conntrack.Config{})
	r.fill(t, 5)
	for _, c := range r.conns() {
		c.EvictIdle(hooks.ReasonIdle)
	}
	_, removed, err := r.visit(hooks.PoolMain)
	if !removed || r.tracker.Len() != 4 {
		t.Errorf("one visit of five connections to be evicted left %d (%v)", r.tracker.Len(), err)
	}
	if errors.Is(err, io.EOF) || errors.Unwrap(err) != nil {
		t.Errorf("a refusal must be plain, got %#v", err)
	}
	var ne interface{ Timeout() bool }
	if errors.As(err, &ne) {
		t.Error("a refusal has Timeout(): go-redis would retry the visit")
	}
	if a, b := err.Error(), refusalText(t, r); a != b {
		t.Errorf("two refusals for one reason have different texts %q and %q: each is a metric label of its own", a, b)
	}
}

func refusalText(t *testing.T, r *rig) string {
	t.Helper()
	_, _, err := r.visit(hooks.PoolMain)
	if err == nil {
		t.Fatal("the second connection was not refused")
	}
	return err.Error()
}

// An idle connection that is to be evicted may still be used by a caller who comes first.
func TestARetiredConnectionStillServesCallers(t *testing.T) {
	s := redistest.Start(t)
	r := newRig(t, s.Options(), conntrack.Config{})
	r.fill(t, 1)
	c := r.only(t)
	c.EvictIdle(hooks.ReasonIdle)
	for range 3 {
		if err := r.Ping(bg).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if r.only(t) != c {
		t.Error("a caller ended one that is to be evicted when idle")
	}
	c.CancelOrder()
	if _, removed, err := r.visit(hooks.PoolMain); removed || err != nil {
		t.Errorf("a visit of a connection that was spared: removed %v, %v", removed, err)
	}
}

func TestAWriteBufferBelowTheLengthOfAVisitIsRaised(t *testing.T) {
	s := redistest.Start(t)
	for _, size := range []int{1, 16, 60, 61, 63} {
		opt := s.Options()
		opt.WriteBufferSize, opt.PipelineWriteBufferSize = size, size
		r := newRig(t, opt, conntrack.Config{})
		r.fill(t, 1)
		if err := r.Set(bg, "k", strings.Repeat("v", 1000), 0).Err(); err != nil {
			t.Fatal(err)
		}
		out := r.only(t).Info().BytesOut
		c, removed, err := r.visit(hooks.PoolMain)
		if c == nil || removed || err != nil {
			t.Errorf("WriteBufferSize %d: Visit = %v, %v, %v", size, c, removed, err)
		}
		if r.only(t).Info().BytesOut != out {
			t.Errorf("WriteBufferSize %d: the visit was not recognised, its bytes were sent", size)
		}
		if err := r.Get(bg, "k").Err(); err != nil {
			t.Error(err)
		}
	}
}

func TestAMultiLeftOnAConnNeverReachesAnotherCaller(t *testing.T) {
	flavours(t, func(t *testing.T, s *redistest.Server, opt *redis.Options) {
		for _, left := range [][]any{{"MULTI"}, {"WATCH", "k"}, {"SELECT", 3}, {"CLIENT", "REPLY", "ON"}, {"multi"}} {
			for _, next := range []string{"command", "pipeline on the main pool", "lease", "visit"} {
				o := *opt
				o.PipelinePoolSize = -1 // pipelines use the main pool
				o.PoolSize = 1
				r := newRig(t, &o, conntrack.Config{})
				r.fill(t, 1)
				old := r.only(t).ID()
				if left[0] == "SELECT" && opt.ClientSideCacheConfig != nil {
					continue // go-redis refuses it
				}
				conn := r.Conn()
				if err := conn.Do(bg, left...).Err(); err != nil {
					t.Fatal(err)
				}
				_ = conn.Close()
				var err error
				var got string
				run := func() {
					switch next {
					case "command":
						got, err = r.Echo(bg, "mine").Result()
					case "lease":
						c := r.Conn()
						defer c.Close()
						if _, err = r.node.Acquire(bg, c, nil); err == nil {
							got, err = c.Echo(bg, "mine").Result()
						}
					case "visit":
						_, removed, _ := r.visit(hooks.PoolMain)
						if !removed {
							t.Errorf("a visit kept a connection after %v", left)
						}
						got, err = r.Echo(bg, "mine").Result()
					default:
						var e *redis.StringCmd
						_, err = r.Pipelined(bg, func(p redis.Pipeliner) error { e = p.Echo(bg, "mine"); return nil })
						got = e.Val()
					}
				}
				if run(); err != nil {
					if why, refused := conntrack.RefusedFor(err); !refused || why != hooks.ReasonSessionState {
						t.Fatalf("%s after %v: %v", next, left, err)
					}
					run() // the guard of TLS with a cache is the first write
				}
				if err != nil || got != "mine" {
					t.Errorf("%s after %v was left on a Conn: %q, %v", next, left, got, err)
				}
				r.events.wantClosed(t, old, hooks.ReasonSessionState)
			}
		}
	})
}

func TestTransactionsAndWatchLeaveAConnectionClean(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 1
	r := newRig(t, opt, conntrack.Config{})
	r.fill(t, 1)
	c := r.only(t)
	for range 3 {
		if err := r.Watch(bg, func(tx *redis.Tx) error {
			_, err := tx.TxPipelined(bg, func(p redis.Pipeliner) error { p.Set(bg, "k", 1, 0); return nil })
			return err
		}, "k"); err != nil {
			t.Fatal(err)
		}
		if err := r.Watch(bg, func(tx *redis.Tx) error { return tx.Get(bg, "k").Err() }, "k"); err != nil {
			t.Fatal(err)
		}
		conn := r.Conn()
		conn.Do(bg, "MULTI")
		conn.Do(bg, "DISCARD")
		_ = conn.Close()
	}
	if dirty, _ := c.HasSessionState(); dirty || r.only(t) != c {
		t.Error("the connection counts as dirty after transactions that were ended")
	}
}

func TestUndoEndsTransactionsAndWatches(t *testing.T) {
	s := redistest.Start(t)
	for _, left := range [][][]any{{{"MULTI"}}, {{"WATCH", "k"}}, {{"WATCH", "k"}, {"MULTI"}, {"SET", "k", "lost"}}} {
		r := newRig(t, s.Options(), conntrack.Config{})
		r.fill(t, 1)
		conn, c := r.lease(t)
		for _, cmd := range left {
			conn.Do(bg, cmd...)
		}
		if dirty, undoable := c.HasSessionState(); !dirty || !undoable {
			t.Errorf("after %v: dirty %v, undoable %v", left, dirty, undoable)
		}
		if err := conntrack.Undo(conn, c); err != nil {
			t.Errorf("undo of %v: %v", left, err)
		}
		if dirty, _ := c.HasSessionState(); dirty {
			t.Errorf("still dirty after the undo of %v", left)
		}
		_ = conn.Close()
		c.SetLeased(false)
		if got, err := r.Echo(bg, "mine").Result(); err != nil || got != "mine" || r.only(t) != c {
			t.Errorf("after the undo of %v: %q, %v", left, got, err)
		}
	}
	if n := s.Admin().Exists(bg, "k").Val(); n != 0 {
		t.Error("the undone transaction was executed")
	}
}

// A visit through a connection that was never dialed by us.
func TestAVisitThatIsNotRecognisedSaysSo(t *testing.T) {
	s := redistest.Start(t)
	r := newRig(t, s.Options(), conntrack.Config{})
	other, _ := bare(t, s.Options())
	conn := other.Conn()
	defer conn.Close()
	if _, err := r.node.Acquire(bg, conn, nil); err == nil || !strings.Contains(err.Error(), "not recognised") {
		t.Errorf("an Acquire on another client's Conn: %v", err)
	}
}

// A look for push frames on a connection in use sees the socket,
// whatever is ordered for it.
func TestOnlyACheckoutIsGuarded(t *testing.T) {
	for _, secure := range []bool{false, true} {
		s := redistest.Start(t)
		if secure {
			s = redistest.StartTLS(t)
		}
		opt := s.Options()
		r := newRig(t, opt, conntrack.Config{})
		nc, err := opt.Dialer(bg, "tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		r.only(t).Evict(hooks.ReasonReset)
		look := func() error {
			raw, err := nc.(syscall.Conn).SyscallConn()
			if err != nil {
				return err
			}
			seen := false
			if err := raw.Read(func(uintptr) bool { seen = true; return true }); err != nil {
				return err
			}
			if !seen {
				return errors.New("the look never reached the socket")
			}
			return nil
		}
		_ = nc.SetReadDeadline(time.Time{})
		if err := look(); err != nil {
			t.Errorf("TLS %v: a look at an evicted connection in use: %v, want the socket", secure, err)
		}
		_ = nc.SetDeadline(time.Time{})
		if err := look(); !refused(err) {
			t.Errorf("TLS %v: a checkout of an evicted connection: %v, want a refusal", secure, err)
		}
		if err := look(); err != nil {
			t.Errorf("TLS %v: a second look after the checkout: %v, want the socket", secure, err)
		}
		_ = nc.SetDeadline(time.Time{})
		_ = nc.SetDeadline(time.Now().Add(soon))
		if err := look(); err != nil {
			t.Errorf("TLS %v: a look after a real deadline was set: %v, want the socket", secure, err)
		}
	}
}
