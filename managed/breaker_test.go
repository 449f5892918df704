package managed_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// A caller whose time is shorter than a handshake says nothing about the server.
func TestCallersWhoseTimeIsShorterThanAHandshakeOpenNoBreaker(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	p.OnReply(func(int, []byte) redistest.Action { time.Sleep(60 * time.Millisecond); return redistest.Forward })
	policy := retry.Default()
	policy.Breaker = retry.BreakerPolicy{After: 50 * time.Millisecond, Probe: time.Hour}
	opt := s.Options()
	opt.Addr, opt.ContextTimeoutEnabled = p.Addr(), true
	c := client(t, opt, managed.WithRetry(policy))
	for range 6 {
		require.Error(t, c.Incr(deadline(t, 20*time.Millisecond), "n").Err())
		_, err := c.Pipelined(deadline(t, 20*time.Millisecond), func(p redis.Pipeliner) error { return p.Incr(t.Context(), "n").Err() })
		require.Error(t, err)
	}
	require.NoError(t, c.Incr(deadline(t, soon), "n").Err())
	require.Zero(t, c.RetryStats().BreakerOpened)
}
