package managed_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// The machine was suspended, and the other side has forgotten the connections.
func TestAfterAJumpOfTheWallClockNoUnverifiedConnectionIsUsed(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize, opt.ReadTimeout = p.Addr(), 20, 5*time.Second
	var clk clock
	c := client(t, opt, clk.option())
	burst(t, c, 20)
	p.StallExisting()
	clk.jump(10 * time.Minute)
	took, errs := crowd(c, 20, 2)
	t.Logf("the longest took %v; %v", took[len(took)-1], c.CloseReasons())
	require.Empty(t, errs)
	require.Less(t, took[len(took)-1], 1500*time.Millisecond)
}

func TestAfterAJumpOfTheWallClockGoodConnectionsAreVerifiedAndKept(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 20
	var clk clock
	var ev events
	c := client(t, opt, clk.option(), ev.option(), managed.WithMaxIdle(0))
	burst(t, c, 20)
	pings := calls(t, s, "ping") // the test server was asked whether it is up
	jumped := time.Now()
	clk.jump(10 * time.Minute)
	c.Kick()
	redistest.Eventually(t, "each has answered a PING", soon, func() bool { return calls(t, s, "ping") >= pings+20 })
	require.Empty(t, ev.of(hooks.Closed))
	took, errs := crowd(c, 20, 2)
	require.Empty(t, errs)
	require.Lenf(t, ev.of(hooks.Dialed), 20, "%v; closed: %v", took, ev.of(hooks.Closed))
	for _, i := range c.Conns() {
		require.True(t, i.LastUsed.After(jumped.Add(-time.Millisecond)))
	}
}

func TestCorrectionsOfTheWallClockMeanNothing(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 10
	var clk clock
	var ev events
	c := client(t, opt, clk.option(), ev.option())
	burst(t, c, 10)
	pings := calls(t, s, "ping")
	for _, d := range []time.Duration{time.Second, -time.Hour, time.Second} {
		clk.jump(d)
		c.Kick()
		_, errs := crowd(c, 10, 2)
		require.Empty(t, errs)
	}
	require.Equal(t, pings, calls(t, s, "ping"))
	require.Empty(t, ev.of(hooks.Closed))
}
