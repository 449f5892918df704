package managed_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func TestShutdownLosesNoCommandThatWasAccepted(t *testing.T) {
	transports(t, func(t *testing.T, s *redistest.Server, opt *redis.Options) {
		opt.PoolSize, opt.PoolTimeout = 32, soon
		c := client(t, opt)
		key := redistest.UniqueKey(t, "n")
		var accepted, refused, other atomic.Int64
		var odd atomic.Pointer[error]
		note := func(n int64, err error) bool {
			switch {
			case err == nil:
				accepted.Add(n)
			case errors.Is(err, managed.ErrShutdown):
				refused.Add(1)
			default:
				other.Add(1)
				odd.Store(&err)
			}
			return err == nil
		}
		ctx := t.Context()
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				for {
					var err error
					n := int64(1)
					switch i % 4 {
					case 0:
						_, err = c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, key); p.Incr(ctx, key); return nil })
						n = 2
					case 1:
						_, err = c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, key); p.Incr(ctx, key); return nil })
						n = 2
					default:
						err = c.Incr(ctx, key).Err()
					}
					if !note(n, err) {
						return
					}
				}
			})
		}
		for range 5 {
			conn, err := c.Acquire(ctx)
			require.NoError(t, err)
			wg.Go(func() {
				defer conn.Release()
				for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
					note(1, conn.Incr(ctx, key).Err())
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		require.NoError(t, c.CloseGracefully(deadline(t, soon)))
		took := time.Since(began)
		wg.Wait()
		n, err := s.Admin().Get(ctx, key).Int64()
		require.NoError(t, err)
		t.Logf("took %v; %d accepted, %d at the server, %d refused", took, accepted.Load(), n, refused.Load())
		if other.Load() > 0 {
			t.Errorf("%d other errors, such as %v", other.Load(), *odd.Load())
		}
		require.Equal(t, accepted.Load(), n)
		require.EqualValues(t, 64, refused.Load())
		redistest.Eventually(t, "the server sees nobody", soon, func() bool { return s.NumClients(t) == 0 })
		require.ErrorIs(t, c.Ping(ctx).Err(), redis.ErrClosed)
		require.ErrorIs(t, c.CloseGracefully(ctx), redis.ErrClosed)
	})
}

func TestAfterItsDeadlineShutdownNamesTheHolders(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := client(t, s.Options())
	conn, err := c.Acquire(managed.WithLabel(t.Context(), "the report"))
	require.NoError(t, err)
	require.NoError(t, conn.Ping(t.Context()).Err())
	blocked := make(chan error, 1)
	go func() { blocked <- c.BLPop(t.Context(), soon, redistest.UniqueKey(t, "none")).Err() }()
	redistest.Eventually(t, "BLPOP is in flight", soon, func() bool {
		for _, i := range c.Conns() {
			if i.LastCommand == "blpop" {
				return true
			}
		}
		return false
	})
	began := time.Now()
	err = c.CloseGracefully(deadline(t, 200*time.Millisecond))
	took := time.Since(began)
	var held *managed.HeldError
	require.ErrorAs(t, err, &held)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Len(t, held.Leases, 1)
	require.Equal(t, "the report", held.Leases[0].Label)
	require.Contains(t, held.Leases[0].Site(), "shutdown_test.go")
	require.Len(t, held.InFlight, 1)
	require.Equal(t, "blpop", held.InFlight[0].LastCommand)
	t.Logf("after %v: %v", took, err)
	for _, word := range []string{"shut down with 1 lease held and 1 command in flight", "the report", "shutdown_test.go", "blpop"} {
		require.Contains(t, err.Error(), word)
	}
	require.Less(t, took, time.Second)
	select {
	case err := <-blocked:
		require.Error(t, err)
	case <-time.After(time.Second):
		t.Fatal("BLPOP goes on")
	}
	require.Error(t, conn.Ping(t.Context()).Err())
}

func TestShutdownWaitsForATransactionInProgress(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := client(t, s.Options())
	ctx := t.Context()
	key := redistest.UniqueKey(t, "n")
	inside, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- c.Watch(ctx, func(tx *redis.Tx) error {
			n, err := tx.Get(ctx, key).Int()
			if err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
			close(inside)
			time.Sleep(200 * time.Millisecond)
			_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, key, n+1, 0); return nil })
			return err
		}, key)
	}()
	<-inside
	require.NoError(t, c.CloseGracefully(deadline(t, soon)))
	require.NoError(t, <-done)
	require.Equal(t, "1", s.Admin().Get(ctx, key).Val())
	require.ErrorIs(t, c.Watch(ctx, func(*redis.Tx) error { return nil }, key), managed.ErrShutdown)
	_, err := c.Acquire(ctx)
	require.ErrorIs(t, err, redis.ErrClosed)
}

func TestShutdownDoesNotWaitForSubscriptions(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := client(t, s.Options())
	sub := c.Subscribe(t.Context(), "channel")
	defer sub.Close()
	_, err := sub.Receive(t.Context())
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, c.CloseGracefully(deadline(t, soon)))
	require.Less(t, redistest.Took(began), time.Second)
}

func TestCloseIsImmediate(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := client(t, s.Options())
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	blocked := make(chan error, 1)
	go func() { blocked <- c.BLPop(t.Context(), soon, redistest.UniqueKey(t, "none")).Err() }()
	time.Sleep(50 * time.Millisecond)
	began := time.Now()
	require.NoError(t, c.Close())
	require.Error(t, <-blocked)
	t.Logf("closed, with a command cut off, in %v", time.Since(began))
	require.Less(t, redistest.Took(began), 500*time.Millisecond)
	require.Error(t, conn.Ping(t.Context()).Err())
}

func TestWhileTheServerIsDownShutdownKeepsItsDeadline(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := client(t, s.Options())
	burst(t, c, 5)
	s.Kill()
	waiting := make(chan error, 1)
	go func() { waiting <- c.Get(deadline(t, soon), "key").Err() }()
	time.Sleep(50 * time.Millisecond)
	began := time.Now()
	err := c.CloseGracefully(deadline(t, 200*time.Millisecond))
	t.Logf("after %v: %v", time.Since(began), err)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "1 more waiting")
	require.Less(t, redistest.Took(began), time.Second)
	require.Error(t, <-waiting)
	require.Less(t, redistest.Took(began), 2*time.Second, "who waited for the server is let go")
}
