package managed_test

import (
	"bytes"
	"context"
	"regexp"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// forget takes a lease and drops it.
//
//go:noinline
func forget(t *testing.T, c *managed.Client) {
	conn, err := c.Acquire(managed.WithLabel(context.Background(), "forgotten"))
	require.NoError(t, err)
	require.NoError(t, conn.Ping(context.Background()).Err())
}

// collect runs the garbage collector until cond holds.
func collect(t *testing.T, what string, cond func() bool) {
	t.Helper()
	redistest.Eventually(t, what, soon, func() bool { runtime.GC(); return cond() })
}

func TestADroppedLeaseIsFoundReportedAndReclaimed(t *testing.T) {
	s := redistest.Start(t)
	ev, log := &events{}, &journal{}
	c := client(t, sized(s, 1, 50*time.Millisecond), ev.option(), log.option())
	forget(t, c)
	id := c.Leases()[0].Conn.ID
	_, err := c.TryAcquire(t.Context())
	require.ErrorContains(t, err, "(forgotten)")

	collect(t, "the collector finds the lease", func() bool { return len(c.Leases()) == 0 })
	leaked, back := ev.wait(t, hooks.Leaked, 1), ev.wait(t, hooks.Reclaimed, 1)
	for _, e := range []hooks.Event{leaked[0], back[0]} {
		require.Equal(t, id, e.ConnID)
		require.Equal(t, "forgotten", e.Label)
		require.Contains(t, e.Site, "leak_test.go:")
	}
	require.Contains(t, leaked[0].Stack, "managed_test.forget")
	require.Contains(t, log.text(), "dropped without Release")
	require.Contains(t, log.text(), "managed_test.forget")
	require.Contains(t, log.text(), "label=forgotten")
	closed := ev.wait(t, hooks.Closed, 1)[0]
	require.Equal(t, hooks.ReasonLeak, closed.Reason)
	require.Equal(t, id, closed.ConnID)
	redistest.Eventually(t, "the connection is closed", soon, func() bool { return s.NumClients(t) == 0 })
	full(t, c, 1)
	require.Len(t, ev.of(hooks.Leaked), 1)
}

func TestManyDroppedLeasesLoseNoSlot(t *testing.T) {
	s := redistest.Start(t)
	ev := &events{}
	c := client(t, sized(s, 4, soon), ev.option())
	for range 3 {
		for range 4 {
			forget(t, c)
		}
		collect(t, "all leases are found", func() bool { return len(c.Leases()) == 0 })
	}
	ev.wait(t, hooks.Reclaimed, 12)
	full(t, c, 4)
	agree(t, s, c)
}

func TestAReleasedLeaseIsNoLeakForTheCollector(t *testing.T) {
	s := redistest.Start(t)
	ev := &events{}
	c := client(t, sized(s, 2, time.Second), ev.option())
	c.Unattended() // it would use a connection, too
	for range 20 {
		conn, err := c.Acquire(t.Context())
		require.NoError(t, err)
		conn.Release()
		require.NoError(t, c.AcquireFunc(t.Context(), func(*managed.Conn) error { runtime.GC(); return nil }))
	}
	runtime.GC()
	ev.wait(t, hooks.Released, 40)
	require.Empty(t, ev.of(hooks.Leaked))
	require.Len(t, c.Conns(), 1)
}

func TestAPipelineKeepsItsLeaseAlive(t *testing.T) {
	s := redistest.Start(t)
	ev := &events{}
	c := client(t, sized(s, 1, time.Second), ev.option())
	p := func() redis.Pipeliner {
		conn, err := c.Acquire(t.Context())
		require.NoError(t, err)
		return conn.Pipeline()
	}()
	for range 5 {
		runtime.GC()
	}
	p.Ping(t.Context())
	_, err := p.Exec(t.Context())
	require.NoError(t, err)
	require.Empty(t, ev.of(hooks.Leaked))
	runtime.KeepAlive(p)
	p = nil
	collect(t, "the lease is found once its pipeline is gone too", func() bool { return len(c.Leases()) == 0 })
}

func TestALeaseHeldForTooLongIsReportedOnceAndOnceMoreWhenItComesBack(t *testing.T) {
	s := redistest.Start(t)
	ev, log := &events{}, &journal{}
	c := client(t, sized(s, 3, time.Second), ev.option(), log.option(), managed.WithLeakThreshold(20*time.Millisecond))
	conn, err := c.Acquire(managed.WithLabel(t.Context(), "slow"))
	require.NoError(t, err)
	require.NoError(t, conn.Set(t.Context(), "k", "v", 0).Err())
	e := ev.wait(t, hooks.Leaked, 1)[0]
	require.Equal(t, "slow", e.Label)
	require.Equal(t, conn.Info().ID, e.ConnID)
	require.GreaterOrEqual(t, e.Took, 20*time.Millisecond)
	require.Contains(t, e.Stack, "TestALeaseHeldForTooLong")
	require.True(t, c.Leases()[0].Reported)
	redistest.Eventually(t, "it is logged", soon, func() bool { return log.count("longer than the leak threshold") == 1 })
	require.Contains(t, log.text(), "level=WARN")
	require.Contains(t, log.text(), "last_command=set")
	require.Contains(t, log.text(), "TestALeaseHeldForTooLong")

	// A second one is reported too; the first one is not reported again.
	other, err := c.Acquire(t.Context())
	require.NoError(t, err)
	ev.wait(t, hooks.Leaked, 2)
	time.Sleep(60 * time.Millisecond) // three thresholds: time for a report too many
	require.Len(t, ev.of(hooks.Leaked), 2)
	require.Empty(t, ev.of(hooks.Reclaimed))

	conn.Release()
	conn.Release()
	r := ev.wait(t, hooks.Reclaimed, 1)[0]
	require.Equal(t, "slow", r.Label)
	require.GreaterOrEqual(t, r.Took, e.Took)
	other.Release()
	ev.wait(t, hooks.Reclaimed, 2)
	require.Equal(t, 2, log.count("was released"))
	require.Len(t, c.Conns(), 2, "being late is no reason to close the connection")

	// One that is quick is never mentioned.
	conn, err = c.Acquire(t.Context())
	require.NoError(t, err)
	conn.Release()
	time.Sleep(40 * time.Millisecond)
	require.Len(t, ev.of(hooks.Leaked), 2)
}

func TestASiteThatLeaksManyLeasesWritesOneLineAMinute(t *testing.T) {
	s := redistest.Start(t)
	ev, log := &events{}, &journal{}
	c := client(t, sized(s, 50, time.Second), ev.option(), log.option(), managed.WithLeakThreshold(20*time.Millisecond))
	var held []*managed.Conn
	for range 50 {
		conn, err := c.Acquire(t.Context())
		require.NoError(t, err)
		held = append(held, conn)
	}
	ev.wait(t, hooks.Leaked, 50) // events are of each
	for _, conn := range held {
		conn.Release()
	}
	ev.wait(t, hooks.Reclaimed, 50)
	require.NoError(t, c.Close()) // as the end of the minute does, it writes what was counted
	for _, text := range []string{"longer than the leak threshold", "was released"} {
		var lines, leases, stacks int
		for line := range strings.Lines(log.text()) {
			if !strings.Contains(line, text) {
				continue
			}
			lines++
			n, err := strconv.Atoi(regexp.MustCompile(`leases=(\d+) `).FindStringSubmatch(line)[1])
			require.NoError(t, err)
			leases += n
			stacks += strings.Count(line, "stack=")
			require.Contains(t, line, "leak_test.go:")
		}
		require.LessOrEqual(t, lines, 2, text)
		require.Equal(t, 50, leases, text)
		require.Equal(t, 1, stacks, text)
	}
}

func TestALeakThresholdOfZeroOrLessReportsNothing(t *testing.T) {
	s := redistest.Start(t)
	for _, d := range []time.Duration{0, -1} {
		ev := &events{}
		c := client(t, s.Options(), ev.option(), managed.WithLeakThreshold(d))
		conn, err := c.Acquire(t.Context())
		require.NoError(t, err)
		time.Sleep(20 * time.Millisecond)
		require.False(t, c.Leases()[0].Reported)
		conn.Release()
		ev.wait(t, hooks.Released, 1)
		require.Empty(t, ev.of(hooks.Leaked))
	}
}

func TestLeasesAreAProfileWithWholeStacks(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, s.Options(), managed.WithLeaseStacks(managed.StackFull))
	before := pprof.Lookup("lifeguard.leases").Count()
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	p := pprof.Lookup("lifeguard.leases")
	require.Equal(t, before+1, p.Count())
	var b bytes.Buffer
	require.NoError(t, p.WriteTo(&b, 1))
	require.Contains(t, b.String(), "TestLeasesAreAProfileWithWholeStacks")
	conn.Release()
	require.Equal(t, before, pprof.Lookup("lifeguard.leases").Count())
	require.NoError(t, c.AcquireFunc(t.Context(), func(*managed.Conn) error {
		require.Equal(t, before+1, p.Count())
		return nil
	}))
	require.Equal(t, before, p.Count())
}

func TestAPlaceThatHasLeakedKeepsWholeStacks(t *testing.T) {
	s := redistest.Start(t)
	ev, log := &events{}, &journal{}
	c := client(t, sized(s, 2, time.Second), ev.option(), log.option())
	held := pprof.Lookup("lifeguard.leases").Count
	before := held()
	for i := range 2 {
		forget(t, c)
		l := c.Leases()[0]
		require.Contains(t, l.Site(), "leak_test.go:", "the place is known from the first time on")
		require.Equal(t, i == 1, strings.Contains(l.Stack(), "TestAPlaceThatHasLeaked"), l.Stack())
		require.Equal(t, before+i, held(), "with a whole stack it is in the profile")
		collect(t, "the lease is found", func() bool { return len(c.Leases()) == 0 })
	}
	require.NotContains(t, ev.wait(t, hooks.Leaked, 2)[0].Stack, "TestAPlaceThatHasLeaked")
	require.Contains(t, ev.wait(t, hooks.Leaked, 2)[1].Stack, "TestAPlaceThatHasLeaked")
	require.Equal(t, before, held())

	other, err := c.Acquire(t.Context()) // another place
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(c.Leases()[0].Stack(), "\n\t"))
	other.Release()
}

func TestALeaseStaysAliveWhileItsLastCommandRuns(t *testing.T) {
	s := redistest.Start(t)
	ev := &events{}
	c := client(t, sized(s, 1, time.Second), ev.option())
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	done := make(chan error)
	go func(conn *managed.Conn) {
		done <- conn.BLPop(context.Background(), 0, "list").Err() // its last use, and nobody else has it
	}(conn)
	conn = nil
	redistest.Eventually(t, "the command runs", soon, func() bool { l := c.Leases(); return len(l) == 1 && l[0].InFlight })
	for range 5 {
		runtime.GC()
	}
	require.Empty(t, ev.of(hooks.Leaked))
	require.NoError(t, s.Admin().LPush(t.Context(), "list", 1).Err())
	require.NoError(t, <-done)
	collect(t, "it is found afterwards", func() bool { return len(c.Leases()) == 0 })
}

func TestTheStackOfALeaseBeginsAtTheCallOfAcquire(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 4, time.Second), managed.WithLeaseStacks(managed.StackFull))
	a, err := c.Acquire(t.Context())
	require.NoError(t, err)
	defer a.Release()
	b, err := c.TryAcquire(t.Context())
	require.NoError(t, err)
	defer b.Release()
	require.NoError(t, c.AcquireFunc(t.Context(), func(*managed.Conn) error {
		for _, l := range c.Leases() {
			require.True(t, strings.HasPrefix(l.Stack(), "github.com/lifeguard-redis/lifeguard/managed_test.TestTheStack"), l.Stack())
		}
		return nil
	}))
}
