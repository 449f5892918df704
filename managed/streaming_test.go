package managed_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/auth"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// constant is a StreamingCredentialsProvider whose credentials never change.
type constant struct{ user, password string }

func (c constant) Subscribe(auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	return auth.NewBasicCredentials(c.user, c.password), func() error { return nil }, nil
}

func TestStreamingCredentialsWorkForCommandsAndLeasesAreRefused(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "hush")
	opt := sized(s, 4, time.Second)
	opt.Password, opt.StreamingCredentialsProvider = "", constant{"default", "hush"}
	c := client(t, opt)
	ctx := t.Context()
	_, err := c.Acquire(ctx)
	require.ErrorIs(t, err, managed.ErrStreaming)
	_, err = c.Warm(ctx, 2)
	require.ErrorIs(t, err, managed.ErrStreaming)
	require.NoError(t, c.Set(ctx, "k", "v", 0).Err())
	_, err = c.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Get(ctx, "k").Err() })
	require.NoError(t, err)
	require.Empty(t, c.Leases())
}

// Contract: why leases are refused.
func TestGoRedisPanicsInAConnWithStreamingCredentials(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "hush")
	opt := sized(s, 4, time.Second)
	opt.Password, opt.StreamingCredentialsProvider = "", constant{"default", "hush"}
	c := redis.NewClient(opt)
	defer c.Close()
	require.Panics(t, func() { c.Conn().Ping(t.Context()) },
		"go-redis opens connections of a Conn with StreamingCredentialsProvider now: ErrStreaming can go")
}
