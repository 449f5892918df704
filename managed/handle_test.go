package managed_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func TestAClosedHandleOfSharedIsClosedAndTheOthersAreNot(t *testing.T) {
	url := "redis://" + redistest.Options(t).Addr + "/?client_name=handles"
	a, err := managed.Shared(url, managed.WithLogger(quiet))
	require.NoError(t, err)
	b, err := managed.Shared(url)
	require.NoError(t, err)
	ctx := t.Context()
	h := &tracing{}
	a.AddHook(h)
	require.NoError(t, a.Ping(ctx).Err())
	clone := a.WithTimeout(time.Second)
	require.NoError(t, a.Close())
	for _, c := range []*managed.Client{a, clone} {
		require.Equal(t, redis.ErrClosed, c.Ping(ctx).Err())
		_, err = c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Ping(ctx); return nil })
		require.Equal(t, redis.ErrClosed, err)
		_, err = c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Ping(ctx); return nil })
		require.Equal(t, redis.ErrClosed, err)
		require.ErrorIs(t, c.Watch(ctx, func(*redis.Tx) error { t.Error("entered"); return nil }, "k"), redis.ErrClosed)
		require.Equal(t, redis.ErrClosed, c.Conn().Ping(ctx).Err())
		require.Equal(t, redis.ErrClosed, c.Adaptive().Ping(ctx).Err())
		_, err = c.Acquire(ctx)
		require.Equal(t, redis.ErrClosed, err)
	}
	h.take()
	require.NoError(t, b.Ping(ctx).Err())
	require.Len(t, b.Conns(), 1, "they share the pool")
	seen, _ := h.take()
	require.Empty(t, seen, "the hook of another handle")
	require.NoError(t, b.Close())
	require.Equal(t, redis.ErrClosed, b.Ping(ctx).Err())
}

func TestTheTimeoutOfACloneHoldsForBlockingCommandsInAPoolOfTheirOwn(t *testing.T) {
	opt := redistest.Options(t)
	opt.ReadTimeout = 50 * time.Millisecond
	c := client(t, opt, managed.WithBlockingPool(2))
	key := redistest.UniqueKey(t, "none")
	require.Error(t, c.Do(t.Context(), "blpop", key, "0.3").Err())
	require.Equal(t, redis.Nil, c.WithTimeout(10*time.Second).Do(t.Context(), "blpop", key, "0.3").Err())
}
