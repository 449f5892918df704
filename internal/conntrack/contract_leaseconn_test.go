package conntrack_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// Plain go-redis: a Conn of a clone takes its connection from the pool of the client, and
// runs the hooks of the clone only. The leases of a managed client are made so.
func TestContractAConnOfACloneUsesThePoolOfItsClient(t *testing.T) {
	ctx := t.Context()
	opt := redistest.Options(t)
	opt.PoolSize = 1
	c := redis.NewClient(opt)
	defer c.Close()
	seen := 0
	c.AddHook(seeingHook{&seen})
	require.NoError(t, c.Ping(ctx).Err())
	clone := c.WithTimeout(opt.ReadTimeout)
	seen = 0
	conn := clone.Conn()
	id, err := conn.ClientID(ctx).Result()
	require.NoError(t, err)
	require.Zero(t, seen, "a hook of the client saw a command on a Conn of its clone")
	require.EqualValues(t, 1, c.PoolStats().TotalConns, "the Conn has a connection of another pool")
	require.NoError(t, conn.Close())
	same, err := c.ClientID(ctx).Result()
	require.NoError(t, err)
	require.Equal(t, id, same, "the connection of the Conn did not come back to the pool")
}

type seeingHook struct{ n *int }

func (h seeingHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h seeingHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		*h.n++
		return next(ctx, cmd)
	}
}

func (h seeingHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
