package managed_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// While a server is unreachable, one attempt at a time is made, whoever waits.
func TestWhileAServerIsUnreachableOneAttemptAtATimeIsMade(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var now, most int
	var begun []time.Time
	known := false
	opt := &redis.Options{Addr: "127.0.0.1:1", PoolSize: 30, MinIdleConns: 5,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			mu.Lock()
			now++
			if known {
				most = max(most, now)
				begun = append(begun, time.Now())
			}
			mu.Unlock()
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
			}
			mu.Lock()
			now--
			known = true
			mu.Unlock()
			return nil, errors.New("nobody is there")
		}}
	c := client(t, opt, managed.WithMaxAge(100*time.Millisecond), managed.WithHeartbeat(50*time.Millisecond))
	require.Error(t, c.Ping(deadline(t, 100*time.Millisecond)).Err())
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if err := c.Ping(deadline(t, 3*time.Second)).Err(); err == nil {
				t.Error("no error")
			}
		})
	}
	wg.Wait()
	mu.Lock()
	defer mu.Unlock()
	var gaps []time.Duration
	for i := 1; i < len(begun); i++ {
		gaps = append(gaps, begun[i].Sub(begun[i-1]).Round(time.Millisecond))
	}
	t.Logf("%d attempts in 3 s, at most %d at a time; pauses at first %v, in the end %v", len(begun), most, gaps[:3], gaps[len(gaps)-3:])
	require.LessOrEqual(t, most, 1)
	require.Less(t, len(begun), 300)
	require.Greater(t, gaps[len(gaps)-1], gaps[0])
}

func deadline(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestAfterAnOutageTheFirstCommandSucceedsAtOnceAndNobodyHasFailed(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	d := newDoor(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize = d.addr, 20
	c := client(t, opt)
	burst(t, c, 20)
	var first []time.Duration
	for range 5 {
		var failed atomic.Int64
		var lastErr atomic.Pointer[error]
		ok := make(chan time.Time, 200)
		d.shut()
		time.Sleep(20 * time.Millisecond)
		opened := d.accepted.Load()
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				var err error
				if i%2 == 0 {
					err = c.Set(ctx, "key", i, 0).Err()
				} else {
					err = c.Get(ctx, "key").Err()
				}
				if err != nil && !errors.Is(err, redis.Nil) {
					failed.Add(1)
					lastErr.Store(&err)
				} else {
					ok <- time.Now()
				}
			})
		}
		time.Sleep(600 * time.Millisecond)
		back := d.open()
		first = append(first, (<-ok).Sub(back))
		wg.Wait()
		if failed.Load() > 0 {
			t.Errorf("%d of 200 failed: %v", failed.Load(), *lastErr.Load())
		}
		// One more for the prober, and one for a fresh connection if somebody is suspected.
		require.LessOrEqual(t, int(d.accepted.Load()-opened), opt.PoolSize+2, "connections opened by 200 callers")
		t.Logf("first success %v after the server's return, %d connections for 200 callers", first[len(first)-1], d.accepted.Load()-opened)
	}
	slices.Sort(first)
	t.Logf("first success after %v, median %v", first, first[len(first)/2])
	require.Less(t, first[len(first)/2], 150*time.Millisecond)
}

// go-redis counts failed dials and after PoolSize of them refuses
// everybody until its own probe, once a second, succeeds.
func TestMoreFailedDialsThanPoolSizeLeaveNoTail(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	d := newDoor(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize, opt.MinIdleConns = d.addr, 3, 2
	c := client(t, opt)
	for round := range 3 {
		d.shut()
		for range 20 { // one after the other
			began := time.Now()
			require.Error(t, c.Ping(deadline(t, 15*time.Millisecond)).Err())
			require.Less(t, redistest.Took(began), 100*time.Millisecond, "no loop of 5 x 100 ms")
		}
		back := d.open()
		require.NoError(t, c.Ping(deadline(t, 5*time.Second)).Err())
		t.Logf("round %d: first success after %v", round, time.Since(back))
		require.Less(t, redistest.Took(back), 300*time.Millisecond)
		for range 10 {
			began := time.Now()
			require.NoError(t, c.Ping(deadline(t, 5*time.Second)).Err())
			require.Less(t, redistest.Took(began), 200*time.Millisecond, "nobody waits for a probe, once a second")
		}
	}
}

// A caller waits no longer than its own ctx, and holds no slot of the pool.
func TestCallersOfAnUnreachableServerWaitWithinTheirOwnTime(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	d := newDoor(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize, opt.PoolTimeout = d.addr, 3, 100*time.Millisecond
	c := client(t, opt)
	require.NoError(t, c.Ping(t.Context()).Err())
	good, err := c.Acquire(t.Context())
	require.NoError(t, err)
	d.close()
	require.Error(t, c.Ping(deadline(t, 100*time.Millisecond)).Err()) // until a dial has failed, callers queue
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			limit := time.Duration(50+i) * time.Millisecond
			began := time.Now()
			err := c.Ping(deadline(t, limit)).Err()
			if took := redistest.Took(began); err == nil || errors.Is(err, redis.ErrPoolTimeout) || took > limit+200*time.Millisecond {
				t.Errorf("a ctx of %v: %v after %v", limit, err, took)
			}
		})
	}
	time.Sleep(30 * time.Millisecond)
	require.NoError(t, good.Ping(t.Context()).Err(), "what is open works on")
	wg.Wait() // otherwise it serves one of them, and is closed if the time of that one is over just then
	good.Release()
	require.Eventually(t, func() bool { return c.PoolStats().IdleConns == 1 }, 30*time.Second, time.Millisecond)
	require.NoError(t, c.Ping(deadline(t, time.Second)).Err(), "and serves everybody")
}

func TestWhileTheServerRefusesConnectionsNoWorkingOneIsClosed(t *testing.T) {
	for _, why := range []string{"maxclients", "the listener is gone", "connections are cut at once", "the password has changed"} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t, "--maxclients", "16")
			s.Admin().Ping(t.Context())
			s.NumClients(t)
			d := newDoor(t, s.Addr())
			p := redistest.NewProxy(t, d.addr)
			opt := s.Options()
			opt.Addr, opt.PoolSize, opt.ReadTimeout = d.addr, 10, time.Second
			var ev events
			if why == "the password has changed" {
				require.NoError(t, s.Admin().Do(t.Context(), "ACL", "SETUSER", "app", "on", ">old", "~*", "+@all").Err())
				opt.Username, opt.Password = "app", "old"
			}
			if why == "connections are cut at once" {
				opt.Addr = p.Addr()
			}
			c := client(t, opt, ev.option(), managed.WithMaxAgeJitter(0))
			burst(t, c, 5)
			old := ids(c)
			ends := func() (out []hooks.Event) { // of those that worked
				for _, e := range ev.of(hooks.Closed) {
					if old[e.ConnID] {
						out = append(out, e)
					}
				}
				return out
			}
			var others []net.Conn
			switch why {
			case "maxclients":
				for s.NumClients(t) < 15 { // and the judge
					nc, err := net.Dial("tcp", s.AdminAddr())
					require.NoError(t, err)
					others = append(others, nc)
					time.Sleep(5 * time.Millisecond)
				}
			case "the listener is gone":
				d.close()
			case "the password has changed":
				require.NoError(t, s.Admin().Do(t.Context(), "ACL", "SETUSER", "app", "resetpass", ">new").Err())
			default:
				p.RefuseNew(true)
			}
			// Somebody needs a sixth connection, and finds out.
			var held []*managed.Conn
			for range 5 {
				conn, err := c.Acquire(deadline(t, time.Second))
				require.NoError(t, err)
				held = append(held, conn)
			}
			_, err := c.Acquire(deadline(t, 300*time.Millisecond))
			require.Error(t, err)
			for _, conn := range held {
				conn.Release()
			}
			require.True(t, c.Node().ClosedToNew())
			c.SetMaxAge(50 * time.Millisecond)
			c.SetMaxIdle(100 * time.Millisecond)
			for range 20 {
				require.NoError(t, c.Ping(t.Context()).Err())
				time.Sleep(20 * time.Millisecond)
			}
			time.Sleep(1200 * time.Millisecond) // in silence, too, and although it is asked again
			require.Emptyf(t, ends(), "%v", ends())
			for range 20 {
				require.NoError(t, c.Ping(t.Context()).Err())
			}
			switch why { // room again
			case "maxclients":
				for _, nc := range others {
					nc.Close()
				}
			case "the listener is gone":
				d.open()
			case "the password has changed":
				require.NoError(t, s.Admin().Do(t.Context(), "ACL", "SETUSER", "app", ">old").Err())
			default:
				p.RefuseNew(false)
			}
			began := time.Now()
			redistest.Eventually(t, "the old ones end", soon, func() bool { return len(ends()) == 5 })
			t.Logf("with room again the old ones end %v later, with nobody calling: %v", time.Since(began), c.CloseReasons())
			require.Less(t, time.Since(began), 5*time.Second)
		})
	}
}

func TestExcessIdleConnectionsAreKeptWhileTheServerRefusesNewOnesAndThenClosed(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	d := newDoor(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize = d.addr, 10
	var ev events
	c := client(t, opt, ev.option(), managed.WithMaxIdle(200*time.Millisecond))
	burst(t, c, 5)
	d.close()
	var held []*managed.Conn
	for range 5 {
		conn, err := c.Acquire(t.Context())
		require.NoError(t, err)
		held = append(held, conn)
	}
	_, err := c.Acquire(deadline(t, 50*time.Millisecond))
	require.Error(t, err)
	for _, conn := range held {
		conn.Release()
	}
	time.Sleep(time.Second)
	require.Emptyf(t, ev.of(hooks.Closed), "%v", ev.of(hooks.Closed))
	d.open()
	ev.wait(t, hooks.Closed, 5)
	require.EqualValues(t, 5, c.CloseReasons()[hooks.ReasonIdle])
}

// callKinds are the ways to use a client of one server.
var callKinds = map[string]func(ctx context.Context, c *managed.Client) error{
	"command":     func(ctx context.Context, c *managed.Client) error { return c.Incr(ctx, "n").Err() },
	"pipeline":    func(ctx context.Context, c *managed.Client) error { return inPipe(ctx, c.Pipeline()) },
	"transaction": func(ctx context.Context, c *managed.Client) error { return inPipe(ctx, c.TxPipeline()) },
	"Watch": func(ctx context.Context, c *managed.Client) error {
		return c.Watch(ctx, func(tx *redis.Tx) error { return tx.Get(ctx, "n").Err() }, "n")
	},
	"Acquire": func(ctx context.Context, c *managed.Client) error {
		return c.AcquireFunc(ctx, func(conn *managed.Conn) error { return conn.Incr(ctx, "n").Err() })
	},
}

func inPipe(ctx context.Context, p redis.Pipeliner) error {
	one, two := p.Incr(ctx, "{n}1"), p.Incr(ctx, "{n}2")
	_, err := p.Exec(ctx)
	return errors.Join(err, one.Err(), two.Err())
}

// While a node takes no new connections, a caller that found none free gets one that becomes free.
func TestWhileANodeTakesNobodyNewCallersUseTheConnectionsItHas(t *testing.T) {
	for kind, do := range callKinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			d := newDoor(t, s.Addr())
			opt := s.Options()
			opt.Addr, opt.PipelinePoolSize = d.addr, -1
			c := client(t, opt)
			require.NoError(t, c.Set(t.Context(), "n", 1, 0).Err())
			d.close()
			held, err := c.Acquire(t.Context())
			require.NoError(t, err)
			done := make(chan error)
			for range 3 {
				go func() { done <- do(deadline(t, soon), c) }()
			}
			redistest.Eventually(t, "they wait", soon, func() bool { return c.Node().Health() == hooks.Unreachable && c.PoolStats().TotalConns == 1 })
			held.Release()
			for range 3 {
				require.NoError(t, <-done)
			}
			require.Equal(t, hooks.Unreachable, c.Node().Health())
		})
	}
}

// heldDials is a hook of a user's that holds dials back.
type heldDials struct {
	on                  atomic.Bool
	reached, goOn, over chan struct{}
}

func newHeldDials() *heldDials {
	return &heldDials{reached: make(chan struct{}), goOn: make(chan struct{}), over: make(chan struct{})}
}

func (*heldDials) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (*heldDials) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *heldDials) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if h.on.Load() {
			select {
			case h.reached <- struct{}{}:
			case <-h.over:
			}
			select {
			case <-h.goOn:
			case <-h.over:
			}
		}
		return next(ctx, network, addr)
	}
}

// A call whose dial was refused, and that then finds all slots of the pool taken until its time is
// over, says that the node is unreachable, and not that the pool is too small.
func TestACallThatWasRefusedADialBlamesNoPool(t *testing.T) {
	for kind, do := range callKinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			d := newDoor(t, s.Addr())
			opt := s.Options()
			opt.Addr, opt.PoolSize, opt.PipelinePoolSize = d.addr, 1, -1
			c := client(t, opt)
			held := newHeldDials()
			c.AddHook(held)
			d.close()
			done := make(chan error)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { done <- do(ctx, c) }() // the call: its first dial is refused
			redistest.Eventually(t, "the node is unreachable", soon, func() bool { return c.Node().Health() == hooks.Unreachable })
			held.on.Store(true)
			others, end := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer end()
			defer close(held.over)
			wg.Go(func() { _ = c.Ping(others).Err() }) // it takes the slot
			<-held.reached
			wg.Go(func() { _ = c.Ping(others).Err() }) // it is the first in the queue
			redistest.Eventually(t, "it waits", soon, func() bool { return c.PoolStats().PendingRequests == 2 })
			d.open() // the call goes on, and waits behind it
			redistest.Eventually(t, "it waits, too", soon, func() bool { return c.PoolStats().PendingRequests == 3 })
			d.close()
			held.goOn <- struct{}{} // the first dial fails
			redistest.Eventually(t, "the node is unreachable again", soon, func() bool { return c.Node().Health() == hooks.Unreachable })
			<-held.reached
			cancel()
			err := <-done
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, redis.ErrPoolTimeout)
			require.ErrorContains(t, err, "unreachable")
			require.Equal(t, retry.NotSent, retry.OutcomeOf(err))
			require.Zero(t, c.Stats().PoolTimeouts)
		})
	}
}

// The same for a node of a cluster or ring, whose calls try it again after each backoff.
func TestACallThatANodeRefusedADialBlamesNoPool(t *testing.T) {
	for servers, open := range map[string]func(t *testing.T, d *door, like *redis.Options, hook redis.Hook) redis.UniversalClient{
		"ring": func(t *testing.T, d *door, like *redis.Options, hook redis.Hook) redis.UniversalClient {
			c, err := managed.NewRingClient(&redis.RingOptions{Addrs: map[string]string{"a": d.addr}, HeartbeatFrequency: time.Hour,
				PoolSize: like.PoolSize, PipelinePoolSize: like.PipelinePoolSize, PoolTimeout: like.PoolTimeout}, managed.WithLogger(quiet))
			require.NoError(t, err)
			for _, shard := range c.GetShardClients() {
				shard.AddHook(hook)
			}
			return c
		},
		"cluster": func(t *testing.T, d *door, like *redis.Options, hook redis.Hook) redis.UniversalClient {
			slots := func(context.Context) ([]redis.ClusterSlot, error) {
				return []redis.ClusterSlot{{Start: 0, End: 16383, Nodes: []redis.ClusterNode{{Addr: d.addr}}}}, nil
			}
			c := clusterClient(t, &redis.ClusterOptions{Addrs: []string{d.addr}, ClusterSlots: slots, PoolSize: like.PoolSize, PipelinePoolSize: like.PipelinePoolSize,
				PoolTimeout: like.PoolTimeout})
			c.OnNewNode(func(node *redis.Client) { node.AddHook(hook) })
			return c
		},
	} {
		for kind, do := range map[string]func(ctx context.Context, c redis.UniversalClient) error{
			"command":     func(ctx context.Context, c redis.UniversalClient) error { return c.Incr(ctx, "{n}1").Err() },
			"pipeline":    func(ctx context.Context, c redis.UniversalClient) error { return inPipe(ctx, c.Pipeline()) },
			"transaction": func(ctx context.Context, c redis.UniversalClient) error { return inPipe(ctx, c.TxPipeline()) },
			"Watch": func(ctx context.Context, c redis.UniversalClient) error {
				return c.Watch(ctx, func(tx *redis.Tx) error { return tx.Get(ctx, "{n}1").Err() }, "{n}1")
			},
		} {
			for _, end := range []string{"ctx", "PoolTimeout"} {
				t.Run(servers+" "+kind+" "+end, func(t *testing.T) {
					t.Parallel()
					s := redistest.Start(t)
					d := newDoor(t, s.Addr())
					like := &redis.Options{PoolSize: 1, PipelinePoolSize: -1, PoolTimeout: time.Minute}
					if end == "PoolTimeout" {
						like.PoolTimeout = 20 * time.Millisecond
					}
					held := newHeldDials()
					c := open(t, d, like, held)
					defer c.Close()
					require.NoError(t, c.Set(t.Context(), "{n}1", 1, 0).Err())
					d.shut()
					redistest.Eventually(t, "the node is unreachable", soon, func() bool {
						err := c.Get(deadline(t, 500*time.Millisecond), "{n}1").Err()
						return err != nil && strings.Contains(err.Error(), "unreachable")
					})
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					again := func() uint64 {
						return c.(interface{ RetryStats() retry.Stats }).RetryStats().RetriesByReason[retry.ReasonDial]
					}
					before := again() // a cluster pauses by itself before that
					done := make(chan error, 1)
					go func() { done <- do(ctx, c) }()
					redistest.Eventually(t, "the call was refused a dial", soon, func() bool { return again() > before })
					held.on.Store(true)
					var wg sync.WaitGroup
					others, over := context.WithCancel(t.Context())
					defer wg.Wait()
					defer over()
					defer close(held.over)
					wg.Go(func() { _ = c.Get(others, "{n}2").Err() })
					select { // the one that has the slot
					case <-held.reached:
					case err := <-done:
						t.Fatal("over too early:", err)
					}
					time.Sleep(500 * time.Millisecond)
					select {
					case err := <-done:
						t.Fatal("over too early:", err)
					default:
					}
					cancel()
					err := <-done
					t.Logf("%v", err)
					require.ErrorIs(t, err, context.Canceled)
					require.NotErrorIs(t, err, redis.ErrPoolTimeout)
					require.ErrorContains(t, err, "unreachable")
					require.Equal(t, retry.NotSent, retry.OutcomeOf(err))
					if end == "ctx" {
						require.Zero(t, c.(interface{ Stats() monitor.Stats }).Stats().PoolTimeouts)
					}
				})
			}
		}
	}
}
