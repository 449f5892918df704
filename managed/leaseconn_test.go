package managed_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// The Conns of leases are made without the hooks of the client as long as there are none
// but ours, see conntrack.Node.Conn.
func TestALeaseRunsTheHooksThatWereAddedAfterTheFirstLeases(t *testing.T) {
	for how, add := range map[string]func(*managed.Client, redis.Hook){
		"AddHook":                  func(c *managed.Client, h redis.Hook) { c.AddHook(h) },
		"AddHook of client inside": func(c *managed.Client, h redis.Hook) { c.Client.AddHook(h) },
	} {
		t.Run(how, func(t *testing.T) {
			c, h := client(t, redistest.Options(t)), &tracing{}
			use := func() {
				conn, err := c.Acquire(t.Context())
				require.NoError(t, err)
				defer conn.Release()
				h.take()
				require.NoError(t, conn.Echo(t.Context(), "one").Err())
				_, err = conn.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Echo(t.Context(), "two"); return nil })
				require.NoError(t, err)
				require.NoError(t, conn.Echo(t.Context(), "three").Err())
			}
			use()
			use()
			add(c, h)
			use()
			lines, _ := h.take()
			require.Equal(t, []string{"echo one", "echo two", "echo three"}, lines)
		})
	}
}

// A pipeline gives the lease's Conn one more hook.
func TestCommandsAndPipelinesOfOneLeaseBothObeyIt(t *testing.T) {
	c := client(t, redistest.Options(t))
	require.NoError(t, c.Ping(t.Context()).Err())
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	early := conn.Pipeline()
	early.Ping(t.Context())
	require.NoError(t, conn.Ping(t.Context()).Err())
	_, err = early.Exec(t.Context())
	require.NoError(t, err)
	late := conn.TxPipeline()
	late.Ping(t.Context())
	conn.Release()
	_, err = late.Exec(t.Context())
	require.ErrorIs(t, err, managed.ErrReleased)
	require.ErrorIs(t, conn.Ping(t.Context()).Err(), managed.ErrReleased)
	require.ErrorIs(t, conn.Conn.Ping(t.Context()).Err(), managed.ErrReleased)
	require.Empty(t, c.Leases())
}
