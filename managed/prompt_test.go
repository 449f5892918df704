package managed_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// overrun is by how much a call may outlive its ctx, or the client. The race detector
// and a busy machine get more.
const overrun = 300 * time.Millisecond

func TestCloseEndsHandshakesAndWaitsForThem(t *testing.T) {
	t.Parallel()
	silent := redistest.Mute(t)
	for name, make := range map[string]func() interface {
		redis.UniversalClient
	}{
		"client": func() interface{ redis.UniversalClient } { return managed.NewClient(&redis.Options{Addr: silent}) },
		"cluster": func() interface{ redis.UniversalClient } {
			return managed.NewClusterClient(&redis.ClusterOptions{Addrs: []string{silent}})
		},
		"sentinel": func() interface{ redis.UniversalClient } {
			return managed.NewFailoverClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{silent}})
		},
		"sentinels, reads from replicas": func() interface{ redis.UniversalClient } {
			return managed.NewFailoverClusterClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{silent}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := make()
			var calls sync.WaitGroup
			for range 8 {
				calls.Go(func() {
					if err := c.Get(context.Background(), "k").Err(); err == nil || errors.Is(err, redis.Nil) {
						t.Errorf("a silent server answered: %v", err)
					}
				})
			}
			time.Sleep(200 * time.Millisecond)
			start := time.Now()
			require.NoError(t, c.Close())
			calls.Wait()
			require.Less(t, time.Since(start), overrun)
		})
	}
}

func TestNoCallOutlivesItsCtxWhileTheMapOfTheClusterIsNotKnown(t *testing.T) {
	t.Parallel()
	silent := redistest.Mute(t)
	for name, c := range map[string]*managed.ClusterClient{
		"cluster":  managed.NewClusterClient(&redis.ClusterOptions{Addrs: []string{silent}}),
		"sentinel": managed.NewFailoverClusterClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{silent}}),
	} {
		defer c.Close()
		for what, call := range map[string]func(context.Context) error{
			"command": func(ctx context.Context) error { return c.Get(ctx, "k").Err() },
			"pipeline": func(ctx context.Context) error {
				_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); return nil })
				return err
			},
			"watch":   func(ctx context.Context) error { return c.Watch(ctx, func(*redis.Tx) error { return nil }, "k") },
			"acquire": func(ctx context.Context) error { _, err := c.Acquire(ctx, "k"); return err },
			"warm":    func(ctx context.Context) error { _, err := c.Warm(ctx, 1); return err },
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			start := time.Now()
			err := call(ctx)
			took := time.Since(start)
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded, "%s of a %s", what, name)
			require.Less(t, took, 100*time.Millisecond+overrun, "%s of a %s", what, name)
		}
	}
}

func TestAcquireDoesNotOutliveItsCtxWhileTheServerIsUnresponsive(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	for name, after := range map[string]time.Duration{"fresh": -1, "validated": 0, "all leases failed": -1} {
		p := redistest.NewProxy(t, s.Addr())
		opt := s.Options()
		opt.Addr, opt.PoolSize = p.Addr(), 4
		c := client(t, opt, managed.WithValidateAfter(after))
		switch name {
		case "validated":
			burst(t, c, 2)
		case "all leases failed":
			full(t, c, opt.PoolSize)
			var held []*managed.Conn
			for range opt.PoolSize {
				conn, err := c.Acquire(t.Context())
				require.NoError(t, err)
				held = append(held, conn)
			}
			p.CutAll()
			for i, conn := range held {
				require.Error(t, conn.Ping(t.Context()).Err())
				if i%2 == 0 {
					conn.Discard()
				}
				conn.Release()
			}
		}
		p.Stall(true)
		for _, acquire := range []func(context.Context) (*managed.Conn, error){c.Acquire, c.TryAcquire} {
			for range 4 {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				start := time.Now()
				conn, err := acquire(ctx)
				took := time.Since(start)
				cancel()
				require.Error(t, err, name)
				require.Nil(t, conn)
				require.Less(t, took, 50*time.Millisecond+overrun, name)
			}
		}
	}
}

// A ctx that is shorter than a round trip is no reason to give up a connection.
func TestAnAcquireThatIsTooShortForItsPingLosesNoConnection(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize = p.Addr(), 4
	var ev events
	c := client(t, opt, ev.option(), managed.WithValidateAfter(0))
	burst(t, c, 2)
	settled(t, s)
	p.OnReply(func(int, []byte) redistest.Action { time.Sleep(80 * time.Millisecond); return redistest.Forward })
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		_, err := c.Acquire(ctx)
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		time.Sleep(150 * time.Millisecond)
	}
	require.Len(t, c.Conns(), 2)
	require.Empty(t, ev.of(hooks.Closed))
}
