package managed_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// Libraries close the client that they were given.
func TestClosingTheClientInsideLeavesNoGoroutine(t *testing.T) {
	opt := redistest.Options(t)
	before := goleak.IgnoreCurrent()
	c, err := managed.New(opt, managed.WithLogger(quiet))
	require.NoError(t, err)
	require.NoError(t, c.Ping(t.Context()).Err())
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	conn.Release()
	require.NoError(t, c.Client.Close())
	goleak.VerifyNone(t, before)
}

func TestAClientThatIsNeverClosedHoldsNoGoroutineWhenIdle(t *testing.T) {
	opt := redistest.Options(t)
	opt.PoolSize = 2
	before := goleak.IgnoreCurrent()
	c, err := managed.New(opt, managed.WithLogger(quiet))
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.Ping(t.Context()).Err())
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	conn.Release()
	goleak.VerifyNone(t, before)
}
