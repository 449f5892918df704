package managed_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func TestReleaseTwiceDoesNothing(t *testing.T) {
	s := redistest.Start(t)
	ev := &events{}
	c := client(t, sized(s, 2, time.Second), ev.option())
	a, err := c.Acquire(t.Context())
	require.NoError(t, err)
	a.Release()
	a.Release()
	require.NoError(t, a.Close(), "Close is Release")
	a.Discard()
	// The connection belongs to somebody else now: releasing the old lease again
	// must not touch it.
	b, err := c.Acquire(t.Context())
	require.NoError(t, err)
	require.Equal(t, a.Info().ID, b.Info().ID)
	a.Release()
	a.Discard()
	require.Len(t, c.Leases(), 1)
	require.NoError(t, b.Ping(t.Context()).Err())
	b.Release()
	full(t, c, 2)
	require.Len(t, c.Conns(), 2)
	redistest.Eventually(t, "one event for each release", soon, func() bool {
		return len(ev.of(hooks.Released)) == len(ev.of(hooks.Acquired)) && len(ev.of(hooks.Released)) == 4
	})
}

func TestDiscardClosesTheConnection(t *testing.T) {
	s := redistest.Start(t)
	ev := &events{}
	c := client(t, sized(s, 2, time.Second), ev.option())
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	id := own(t, s, conn).ID
	conn.Discard()
	redistest.Eventually(t, "the server has no such connection", soon, func() bool { return gone(t, s, id) })
	require.Equal(t, hooks.ReasonDiscarded, ev.wait(t, hooks.Closed, 1)[0].Reason)
	require.Empty(t, c.Conns())
	full(t, c, 2)
}

func TestDiscardEndsACommandInFlight(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 1, time.Second))
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	id := own(t, s, conn).ID
	result := make(chan error, 1)
	go func() { result <- conn.BLPop(t.Context(), 0, "list").Err() }()
	blocked(t, s, id)
	conn.Discard()
	within(t, "the command has ended", func() { assert.ErrorIs(t, <-result, managed.ErrReleased) })
	redistest.Eventually(t, "the server has no such connection", soon, func() bool { return gone(t, s, id) })
	full(t, c, 1)
}

// blocked waits until the server has a blocked command on a connection.
func blocked(t testing.TB, s *redistest.Server, id int64) {
	t.Helper()
	redistest.Eventually(t, "a blocked command", soon, func() bool { return byID(t, s, id).Flags == "b" })
}

func TestReleaseLeavesACommandInFlightToFinish(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 1, time.Second))
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	id := own(t, s, conn).ID
	result := make(chan error, 1)
	go func() {
		v, err := conn.BLPop(t.Context(), 0, "list").Result()
		if err == nil && v[1] != "x" {
			err = fmt.Errorf("got %q", v)
		}
		result <- err
	}()
	blocked(t, s, id)
	conn.Release()
	_, err = c.TryAcquire(t.Context())
	require.ErrorIs(t, err, redis.ErrPoolTimeout, "the connection is given out while a reply is awaited on it")
	require.NoError(t, s.Admin().LPush(t.Context(), "list", "x").Err())
	require.NoError(t, <-result)
	require.Equal(t, id, own(t, s, c).ID)
	full(t, c, 1)
}

func TestUseAfterReleaseIsAnError(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 2, time.Second))
	ctx := t.Context()
	for name, end := range map[string]func(*managed.Conn){
		"Release": (*managed.Conn).Release, "Discard": (*managed.Conn).Discard, "Close": func(c *managed.Conn) { c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := c.Acquire(ctx)
			require.NoError(t, err)
			early := conn.Pipeline()
			early.Set(ctx, "early", 1, 0)
			earlyTx := conn.TxPipeline()
			earlyTx.Set(ctx, "early", 1, 0)
			end(conn)
			inPipe := func(p redis.Pipeliner) error { p.Set(ctx, "pipe", 1, 0); return nil }
			for what, use := range map[string]func() error{
				"a command":     func() error { return conn.Set(ctx, "k", "v", 0).Err() },
				"Do":            func() error { return conn.Do(ctx, "SET", "k", "v").Err() },
				"Process":       func() error { return conn.Process(ctx, redis.NewStatusCmd(ctx, "SET", "k", "v")) },
				"a block":       func() error { return conn.BLPop(ctx, 0, "k").Err() },
				"Select":        func() error { return conn.Select(ctx, 3).Err() },
				"Pipelined":     func() error { _, err := conn.Pipelined(ctx, inPipe); return err },
				"TxPipelined":   func() error { _, err := conn.TxPipelined(ctx, inPipe); return err },
				"Exec":          func() error { _, err := early.Exec(ctx); return err },
				"Exec of tx":    func() error { _, err := earlyTx.Exec(ctx); return err },
				"a sub-command": func() error { return conn.ClientID(ctx).Err() },
			} {
				require.ErrorIsf(t, use(), managed.ErrReleased, what)
			}
			p := conn.Pipeline()
			cmd := p.Get(ctx, "k")
			cmds, err := p.Exec(ctx)
			require.ErrorIs(t, err, managed.ErrReleased)
			require.Len(t, cmds, 1)
			require.ErrorIs(t, cmd.Err(), managed.ErrReleased)
			require.NotPanics(t, func() { conn.Info(); conn.Context(); conn.Release() })
		})
	}
	require.Zero(t, s.Admin().Exists(ctx, "k", "pipe", "early").Val(), "something was sent")
	full(t, c, 2)
}

func TestPipelinesOfALeaseRunOnItsConnection(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 1, time.Second))
	ctx := t.Context()
	conn, err := c.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	id := conn.ClientID(ctx).Val()
	ask := func(p redis.Pipeliner) error { p.ClientID(ctx); return nil }
	cmds, err := conn.Pipelined(ctx, ask)
	require.NoError(t, err)
	require.Equal(t, id, cmds[0].(*redis.IntCmd).Val())
	cmds, err = conn.TxPipelined(ctx, ask)
	require.NoError(t, err)
	require.Equal(t, id, cmds[0].(*redis.IntCmd).Val())
	for _, p := range []redis.Pipeliner{conn.Pipeline(), conn.TxPipeline(), conn.Pipeline().Pipeline(), conn.Pipeline().TxPipeline()} {
		cmd := p.ClientID(ctx)
		require.Equal(t, 1, p.Len())
		_, err = p.Exec(ctx)
		require.NoError(t, err)
		require.Equal(t, id, cmd.Val())
		require.Zero(t, p.Len())
	}
	oops := errors.New("oops")
	_, err = conn.Pipelined(ctx, func(p redis.Pipeliner) error { p.Ping(ctx); return oops })
	require.Same(t, oops, err)
	_, err = conn.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, "n", "x", 0)
		p.Incr(ctx, "n")
		return nil
	})
	require.ErrorContains(t, err, "not an integer")
	require.Equal(t, "x", conn.Get(ctx, "n").Val())
}

// 64 goroutines use and release the same leases at the same time; nobody may be
// given a reply that is not theirs, and no slot may be lost.
func TestReleaseIsSafeFromManyGoroutinesWhileCommandsRun(t *testing.T) {
	s := redistest.Start(t)
	const size = 8
	c := client(t, sized(s, size+4, soon)) // with room for plain commands
	ctx := t.Context()
	var wg sync.WaitGroup
	stop := time.Now().Add(1500 * time.Millisecond)
	var mu sync.Mutex
	leases := make([]*managed.Conn, size) // shared by all
	for i := range leases {
		var err error
		leases[i], err = c.Acquire(ctx)
		require.NoError(t, err)
	}
	check := func(err error, got, want string) {
		switch {
		case err == nil:
			assert.Equal(t, want, got, "somebody else's reply")
		case !errors.Is(err, managed.ErrReleased):
			assert.NoError(t, err)
		}
	}
	for g := range 64 {
		wg.Go(func() {
			for i := 0; time.Now().Before(stop); i++ {
				mu.Lock()
				conn := leases[(g+i)%size]
				mu.Unlock()
				want := fmt.Sprint(g, "-", i)
				switch i % 7 {
				case 0, 1, 2:
					got, err := conn.Echo(ctx, want).Result()
					check(err, got, want)
				case 3:
					var cmd *redis.StringCmd
					_, err := conn.Pipelined(ctx, func(p redis.Pipeliner) error { cmd = p.Echo(ctx, want); return nil })
					check(err, cmd.Val(), want)
				case 4:
					got, err := c.Echo(ctx, want).Result()
					assert.NoError(t, err)
					assert.Equal(t, want, got, "somebody else's reply")
				default:
					if i%3 == 0 {
						conn.Discard()
					} else {
						conn.Release()
					}
					if next, err := c.TryAcquire(ctx); err == nil {
						mu.Lock()
						old := leases[(g+i)%size]
						leases[(g+i)%size] = next
						mu.Unlock()
						old.Release()
					}
				}
			}
		})
	}
	wg.Wait()
	for _, conn := range leases {
		conn.Release()
	}
	agree(t, s, c)
	full(t, c, size+4)
	agree(t, s, c)
}

// agree checks that the server, go-redis and the client know of the same
// connections once nothing is in use.
func agree(t testing.TB, s *redistest.Server, c *managed.Client) {
	t.Helper()
	redistest.Eventually(t, "CLIENT LIST, PoolStats and Conns agree", soon, func() bool {
		p := c.PoolStats()
		n := len(c.Conns())
		return p.IdleConns == p.TotalConns && int(p.TotalConns+p.PipelineStats.TotalConns) == n && s.NumClients(t) == n && p.PendingRequests == 0
	})
	require.Empty(t, c.Leases())
}

func TestALeaseThatLostItsConnectionGivesItsSlotBack(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 1, time.Second))
	for range 3 {
		conn, err := c.Acquire(t.Context())
		require.NoError(t, err)
		s.KillClients(t)
		require.Error(t, conn.Ping(t.Context()).Err())
		require.Error(t, conn.Ping(t.Context()).Err())
		conn.Release()
	}
	full(t, c, 1)
	agree(t, s, c)
}

func TestEventsTellOfAcquireAndRelease(t *testing.T) {
	s := redistest.Start(t)
	ev := &events{}
	c := client(t, s.Options(), ev.option())
	conn, err := c.Acquire(managed.WithLabel(t.Context(), "job"))
	require.NoError(t, err)
	id := conn.Info().ID
	time.Sleep(5 * time.Millisecond) // so that "how long" is not zero
	conn.Release()
	a, r := ev.wait(t, hooks.Acquired, 1)[0], ev.wait(t, hooks.Released, 1)[0]
	for _, e := range []hooks.Event{a, r} {
		require.Equal(t, id, e.ConnID)
		require.Equal(t, "job", e.Label)
		require.Contains(t, e.Site, "release_test.go:")
		require.Equal(t, s.Addr(), e.Node)
		require.WithinDuration(t, time.Now(), e.Time, soon)
	}
	require.GreaterOrEqual(t, r.Took, 5*time.Millisecond)
	require.Equal(t, id, ev.wait(t, hooks.Dialed, 1)[0].ConnID)
}

func TestAnEventHandlerMayUseTheClientAndMayPanic(t *testing.T) {
	s := redistest.Start(t)
	log := &journal{}
	var c *managed.Client
	ready := make(chan struct{})
	var once sync.Once
	done := make(chan struct{})
	c, err := managed.New(sized(s, 2, time.Second), log.option(), managed.WithEventHandler(func(e hooks.Event) {
		<-ready
		if e.Kind == hooks.Released {
			assert.NoError(t, c.Ping(context.Background()).Err())
			c.Leases()
			c.Conns()
			once.Do(func() { close(done) })
			panic("handler")
		}
	}))
	require.NoError(t, err)
	defer c.Close()
	close(ready)
	for range 2 {
		conn, err := c.Acquire(t.Context())
		require.NoError(t, err)
		conn.Release()
	}
	within(t, "the handler has run", func() { <-done })
	redistest.Eventually(t, "the panics are logged", soon, func() bool { return log.count("handler panicked") == 2 })
}

// panicky is an argument, and a destination of a reply, that panics.
type panicky struct{}

func (panicky) MarshalBinary() ([]byte, error) { panic("marshal") }
func (panicky) Write([]byte) (int, error)      { panic("write") }

// After a panic half a command may have been written to the connection, or half a reply read.
func TestAPanicOfTheCallersCodeOnALeaseClosesItsConnectionAndFreesItsSlot(t *testing.T) {
	s, cluster := redistest.Start(t), redistest.StartOneNodeCluster(t)
	ctx, ev := t.Context(), &events{}
	ring, err := managed.NewRingClient(&redis.RingOptions{Addrs: map[string]string{"a": s.Addr()}, PoolSize: 1, PoolTimeout: time.Second}, ev.option())
	require.NoError(t, err)
	defer ring.Close()
	hooked := client(t, sized(s, 1, time.Second), ev.option())
	hooked.AddHook(ctxHook{func(context.Context) {}})
	large := strings.Repeat("x", 100<<10)
	clients := map[string]redis.UniversalClient{
		"client":             client(t, sized(s, 1, time.Second), ev.option()),
		"client with a hook": hooked,
		"ring":               ring,
		"cluster":            clusterClient(t, &redis.ClusterOptions{Addrs: []string{cluster.Addr()}, PoolSize: 1, PoolTimeout: time.Second}, ev.option()),
	}
	panics := 0
	for what, run := range map[string]func(*managed.Conn) error{
		"command": func(c *managed.Conn) error { return c.Set(ctx, "k", panicky{}, 0).Err() },
		"reply": func(c *managed.Conn) error {
			return c.Process(ctx, redis.NewRawWriteToCmd(ctx, panicky{}, "get", "large"))
		},
		"pipeline": func(c *managed.Conn) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "large"); return p.Set(ctx, "k", panicky{}, 0).Err() })
			return err
		},
		"transaction": func(c *managed.Conn) error {
			_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Set(ctx, "k", panicky{}, 0).Err() })
			return err
		},
		"command after WATCH": func(c *managed.Conn) error {
			return cmp.Or(c.Do(ctx, "watch", "k").Err(), c.Set(ctx, "k", panicky{}, 0).Err())
		},
	} {
		for kind, c := range clients {
			require.NoError(t, c.Set(ctx, "large", large, 0).Err())
			require.Panics(t, func() {
				switch c := c.(type) {
				case *managed.Client:
					_ = c.AcquireFunc(ctx, run)
				case *managed.Ring:
					_ = c.AcquireFunc(ctx, "large", run)
				case *managed.ClusterClient:
					_ = c.AcquireFunc(ctx, "large", run)
				}
			}, what, kind)
			got, err := c.Get(ctx, "large").Result()
			require.NoErrorf(t, err, "%s: %s", kind, what)
			require.Truef(t, got == large, "%s: %s: another reply", kind, what)
			panics++
		}
	}
	redistest.Eventually(t, "all these connections are closed", soon, func() bool {
		n := 0
		for _, e := range ev.of(hooks.Closed) {
			if e.Reason == hooks.ReasonError {
				n++
			}
		}
		return n == panics
	})
	for kind, c := range clients {
		require.NoError(t, c.(interface{ CloseGracefully(context.Context) error }).CloseGracefully(deadline(t, soon)), kind)
	}
}
