package managed_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// Redis does not answer the first record of TLS, and waits for the end of a line.
func TestTheErrorOfACallerThatGivesUpDuringADialNamesTheServer(t *testing.T) {
	opt := redistest.Start(t).Options()
	opt.TLSConfig = redistest.StartTLS(t).Options().TLSConfig
	c := client(t, opt)
	for name, call := range map[string]func(context.Context) error{
		"a command": func(ctx context.Context) error { return c.Get(ctx, "k").Err() },
		"a pipeline": func(ctx context.Context) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { return p.Get(ctx, "k").Err() })
			return err
		},
		"a lease": func(ctx context.Context) error { _, err := c.Acquire(ctx); return err },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			err := call(ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "lifeguard: dial "+opt.Addr+": context deadline exceeded")
		})
	}
}

// go-redis unwraps the error of a failed dial once, and would leave the address of a Sentinel alone.
func TestWithoutSentinelsTheErrorSaysSo(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	c, err := managed.NewFailover(&redis.FailoverOptions{MasterName: "orders", SentinelAddrs: []string{ln.Addr().String()}}, managed.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorContains(t, c.Get(ctx, "k").Err(), // its ctx may end in a pause
		"redis: all sentinels specified in configuration are unreachable: lifeguard: dial "+ln.Addr().String()+": connection refused")
}
