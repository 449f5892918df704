package managed_test

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestTheTargetOfInstrumentHasTheOptionsOfTheClientAndSendsNothing(t *testing.T) {
	opt := redistest.Options(t)
	opt.DB, opt.MinIdleConns, opt.PoolSize = 3, 2, 7
	c := client(t, opt)
	require.NoError(t, c.Instrument(func(target *redis.Client) error {
		require.Equal(t, opt.Addr, target.Options().Addr)
		require.Equal(t, 3, target.Options().DB)
		require.Equal(t, 7, target.Options().PoolSize)
		require.ErrorContains(t, target.Ping(t.Context()).Err(), "is for adding hooks to")
		_, err := target.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Ping(t.Context()); return nil })
		require.Error(t, err)
		return nil
	}))
	require.NoError(t, c.Ping(t.Context()).Err())
}

func TestAnErrorOfAnInstrumentAddsNoHook(t *testing.T) {
	c, h, broken := client(t, redistest.Options(t)), &tracing{}, errors.New("broken")
	require.Equal(t, broken, c.Instrument(func(target *redis.Client) error { target.AddHook(h); return broken }))
	require.NoError(t, c.Ping(t.Context()).Err())
	lines, _ := h.take()
	require.Empty(t, lines)
	require.ErrorContains(t, c.Instrument(nil), "nil")
	require.NoError(t, c.Close())
	require.Equal(t, redis.ErrClosed, c.Instrument(func(*redis.Client) error { return nil }))
}

func TestInstrumentsAndHooksRunInTheOrderInWhichTheyWereAdded(t *testing.T) {
	c := client(t, redistest.Options(t))
	var order []string
	add := func(name string) redis.Hook {
		return ctxHook{func(context.Context) { order = append(order, name) }}
	}
	c.AddHook(add("1"))
	require.NoError(t, c.Instrument(func(target *redis.Client) error { target.AddHook(add("2")); target.AddHook(add("3")); return nil }))
	require.NoError(t, c.Instrument(func(target *redis.Client) error { target.AddHook(add("4")); return nil }))
	c.AddHook(add("5"))
	require.NoError(t, c.Ping(t.Context()).Err())
	require.Equal(t, []string{"1", "2", "3", "4", "5"}, order[len(order)-5:])
}
