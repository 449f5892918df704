package managed_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// pings counts the PINGs that the server has executed.
func pings(t *testing.T, s *redistest.Server) string {
	t.Helper()
	info, err := s.Admin().InfoMap(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	return info["Commandstats"]["cmdstat_ping"]
}

func TestValidateAfterDecidesWhenAnAcquirePings(t *testing.T) {
	for name, x := range map[string]struct {
		after time.Duration
		idle  time.Duration
		want  bool
	}{
		"0: always":           {0, 0, true},
		"negative: never":     {-1, 20 * time.Millisecond, false},
		"idle for longer":     {10 * time.Millisecond, 20 * time.Millisecond, true},
		"not idle for longer": {time.Hour, 20 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			c := client(t, sized(s, 1, time.Second), managed.WithValidateAfter(x.after), managed.WithHeartbeat(0))
			require.NoError(t, c.Set(t.Context(), "k", "v", 0).Err())
			before := pings(t, s)
			time.Sleep(x.idle) // that is what is tested
			conn, err := c.Acquire(t.Context())
			require.NoError(t, err)
			conn.Release()
			require.Equal(t, x.want, pings(t, s) != before)
		})
	}
}

func TestAHalfOpenConnectionIsReplacedByAcquire(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	ev := &events{}
	opt := sized(s, 2, soon)
	opt.Addr = p.Addr()
	c := client(t, opt, ev.option(), managed.WithValidateAfter(0))
	first, err := c.Acquire(t.Context())
	require.NoError(t, err)
	id := first.Info().ID
	first.Release()
	p.StallExisting() // the network has dropped the connection, and neither end knows
	start := time.Now()
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	t.Logf("replaced after %v", time.Since(start))
	require.Less(t, time.Since(start), opt.PoolTimeout)
	require.NotEqual(t, id, conn.Info().ID)
	require.NoError(t, conn.Ping(t.Context()).Err())
	conn.Release()
	require.Equal(t, id, ev.wait(t, hooks.Closed, 1)[0].ConnID)
	full(t, c, 2)
}

func TestAConnectionThatTheServerClosedIsReplacedByAcquire(t *testing.T) {
	for name, s := range map[string]*redistest.Server{"tcp": redistest.Start(t), "tls": redistest.StartTLS(t)} {
		for _, after := range []time.Duration{-1, 0} {
			t.Run(name+" "+after.String(), func(t *testing.T) {
				c := client(t, sized(s, 5, soon), managed.WithValidateAfter(after))
				full(t, c, 5) // five connections are open
				require.Equal(t, 5, s.KillClients(t))
				redistest.Eventually(t, "the server has let go", soon, func() bool { return s.NumClients(t) == 0 })
				conn, err := c.Acquire(t.Context())
				require.NoError(t, err)
				require.NoError(t, conn.Ping(t.Context()).Err())
				conn.Release()
				conn, err = c.TryAcquire(t.Context())
				require.NoError(t, err)
				require.NoError(t, conn.Ping(t.Context()).Err())
				conn.Release()
				full(t, c, 5)
				agree(t, s, c)
			})
		}
	}
}

func TestAnUnresponsiveServerDoesNotBlockAValidatingAcquire(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 1, time.Second), managed.WithValidateAfter(0))
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	conn.Release()
	s.Pause()
	start := time.Now()
	short := c.WithTimeout(200 * time.Millisecond)
	_, err = short.Acquire(t.Context())
	s.Resume()
	require.Error(t, err)
	require.Less(t, time.Since(start), soon)
	t.Logf("after %v: %v", time.Since(start), err)
	redistest.Eventually(t, "a lease after the pause", soon, func() bool {
		conn, err := c.Acquire(t.Context())
		if err == nil {
			conn.Release()
		}
		return err == nil
	})
}
