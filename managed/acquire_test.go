package managed_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func TestALeaseIsOneConnectionForOneCaller(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 2, time.Second))
	ctx := t.Context()
	a, err := c.Acquire(ctx)
	require.NoError(t, err)
	id := own(t, s, a).ID
	for range 5 {
		require.Equal(t, id, a.ClientID(ctx).Val())
		require.NotEqual(t, id, c.ClientID(ctx).Val(), "a plain command runs on the leased connection")
	}
	b, err := c.Acquire(ctx)
	require.NoError(t, err)
	require.NotEqual(t, id, b.ClientID(ctx).Val())
	require.NotEqual(t, a.Info().ID, b.Info().ID)
	a.Release()
	b.Release()
	require.Len(t, c.Conns(), 2, "the connections were kept")
	full(t, c, 2)
}

func TestAcquiringAnIdleConnectionCostsNoNetworkTraffic(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize = p.Addr(), 1
	c := client(t, opt)
	require.NoError(t, c.Ping(t.Context()).Err())
	redistest.Eventually(t, "the server was asked for maxclients and timeout", soon, func() bool { return calls(t, s, "config|get") >= 2 })
	var requests atomic.Int32
	p.OnRequest(func(int, []byte) redistest.Action { requests.Add(1); return redistest.Forward })
	for range 100 {
		conn, err := c.Acquire(t.Context())
		require.NoError(t, err)
		conn.Release()
	}
	require.Zero(t, requests.Load())
	require.Equal(t, 1, p.Accepted())
}

func TestInfoAndContextDescribeTheLease(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, s.Options())
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "mine")
	conn, err := c.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	require.Equal(t, "mine", conn.Context().Value(key{}))
	require.NoError(t, conn.Set(conn.Context(), "k", "v", 0).Err())
	i := conn.Info()
	require.Equal(t, own(t, s, conn).Addr, i.Local)
	require.Equal(t, "set", i.LastCommand)
	require.Equal(t, hooks.StateLeased, i.State)
	require.Equal(t, hooks.PoolMain, i.Pool)
	require.Equal(t, c.Conns()[0].ID, i.ID)
}

func TestLeasesTellsWhoHoldsWhat(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, s.Options())
	require.Empty(t, c.Leases())
	a, err := c.Acquire(managed.WithLabel(t.Context(), "report"))
	require.NoError(t, err)
	_, file, line, _ := runtime.Caller(0)
	b, err := c.TryAcquire(t.Context())
	require.NoError(t, err)
	require.NoError(t, a.Set(t.Context(), "k", "v", 0).Err())
	blocked := make(chan error, 1)
	go func() { blocked <- b.BLPop(t.Context(), 0, "list").Err() }()
	redistest.Eventually(t, "a command in flight", soon, func() bool { return c.Leases()[1].InFlight })

	l := c.Leases()
	require.Len(t, l, 2)
	require.Equal(t, fmt.Sprintf("%s:%d", file, line-2), l[0].Site())
	require.Contains(t, l[0].Stack(), "TestLeasesTellsWhoHoldsWhat")
	require.Equal(t, fmt.Sprintf("%s:%d", file, line+1), l[1].Site())
	require.Equal(t, "report", l[0].Label)
	require.Empty(t, l[1].Label)
	require.Equal(t, "set", l[0].Conn.LastCommand)
	require.Equal(t, a.Info().ID, l[0].Conn.ID)
	require.Equal(t, b.Info().ID, l[1].Conn.ID)
	require.False(t, l[0].InFlight)
	require.Greater(t, l[0].Age, l[1].Age)
	require.WithinDuration(t, time.Now(), l[0].Acquired, soon)
	require.NotEqual(t, l[0].ID, l[1].ID)
	require.Contains(t, l[0].String(), "(report)")
	require.Contains(t, l[0].String(), "last command set")

	a.Release()
	require.Len(t, c.Leases(), 1)
	require.NoError(t, s.Admin().LPush(t.Context(), "list", 1).Err())
	require.NoError(t, <-blocked)
	b.Discard()
	require.Empty(t, c.Leases())
}

func TestTheSiteOfAnAcquireFuncIsItsCaller(t *testing.T) {
	c := client(t, redistest.Options(t), managed.WithLeaseStacks(managed.StackSite))
	_, file, line, _ := runtime.Caller(0)
	err := c.AcquireFunc(t.Context(), func(conn *managed.Conn) error {
		l := c.Leases()[0]
		require.Equal(t, fmt.Sprintf("%s:%d", file, line+1), l.Site())
		require.Equal(t, 1, strings.Count(l.Stack(), "\n\t"), "StackSite keeps one frame")
		return nil
	})
	require.NoError(t, err)
}

func TestAcquireFuncReleasesOnEveryWayOut(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 1, time.Second))
	ctx := t.Context()
	oops := errors.New("oops")

	require.NoError(t, c.AcquireFunc(ctx, func(conn *managed.Conn) error { return conn.Ping(ctx).Err() }))
	require.Empty(t, c.Leases())
	require.Same(t, oops, c.AcquireFunc(ctx, func(*managed.Conn) error { return oops }))
	require.Empty(t, c.Leases())
	require.PanicsWithValue(t, "ouch", func() {
		_ = c.AcquireFunc(ctx, func(conn *managed.Conn) error {
			_ = conn.Do(ctx, "MULTI").Err()
			panic("ouch")
		})
	})
	require.Empty(t, c.Leases())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.AcquireFunc(ctx, func(*managed.Conn) error { runtime.Goexit(); return nil })
		t.Error("Goexit did not end the goroutine")
	}()
	<-done
	require.Empty(t, c.Leases())
	require.NoError(t, c.AcquireFunc(ctx, func(conn *managed.Conn) error { conn.Release(); return nil }))
	require.NoError(t, c.AcquireFunc(ctx, func(conn *managed.Conn) error { conn.Discard(); return nil }))
	full(t, c, 1)

	// It does not run fn without a lease.
	conn, err := c.Acquire(ctx)
	require.NoError(t, err)
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	err = c.AcquireFunc(short, func(*managed.Conn) error { t.Error("fn ran"); return nil })
	require.ErrorIs(t, err, redis.ErrPoolTimeout)
	conn.Release()
}

func TestTryAcquireNeverWaitsForASlot(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 1, 30*time.Second))
	ctx := t.Context()
	held, err := c.Acquire(ctx)
	require.NoError(t, err)
	for range 20 {
		start := time.Now()
		_, err = c.TryAcquire(ctx)
		took := time.Since(start)
		var full *managed.ExhaustedError
		require.ErrorAs(t, err, &full)
		require.ErrorIs(t, err, redis.ErrPoolTimeout)
		require.Zero(t, full.Waited)
		require.Less(t, took, time.Second)
	}
	require.Zero(t, c.PoolStats().Timeouts, "a TryAcquire counts as a pool timeout")
	held.Release()
	conn, err := c.TryAcquire(ctx)
	require.NoError(t, err)
	conn.Release()
}

func TestTryAcquireDialsWhereThereIsRoom(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "pw")
	for name, change := range map[string]func(*redis.Options){
		"plainly": func(*redis.Options) {},
		"with ContextTimeoutEnabled": func(o *redis.Options) {
			o.ContextTimeoutEnabled = true
		},
		"with credentials that need a ctx": func(o *redis.Options) {
			o.Password = ""
			o.CredentialsProviderContext = func(ctx context.Context) (string, string, error) { return "", "pw", ctx.Err() }
		},
		"with an OnConnect that needs a ctx": func(o *redis.Options) {
			o.OnConnect = func(ctx context.Context, conn *redis.Conn) error {
				select {
				case <-ctx.Done():
					return ctx.Err()
				default:
					return conn.Ping(ctx).Err()
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			opt := sized(s, 3, time.Second)
			change(opt)
			c := client(t, opt)
			ctx, cancel := context.WithTimeout(t.Context(), soon)
			defer cancel()
			var held []*managed.Conn
			for range 3 {
				conn, err := c.TryAcquire(ctx)
				require.NoError(t, err)
				require.NoError(t, conn.Ping(ctx).Err())
				held = append(held, conn)
			}
			_, err := c.TryAcquire(ctx)
			require.ErrorIs(t, err, redis.ErrPoolTimeout)
			require.Len(t, c.Conns(), 3)
			for _, conn := range held {
				conn.Release()
			}
			full(t, c, 3)
		})
	}
}

func TestTryAcquireFromManyGoroutinesNeverGivesOutMoreThanThePoolHas(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 4, time.Second))
	var held, most, taken atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 50 {
				conn, err := c.TryAcquire(t.Context())
				if err != nil {
					assert.ErrorIs(t, err, redis.ErrPoolTimeout)
					continue
				}
				n := held.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				taken.Add(1)
				assert.NoError(t, conn.Ping(t.Context()).Err())
				held.Add(-1)
				conn.Release()
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, most.Load(), int32(4))
	require.NotZero(t, taken.Load())
	full(t, c, 4)
}

func TestTryAcquireSaysThatTheServerIsDown(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 2, time.Second))
	s.Kill()
	for range 5 {
		_, err := c.TryAcquire(t.Context())
		require.ErrorContains(t, err, s.Addr())
		var ce *hooks.ConnError
		require.ErrorAs(t, err, &ce)
		require.Equal(t, conntrack.OpDial, ce.Op)
		require.True(t, ce.Unsent())
		require.NotErrorIs(t, err, redis.ErrPoolTimeout)
	}
	s.Restart()
	redistest.Eventually(t, "a lease after the restart", soon, func() bool {
		conn, err := c.TryAcquire(t.Context())
		if err == nil {
			conn.Release()
		}
		return err == nil
	})
	full(t, c, 2)
}

func TestTryAcquireSaysThatThePasswordIsWrong(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "right")
	opt := sized(s, 2, time.Second)
	opt.Password = "wrong-hush"
	c := client(t, opt)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for range 5 {
		_, err := c.TryAcquire(ctx)
		require.ErrorContains(t, err, "WRONGPASS")
		require.NotContains(t, err.Error(), "hush")
	}
	// One that was dialed and not needed may wait in the pool.
	require.NoError(t, c.Close())
	redistest.Eventually(t, "nothing is left open", soon, func() bool { return s.NumClients(t) == 0 })
}

func TestTryAcquireHeedsItsCtxWhileItDials(t *testing.T) {
	opt := redistest.Options(t)
	block := make(chan struct{})
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		select {
		case <-block:
		case <-ctx.Done():
		}
		return nil, errors.New("no")
	}
	c := client(t, opt)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	within(t, "TryAcquire", func() {
		_, err := c.TryAcquire(ctx)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	})
	close(block)
	redistest.Eventually(t, "the dial has ended", soon, func() bool { return c.Options() != nil && len(c.Conns()) == 0 })
}

func TestAcquireTimeoutBoundsTheWaitOnly(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 1, 30*time.Second), managed.WithAcquireTimeout(30*time.Millisecond))
	held, err := c.Acquire(t.Context())
	require.NoError(t, err)
	start := time.Now()
	_, err = c.Acquire(t.Context())
	require.ErrorIs(t, err, redis.ErrPoolTimeout)
	require.GreaterOrEqual(t, time.Since(start), 30*time.Millisecond)
	require.Less(t, time.Since(start), soon)
	require.NoError(t, t.Context().Err())
	// The lease itself outlives the timeout.
	require.ErrorIs(t, held.BLPop(t.Context(), 100*time.Millisecond, "none").Err(), redis.Nil)
	held.Release()
	full(t, c, 1)
}

func TestAcquireWithACtxThatIsDoneTakesNothing(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 1, time.Second))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 5 {
		_, err := c.Acquire(ctx)
		require.ErrorIs(t, err, context.Canceled)
		_, err = c.TryAcquire(ctx)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, c.AcquireFunc(ctx, func(*managed.Conn) error { return nil }), context.Canceled)
	}
	full(t, c, 1)
}

func TestASelfDeadlockIsFoundAtOnce(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 2, 30*time.Second))
	other := client(t, sized(s, 1, 30*time.Second))
	start := time.Now()
	err := c.AcquireFunc(t.Context(), func(outer *managed.Conn) error {
		ctx := outer.Context()
		// There is room: nesting is fine.
		return c.AcquireFunc(ctx, func(inner *managed.Conn) error {
			for range 3 {
				_, err := c.Acquire(inner.Context())
				require.ErrorIs(t, err, managed.ErrSelfDeadlock)
				require.ErrorContains(t, err, "acquire_test.go")
				require.ErrorIs(t, c.AcquireFunc(ctx, func(*managed.Conn) error { return nil }), managed.ErrSelfDeadlock)
			}
			_, err := c.TryAcquire(ctx)
			require.Error(t, err)
			// Another client's pool has nothing to do with it.
			conn, err := other.Acquire(ctx)
			require.NoError(t, err)
			conn.Release()
			return nil
		})
	})
	require.NoError(t, err)
	require.Less(t, time.Since(start), soon)

	// Without a lease a ctx is like any other, one whose lease was released too.
	a, err := c.Acquire(t.Context())
	require.NoError(t, err)
	b, err := c.Acquire(t.Context())
	require.NoError(t, err)
	ctx := a.Context()
	a.Release()
	a, err = c.Acquire(t.Context())
	require.NoError(t, err)
	go func() {
		redistest.Eventually(t, "a waiter", soon, func() bool { return c.PoolStats().PendingRequests > 0 })
		b.Release()
	}()
	conn, err := c.Acquire(ctx)
	require.NoError(t, err)
	conn.Release()
	a.Release()
	full(t, c, 2)
}

func TestMaintenanceNeverMakesThePoolLookExhausted(t *testing.T) {
	s := redistest.Start(t)
	// A heartbeat this quick visits the idle connections all the time.
	c := client(t, sized(s, 2, soon), managed.WithHeartbeat(time.Millisecond))
	require.NoError(t, c.AcquireFunc(t.Context(), func(outer *managed.Conn) error {
		for range 1000 {
			conn, err := c.TryAcquire(t.Context())
			require.NoError(t, err)
			conn.Release()
			conn, err = c.Acquire(outer.Context())
			require.NoError(t, err)
			conn.Release()
		}
		return nil
	}))
}

func TestASelfDeadlockIsNotFoundWhereThereIsNone(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 3, soon))
	var wg sync.WaitGroup
	// At most 3 of 4 connections are wanted at any time, so that nobody can be
	// told of a deadlock.
	for range 1 {
		wg.Go(func() {
			for range 200 {
				assert.NoError(t, c.AcquireFunc(t.Context(), func(outer *managed.Conn) error {
					return c.AcquireFunc(outer.Context(), func(inner *managed.Conn) error { return inner.Ping(inner.Context()).Err() })
				}))
			}
		})
	}
	wg.Go(func() {
		for range 400 {
			assert.NoError(t, c.Ping(t.Context()).Err())
		}
	})
	wg.Wait()
	full(t, c, 3)
}
