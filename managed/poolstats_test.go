package managed_test

import (
	"context"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// go-redis keeps what it dialed for a caller who has given up in the pool the caller asked: a dial
// that failed is no connection there, neither in the main nor in the pipeline pool.
func TestADialThatFailedAfterItsCallerGaveUpCountsInNeitherPool(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(ctx context.Context, c redis.Cmdable) error{
		"main":     func(ctx context.Context, c redis.Cmdable) error { return c.Ping(ctx).Err() },
		"pipeline": func(ctx context.Context, c redis.Cmdable) error { return pipelined(ctx, c) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refuse := make(chan struct{})
			c := client(t, &redis.Options{Addr: "127.0.0.1:1", Dialer: func(context.Context, string, string) (net.Conn, error) {
				<-refuse
				return nil, syscall.ECONNREFUSED
			}})
			require.ErrorIs(t, call(deadline(t, 20*time.Millisecond), c), context.DeadlineExceeded)
			close(refuse)
			redistest.Eventually(t, "go-redis has put the dial that failed in its pool", soon, func() bool {
				own := c.Client.PoolStats()
				return own.IdleConns+own.PipelineStats.IdleConns > 0
			})
			s := c.PoolStats()
			require.Equal(t, [4]uint32{}, [4]uint32{s.TotalConns, s.IdleConns, s.PipelineStats.TotalConns, s.PipelineStats.IdleConns})
		})
	}
}

func pipelined(ctx context.Context, c redis.Cmdable) error {
	_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Ping(ctx)
		return nil
	})
	return err
}
