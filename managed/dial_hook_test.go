package managed_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// dials counts what a DialHook sees.
type dials struct{ good, bad atomic.Int32 }

func (d *dials) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := next(ctx, network, addr)
		if err != nil {
			d.bad.Add(1)
		} else {
			d.good.Add(1)
		}
		return c, err
	}
}
func (*dials) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (*dials) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestADialHookSeesTheDialsThatFailAndPoolStatsShowNoConnectionOfThem(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	d := newDoor(t, s.Addr())
	managers := map[string]func() redis.UniversalClient{
		"client": func() redis.UniversalClient {
			return managed.NewClient(&redis.Options{Addr: d.addr, MinIdleConns: 5, PoolSize: 10})
		},
		"ring": func() redis.UniversalClient {
			return managed.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": d.addr}, MinIdleConns: 5, PoolSize: 10, HeartbeatFrequency: time.Hour})
		},
	}
	for name, make := range managers {
		t.Run(name, func(t *testing.T) {
			c := make()
			defer c.Close()
			if c, ok := c.(*managed.Ring); ok {
				require.NoError(t, c.Ping(t.Context()).Err())
			}
			var seen dials
			c.AddHook(&seen)
			require.NoError(t, c.Set(t.Context(), "k", "v", 0).Err())
			redistest.Eventually(t, "MinIdleConns are open", soon, func() bool { return c.PoolStats().IdleConns >= 5 })
			d.shut()
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			err := c.Get(ctx, "k").Err()
			require.Error(t, err)
			require.True(t, errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, context.DeadlineExceeded), err)
			redistest.Eventually(t, "no connection is shown", soon, func() bool {
				ps := c.PoolStats()
				return ps.TotalConns == 0 && ps.IdleConns == 0
			})
			good := seen.good.Load()
			if name == "client" {
				require.Positive(t, seen.bad.Load())
			}
			d.open()
			require.NoError(t, c.Get(t.Context(), "k").Err())
			redistest.Eventually(t, "MinIdleConns are open again", soon, func() bool { return c.PoolStats().IdleConns >= 5 })
			if name == "client" {
				require.Greater(t, seen.good.Load(), good)
			}
		})
	}
}
