package conntrack_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/auth"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestConnsAgreesWithTheServersClientList(t *testing.T) {
	s := redistest.Start(t)
	for _, protocol := range []int{2, 3} {
		opt := s.Options()
		opt.Protocol = protocol
		opt.MinIdleConns = 2
		r := newRig(t, opt, conntrack.Config{})
		r.fill(t, 4)
		if _, err := r.Pipelined(bg, func(p redis.Pipeliner) error { p.Ping(bg); return nil }); err != nil {
			t.Fatal(err)
		}
		ps := r.Subscribe(bg, "news")
		if _, err := ps.Receive(bg); err != nil {
			t.Fatal(err)
		}
		conn, leased := r.lease(t)
		var want, got []string
		redistest.Eventually(t, "Conns and CLIENT LIST name the same connections", soon, func() bool {
			want, got = nil, nil
			for _, i := range s.ClientList(t) {
				want = append(want, i.Addr)
			}
			for _, i := range r.tracker.Conns() {
				got = append(got, i.Local)
			}
			slices.Sort(want)
			slices.Sort(got)
			return slices.Equal(want, got)
		})
		pools := map[hooks.Pool]int{}
		states := map[hooks.State]int{}
		for _, i := range r.tracker.Conns() {
			pools[i.Pool]++
			states[i.State]++
			if i.Node != s.Addr() || i.Remote != s.Addr() || i.TLS || i.Age < i.Idle || i.BytesOut == 0 && i.State != hooks.StateHandshake {
				t.Errorf("RESP%d: impossible: %+v", protocol, i)
			}
			if (i.State == hooks.StateLeased) != (i.ID == leased.ID()) {
				t.Errorf("RESP%d: %v, the lease is on %d", protocol, i, leased.ID())
			}
		}
		if pools[hooks.PoolPipeline] != 1 || states[hooks.StateSubscribed] != 1 || states[hooks.StateLeased] != 1 {
			t.Errorf("RESP%d: pools %v, states %v: want one pipeline connection, one subscribed, one leased", protocol, pools, states)
		}
		for _, i := range s.ClientList(t) {
			for _, c := range r.tracker.Conns() {
				if c.Local == i.Addr && strings.Contains(i.Flags, "P") != (c.State == hooks.StateSubscribed) {
					t.Errorf("RESP%d: %v, but for the server its flags are %s", protocol, c, i.Flags)
				}
			}
		}
		_ = conn.Close()
		_ = ps.Close()
		_ = r.Close()
		if n := r.tracker.Len(); n != 0 {
			t.Errorf("RESP%d: %d connections are listed after Close: %v", protocol, n, r.tracker.Conns())
		}
		waitDead(t, s)
	}
}

func TestACommandInFlightIsSeenBusyWithItsName(t *testing.T) {
	s := redistest.Start(t)
	r := newRig(t, s.Options(), conntrack.Config{})
	r.fill(t, 1)
	done := make(chan error, 1)
	go func() { done <- r.BLPop(bg, 0, "list").Err() }()
	redistest.Eventually(t, "BLPOP is seen in flight", soon, func() bool {
		i := r.only(t).Info()
		return i.State == hooks.StateBusy && i.LastCommand == "blpop"
	})
	s.Admin().RPush(bg, "list", "x")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if i := r.only(t).Info(); i.State != hooks.StateIdle {
		t.Errorf("after its reply the connection is %v", i.State)
	}
}

func TestEachWayToEndAConnectionHasItsReason(t *testing.T) {
	s := redistest.Start(t)
	for _, x := range []struct {
		name string
		want hooks.Reason
		end  func(t *testing.T, r *rig, conn *redis.Conn, c *conntrack.Conn)
	}{
		{"state was left", hooks.ReasonSessionState, func(t *testing.T, r *rig, conn *redis.Conn, c *conntrack.Conn) {
			conn.Select(bg, 3)
			_ = conn.Close()
			c.SetLeased(false)
			r.Ping(bg)
		}},
		{"the server closed it", hooks.ReasonError, func(t *testing.T, r *rig, conn *redis.Conn, c *conntrack.Conn) {
			_ = conn.Close()
			s.KillClients(t)
			waitDead(t, s)
			if err := r.Ping(bg).Err(); err != nil {
				t.Error(err)
			}
		}},
		{"an error in use", hooks.ReasonError, func(t *testing.T, r *rig, conn *redis.Conn, c *conntrack.Conn) {
			s.KillClients(t)
			waitDead(t, s)
			if err := conn.Ping(bg).Err(); err == nil {
				t.Error("no error on a dead connection")
			}
			_ = conn.Close()
		}},
		{"a lease was discarded", hooks.ReasonDiscarded, func(t *testing.T, r *rig, conn *redis.Conn, c *conntrack.Conn) {
			conntrack.Discard(conn, c, hooks.ReasonDiscarded)
			_ = conn.Close()
		}},
		{"a ctx ended during a command", hooks.ReasonInterrupted, func(t *testing.T, r *rig, conn *redis.Conn, c *conntrack.Conn) {
			done := make(chan error, 1)
			go func() { done <- conn.BLPop(bg, 0, "nolist").Err() }()
			redistest.Eventually(t, "BLPOP is in flight", soon, func() bool { return c.Info().LastCommand == "blpop" })
			c.Interrupt(context.Canceled)
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("the interrupted command: %v", err)
			} else if e := connError(t, err); !e.Self || e.Unsent() {
				t.Errorf("%+v, want Self and not Unsent", e)
			}
			_ = conn.Close()
		}},
		{"the client was closed", hooks.ReasonShutdown, func(t *testing.T, r *rig, conn *redis.Conn, c *conntrack.Conn) {
			_ = conn.Close()
			r.tracker.Shut()
			_ = r.Close()
		}},
		{"go-redis did it", hooks.ReasonPool, func(t *testing.T, r *rig, conn *redis.Conn, c *conntrack.Conn) {
			_ = conn.Close()
			_ = r.Close() // without Shut: nobody said why
		}},
		{"Evict and the guard", hooks.ReasonReset, func(t *testing.T, r *rig, conn *redis.Conn, c *conntrack.Conn) {
			_ = conn.Close()
			c.Evict(hooks.ReasonReset)
			r.Ping(bg)
		}},
		{"Evict and a visit", hooks.ReasonReset, func(t *testing.T, r *rig, conn *redis.Conn, c *conntrack.Conn) {
			_ = conn.Close()
			c.Evict(hooks.ReasonReset)
			_, _, _ = r.visit(hooks.PoolMain)
		}},
		{"max age", hooks.ReasonAge, func(t *testing.T, r *rig, conn *redis.Conn, c *conntrack.Conn) {
			_ = conn.Close()
			r.tracker.SetMaxAge(time.Nanosecond, 0)
			r.Ping(bg)
		}},
		{"Kill", hooks.ReasonSuspected, func(t *testing.T, r *rig, conn *redis.Conn, c *conntrack.Conn) {
			c.Kill(hooks.ReasonSuspected, errors.New("half-open"))
			_ = conn.Ping(bg)
			_ = conn.Close()
		}},
		{"an EphemeralConn", hooks.ReasonPool, func(t *testing.T, r *rig, conn *redis.Conn, c *conntrack.Conn) {
			_ = conn.Close()
			e := r.EphemeralConn()
			e.Ping(bg)
			_ = e.Close()
		}},
	} {
		t.Run(x.name, func(t *testing.T) {
			r := newRig(t, s.Options(), conntrack.Config{})
			conn, c := r.lease(t)
			c.SetLeased(false)
			if err := conn.Ping(bg).Err(); err != nil {
				t.Fatal(err)
			}
			x.end(t, r, conn, c)
			e := r.events.wantClosed(t, c.ID(), x.want)
			if e.Age <= 0 || e.BytesIn == 0 || e.BytesOut == 0 || e.Node != s.Addr() || e.Time.IsZero() {
				t.Errorf("the event is not filled in: %+v", e)
			}
			if n := r.tracker.CloseReasons()[x.want]; n != 1 {
				t.Errorf("CloseReasons()[%q] = %d, want 1 (%v)", x.want, n, r.tracker.CloseReasons())
			}
		})
	}
}

func TestEveryDialedHasItsClosed(t *testing.T) {
	s := redistest.Start(t)
	r := newRig(t, s.Options(), conntrack.Config{})
	r.fill(t, 5)
	r.conns()[2].Evict(hooks.ReasonReset)
	for range 5 {
		_, _, _ = r.visit(hooks.PoolMain)
	}
	ps := r.Subscribe(bg, "x")
	_, _ = ps.Receive(bg)
	_ = ps.Close()
	_ = r.Close()
	redistest.Eventually(t, "as many Closed events as Dialed", soon, func() bool {
		return len(r.events.of(hooks.Closed)) == len(r.events.of(hooks.Dialed)) && len(r.events.of(hooks.Dialed)) == 6
	})
	opened := map[uint64]bool{}
	for _, e := range r.events.of(hooks.Dialed) {
		opened[e.ConnID] = true
	}
	for _, e := range r.events.of(hooks.Closed) {
		if !opened[e.ConnID] {
			t.Errorf("%v was closed twice or never dialed", e)
		}
		delete(opened, e.ConnID)
	}
}

func TestASlowEventHandlerHoldsNobodyUp(t *testing.T) {
	s := redistest.Start(t)
	hold := make(chan struct{})
	var n atomic.Int64
	r := newRig(t, s.Options(), conntrack.Config{OnEvent: func(hooks.Event) { <-hold; n.Add(1) }})
	hang(t, "a client whose event handler blocks", func() {
		r.fill(t, 5)
		for _, c := range r.conns() {
			c.Evict(hooks.ReasonReset)
		}
		for range 5 {
			_, _, _ = r.visit(hooks.PoolMain)
		}
		_ = r.Close()
	})
	close(hold)
	redistest.Eventually(t, "all events are delivered in the end", soon, func() bool { return n.Load() >= 10 })
}

func TestAPanickingEventHandlerIsLoggedAndGoesOn(t *testing.T) {
	s := redistest.Start(t)
	var n atomic.Int64
	var logged redistest.Log
	r := newRig(t, s.Options(), conntrack.Config{
		OnEvent: func(hooks.Event) {
			if n.Add(1) == 1 {
				panic("mine")
			}
		},
		Logger: slog.New(slog.NewTextHandler(&logged, nil)),
	})
	r.fill(t, 3)
	redistest.Eventually(t, "events go on after a panic", soon, func() bool { return n.Load() >= 3 })
	if !strings.Contains(logged.String(), "mine") {
		t.Errorf("the panic was not logged: %q", logged.String())
	}
}

func TestAnEventHandlerMayCallTheClientAlsoDuringClose(t *testing.T) {
	s := redistest.Start(t)
	var r *rig
	var made sync.WaitGroup
	made.Add(1)
	var closed atomic.Int64
	r = newRig(t, s.Options(), conntrack.Config{OnEvent: func(e hooks.Event) {
		made.Wait()
		_ = r.PoolStats()
		_ = r.node.Main()
		_ = r.tracker.Conns()
		_ = r.Ping(bg).Err()
		if e.Kind == hooks.Closed {
			closed.Add(1)
		}
	}})
	made.Done()
	hang(t, "a client whose event handler calls it", func() {
		r.fill(t, 5)
		r.conns()[0].Evict(hooks.ReasonReset)
		_ = r.Ping(bg)
		_ = r.Close()
	})
	redistest.Eventually(t, "the handler has seen all five ends", soon, func() bool { return closed.Load() >= 5 })
}

// The Close of a tracked connection runs under go-redis's pool lock.
func TestSamplersDuringCloseDoNotHang(t *testing.T) {
	s := redistest.Start(t)
	for range 5 {
		r := newRig(t, s.Options(), conntrack.Config{})
		r.fill(t, 10)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					r.PoolStats()
					r.node.Main()
					r.tracker.Conns()
					r.tracker.Range(func(c *conntrack.Conn) bool { r.PoolStats(); return true })
				}
			})
		}
		hang(t, "Close while samplers look", func() { _ = r.Close() })
		close(stop)
		wg.Wait()
	}
}

func TestAUsersDialerIsWrappedAndCalled(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	var calls atomic.Int64
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		calls.Add(1)
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}
	r := newRig(t, opt, conntrack.Config{})
	r.fill(t, 3)
	if calls.Load() != 3 || r.tracker.Len() != 3 {
		t.Errorf("the user's Dialer was called %d times, %d connections are tracked, want 3 and 3", calls.Load(), r.tracker.Len())
	}
	for i := range 3 {
		if _, removed, err := r.visit(hooks.PoolMain); err != nil || removed {
			t.Errorf("visit %d: %v", i, err)
		}
	}
}

func TestAUnixSocketIsTracked(t *testing.T) {
	s := redistest.Start(t)
	r := newRig(t, &redis.Options{Network: "unix", Addr: s.Unix()}, conntrack.Config{})
	r.fill(t, 1)
	if i := r.only(t).Info(); i.Node != s.Unix() || i.State != hooks.StateIdle {
		t.Errorf("%+v", i)
	}
	s.KillClients(t)
	waitDead(t, s)
	if err := r.Ping(bg).Err(); err != nil {
		t.Errorf("a dead Unix connection met a caller: %v", err)
	}
}

// The AUTH of a re-authentication is no state that a user left.
func TestReAuthenticationKeepsTheConnection(t *testing.T) {
	s := redistest.Start(t)
	for _, pw := range []string{"one", "two"} {
		if err := s.Admin().Do(bg, "ACL", "SETUSER", "app", "on", ">"+pw, "~*", "&*", "+@all").Err(); err != nil {
			t.Fatal(err)
		}
	}
	creds := &rotating{now: "one"}
	opt := s.Options()
	opt.StreamingCredentialsProvider = creds
	opt.PoolSize = 1
	r := newRig(t, opt, conntrack.Config{})
	// Not by a Conn: go-redis panics where a Conn has to dial with such a provider.
	if err := r.Ping(bg).Err(); err != nil {
		t.Fatal(err)
	}
	c := r.only(t)
	creds.rotate("two")
	redistest.Eventually(t, "the connection authenticates again, when it is given back", soon, func() bool {
		r.Ping(bg)
		return strings.Contains(s.Admin().Info(bg, "commandstats").Val(), "cmdstat_auth:")
	})
	redistest.Eventually(t, "commands go on", soon, func() bool { return r.Ping(bg).Err() == nil })
	// go-redis may have opened a second one for the PING meanwhile.
	if !slices.Contains(r.conns(), c) || r.tracker.CloseReasons()[hooks.ReasonSessionState] > 0 {
		t.Errorf("a re-authentication cost the connection: %v", r.tracker.CloseReasons())
	}
}

type rotating struct {
	mu        sync.Mutex
	now       string
	listeners []auth.CredentialsListener
}

func (c *rotating) Subscribe(l auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listeners = append(c.listeners, l)
	return auth.NewBasicCredentials("app", c.now), func() error { return nil }, nil
}

func (c *rotating) rotate(to string) {
	c.mu.Lock()
	c.now = to
	all := slices.Clone(c.listeners)
	c.mu.Unlock()
	for _, l := range all {
		l.OnNext(auth.NewBasicCredentials("app", to))
	}
}

// Full duplex, pub/sub, leases and visits at once, for the race detector.
func TestEverythingAtOnceMixesUpNothing(t *testing.T) {
	s := redistest.Start(t)
	for _, cached := range []bool{false, true} {
		opt := s.Options()
		opt.PoolSize = 8
		opt.MinIdleConns = 3
		if cached {
			opt.ClientSideCacheConfig = &redis.ClientSideCacheConfig{DrainInterval: 5 * time.Millisecond}
		}
		r := newRig(t, opt, conntrack.Config{})
		ap, err := r.AutoPipelineWithOptions(&redis.AutoPipelineOptions{FullDuplex: true})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(bg, 700*time.Millisecond)
		var wg sync.WaitGroup
		var ops atomic.Int64
		tolerated := func(err error) bool {
			_, refused := conntrack.RefusedFor(err)
			return refused || errors.Is(err, conntrack.ErrWouldWait)
		}
		work := func(f func(i int) error) {
			wg.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					if err := f(i); err != nil && !tolerated(err) {
						t.Errorf("cached %v: %v", cached, err)
						return
					}
					ops.Add(1)
				}
			})
		}
		echo := func(c interface {
			Echo(context.Context, any) *redis.StringCmd
		}, who string) func(int) error {
			return func(i int) error {
				want := fmt.Sprintf("%s-%d", who, i)
				got, err := c.Echo(bg, want).Result()
				if err == nil && got != want {
					return fmt.Errorf("%s got the reply %q for %q", who, got, want)
				}
				return err
			}
		}
		for i := range 3 {
			work(echo(r, fmt.Sprintf("client%d", i)))
			work(echo(ap, fmt.Sprintf("duplex%d", i)))
		}
		work(func(i int) error { // pipelines
			var a, b *redis.StringCmd
			_, err := r.Pipelined(bg, func(p redis.Pipeliner) error {
				a, b = p.Echo(bg, "a"), p.Echo(bg, i)
				return nil
			})
			if err == nil && (a.Val() != "a" || b.Val() != fmt.Sprint(i)) {
				return fmt.Errorf("a pipeline got %q, %q", a.Val(), b.Val())
			}
			return err
		})
		work(func(i int) error { // leases, some with session state
			conn := r.Conn()
			defer conn.Close()
			c, err := r.node.Acquire(bg, conn, nil)
			if err != nil {
				return err
			}
			if i%5 == 0 {
				conn.Do(bg, "MULTI")
				return nil
			}
			if i%7 == 0 {
				conntrack.Discard(conn, c, hooks.ReasonDiscarded)
				return nil
			}
			return echo(conn, "lease")(i)
		})
		work(func(i int) error { // sweeps
			for _, c := range r.conns() {
				switch (uint64(i) + c.ID()) % 10 {
				case 0:
					c.EvictIdle(hooks.ReasonIdle)
				case 1, 2:
					c.Validate()
				case 3:
					c.Evict(hooks.ReasonReset)
				}
			}
			for _, p := range []hooks.Pool{hooks.PoolMain, hooks.PoolPipeline} {
				if _, _, err := r.visit(p); err != nil && !tolerated(err) {
					return err
				}
			}
			r.tracker.Conns()
			r.PoolStats()
			return nil
		})
		ps := r.Subscribe(bg, "news")
		var received atomic.Int64
		wg.Go(func() {
			for range ps.Channel() {
				received.Add(1)
			}
		})
		work(func(i int) error { return r.Publish(bg, "news", i).Err() })
		if cached {
			work(func(i int) error { return r.Set(bg, "hot", i, 0).Err() })
			work(func(i int) error {
				err := r.Get(bg, "hot").Err()
				if err == redis.Nil {
					err = nil
				}
				return err
			})
		}
		<-ctx.Done()
		_ = ps.Close()
		wg.Wait()
		cancel()
		if err := ap.Close(); err != nil {
			t.Error(err)
		}
		if received.Load() == 0 || ops.Load() < 100 {
			t.Errorf("cached %v: only %d operations, %d messages", cached, ops.Load(), received.Load())
		}
		t.Logf("cached %v: %d operations, %d messages, ended %v", cached, ops.Load(), received.Load(), r.tracker.CloseReasons())
	}
}
