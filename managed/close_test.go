package managed_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func TestNothingWorksOnAClosedClient(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, s.Options())
	ctx := t.Context()
	require.NoError(t, c.Ping(ctx).Err())
	require.NoError(t, c.Close())
	_, err := c.Acquire(ctx)
	require.Equal(t, redis.ErrClosed, err)
	_, err = c.TryAcquire(ctx)
	require.Equal(t, redis.ErrClosed, err)
	require.Equal(t, redis.ErrClosed, c.AcquireFunc(ctx, func(*managed.Conn) error { t.Error("fn ran"); return nil }))
	require.ErrorIs(t, c.Ping(ctx).Err(), redis.ErrClosed)
	_, err = c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Ping(ctx); return nil })
	require.ErrorIs(t, err, redis.ErrClosed)
	require.ErrorIs(t, c.Close(), redis.ErrClosed, "a second Close says so, as in go-redis")
	require.Empty(t, c.Conns())
	require.Empty(t, c.Leases())
}

func TestAWatchOnAClosedClientFails(t *testing.T) {
	s, one := redistest.Start(t), redistest.StartOneNodeCluster(t)
	ring, err := managed.NewRingClient(&redis.RingOptions{Addrs: map[string]string{"a": s.Addr()}}, managed.WithLogger(quiet))
	require.NoError(t, err)
	for name, c := range map[string]managed.UniversalClient{
		"client": client(t, s.Options()), "ring": ring, "cluster": clusterClient(t, &redis.ClusterOptions{Addrs: []string{one.Addr()}}),
	} {
		require.NoError(t, c.Set(t.Context(), "k", 1, 0).Err(), name)
		require.NoError(t, c.Close(), name)
		err := c.Watch(t.Context(), func(*redis.Tx) error { t.Error("fn ran"); return nil }, "k")
		require.Equal(t, redis.ErrClosed, err, name)
	}
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	for name, s := range map[string]*redistest.Server{"tcp": redistest.Start(t), "tls": redistest.StartTLS(t)} {
		t.Run(name, func(t *testing.T) {
			s.NumClients(t) // the judge has dialed
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			ev := &events{}
			c, err := managed.New(sized(s, 6, soon), managed.WithLogger(quiet), ev.option(), managed.WithLeakThreshold(time.Millisecond))
			require.NoError(t, err)
			ctx := context.Background()
			var held []*managed.Conn
			for range 3 {
				conn, err := c.Acquire(ctx)
				require.NoError(t, err)
				held = append(held, conn)
			}
			require.NoError(t, held[0].Do(ctx, "MULTI").Err())
			ended := make(chan error, 3)
			go func() { ended <- held[1].BLPop(ctx, 0, "list").Err() }()
			go func() { ended <- c.BLPop(ctx, 0, "list").Err() }()
			go func() {
				_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.BLPop(ctx, 0, "list"); return nil })
				ended <- err
			}()
			sub := c.Subscribe(ctx, "ch")
			_, err = sub.Receive(ctx)
			require.NoError(t, err)
			redistest.Eventually(t, "three commands in flight", soon, func() bool {
				n := 0
				for _, x := range s.ClientList(t) {
					if x.Flags == "b" {
						n++
					}
				}
				return n == 3
			})
			require.NoError(t, c.Close())
			within(t, "the commands in flight have ended", func() {
				for range 3 {
					assert.Error(t, <-ended)
				}
			})
			for _, conn := range held {
				require.Error(t, conn.Ping(ctx).Err())
				conn.Release()
				conn.Discard()
			}
			require.NoError(t, sub.Close())
			require.Empty(t, c.Leases())
			redistest.Eventually(t, "the server has no connection of ours", soon, func() bool { return s.NumClients(t) == 0 })
			require.Empty(t, c.Conns())
			for _, e := range ev.wait(t, hooks.Closed, 6) {
				require.Contains(t, []hooks.Reason{hooks.ReasonShutdown, hooks.ReasonError}, e.Reason)
			}
		})
	}
}

func TestCommandsOnALeaseOfAClosedClientSayThatItIsOver(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, s.Options())
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	result := make(chan error, 1)
	go func() { result <- conn.BLPop(context.Background(), 0, "list").Err() }()
	redistest.Eventually(t, "a command in flight", soon, func() bool { return c.Leases()[0].InFlight })
	require.NoError(t, c.Close())
	within(t, "the command has ended", func() { assert.Error(t, <-result) })
	require.ErrorIs(t, conn.Ping(t.Context()).Err(), managed.ErrReleased)
}

func TestAcquireDuringCloseLosesNothing(t *testing.T) {
	s := redistest.Start(t)
	s.NumClients(t)
	before := goleak.IgnoreCurrent()
	defer func() { // go-redis looks once a second whether a client that could not dial has been closed
		redistest.Eventually(t, "no goroutine is left", soon, func() bool { return goleak.Find(before) == nil })
	}()
	for range 20 {
		c := managed.NewClient(sized(s, 4, soon), managed.WithLogger(quiet))
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range 8 {
			wg.Go(func() {
				<-start
				for {
					conn, err := c.Acquire(context.Background())
					if err != nil {
						if !errors.Is(err, redis.ErrClosed) {
							t.Errorf("Acquire during Close: %v", err)
						}
						return
					}
					_ = conn.Ping(context.Background()).Err()
					conn.Release()
				}
			})
		}
		close(start)
		time.Sleep(3 * time.Millisecond) // into the middle of it
		require.NoError(t, c.Close())
		within(t, "everybody has been told", wg.Wait)
		require.Empty(t, c.Leases())
		redistest.Eventually(t, "the server has no connection of ours", soon, func() bool { return s.NumClients(t) == 0 })
		require.Empty(t, c.Conns())
	}
}

func TestAFailedNewOrOpenLeavesNothingBehind(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "right")
	s.NumClients(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	_, err := managed.New(&redis.Options{Addr: s.Addr(), PoolSize: -1})
	require.Error(t, err)
	_, err = managed.Open(t.Context(), "redis://:wrong@"+s.Addr())
	require.Error(t, err)
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = managed.Open(short, "rediss://"+s.Addr())
	require.Error(t, err)
	c := managed.NewClient(&redis.Options{Addr: s.Addr(), Password: "wrong"}, managed.WithLogger(quiet))
	for range 20 {
		_, err = c.Acquire(t.Context())
		require.ErrorContains(t, err, "WRONGPASS")
	}
	require.NoError(t, c.Close())
	redistest.Eventually(t, "the server has no connection of ours", soon, func() bool { return s.NumClients(t) == 0 })
}

func TestSharedIsOneClientPerURLUntilTheLastClose(t *testing.T) {
	s := redistest.Start(t)
	url := "redis://" + s.Addr() + "/1"
	ctx := t.Context()
	a, err := managed.Shared(url, managed.WithLogger(quiet))
	require.NoError(t, err)
	b, err := managed.Shared(url)
	require.NoError(t, err)
	other, err := managed.Shared("redis://" + s.Addr() + "/2")
	require.NoError(t, err)
	require.NoError(t, a.Set(ctx, "k", "v", 0).Err())
	require.Equal(t, "v", b.Get(ctx, "k").Val())
	require.ErrorIs(t, other.Get(ctx, "k").Err(), redis.Nil)
	require.Len(t, a.Conns(), 1, "the two handles share a pool")
	require.Equal(t, a.Conns()[0].ID, b.Conns()[0].ID)
	require.Len(t, other.Conns(), 1)

	conn, err := a.Acquire(ctx)
	require.NoError(t, err)
	require.Len(t, b.Leases(), 1)
	require.NoError(t, a.Close())
	require.ErrorIs(t, a.Close(), redis.ErrClosed)
	_, err = a.Acquire(ctx)
	require.Equal(t, redis.ErrClosed, err, "a closed handle")
	_, err = a.TryAcquire(ctx)
	require.Equal(t, redis.ErrClosed, err)
	require.Equal(t, redis.ErrClosed, a.AcquireFunc(ctx, func(*managed.Conn) error { return nil }))
	require.NoError(t, conn.Ping(ctx).Err(), "the lease is still held")
	conn.Release()
	require.NoError(t, b.Ping(ctx).Err(), "the client lives as long as somebody has it")

	c, err := managed.Shared(url)
	require.NoError(t, err)
	require.Len(t, c.Conns(), 1)
	require.NoError(t, c.Close())
	require.NoError(t, b.Ping(ctx).Err())
	require.NoError(t, b.Close())
	require.ErrorIs(t, b.Ping(ctx).Err(), redis.ErrClosed)
	require.NoError(t, other.Close())
	redistest.Eventually(t, "the server has no connection of ours", soon, func() bool { return s.NumClients(t) == 0 })

	// The next one is a new client.
	d, err := managed.Shared(url)
	require.NoError(t, err)
	require.NoError(t, d.Ping(ctx).Err())
	require.NoError(t, d.Close())
	_, err = managed.Shared("redis://host:port:port")
	require.Error(t, err)
}

func TestSharedIsSafeFromManyGoroutines(t *testing.T) {
	s := redistest.Start(t)
	url := "redis://" + s.Addr() + "/3"
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 20 {
				c, err := managed.Shared(url, managed.WithLogger(quiet))
				if !assert.NoError(t, err) {
					return
				}
				assert.NoError(t, c.Ping(context.Background()).Err())
				assert.NoError(t, c.Close())
				assert.ErrorIs(t, c.Close(), redis.ErrClosed)
			}
		})
	}
	wg.Wait()
	redistest.Eventually(t, "the server has no connection of ours", soon, func() bool { return s.NumClients(t) == 0 })
}
