package managed_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
)

func TestStatsAgreeWithTheServer(t *testing.T) {
	s := redistest.Start(t)
	ctx := context.Background()
	opt := sized(s, 20, 5*time.Second)
	c := client(t, opt)
	require.Zero(t, c.Stats().Open)

	pubsub := c.Subscribe(ctx, "news")
	defer pubsub.Close()
	_, err := pubsub.Receive(ctx)
	require.NoError(t, err)
	var held []*managed.Conn
	for range 7 {
		conn, err := c.Acquire(managed.WithLabel(ctx, "report"))
		require.NoError(t, err)
		require.ErrorIs(t, conn.Get(ctx, "k").Err(), redis.Nil)
		held = append(held, conn)
	}
	_, err = c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Ping(ctx); p.Ping(ctx); return nil })
	require.NoError(t, err)
	require.NoError(t, c.Set(ctx, "k", "v", 0).Err())

	st := c.Stats()
	redistest.Eventually(t, "maintenance holds none", soon, func() bool { st = c.Stats(); return st.InUse == 7 })
	require.Equal(t, s.NumClients(t), st.Open, "what the server counts")
	require.Equal(t, 1, st.Subscribed)
	require.Equal(t, 7, st.Leases)
	require.Equal(t, 7, st.Main.InUse)
	require.Equal(t, 1, st.Pipeline.Open)
	require.Equal(t, 20, st.Main.Size)
	require.GreaterOrEqual(t, st.PeakInUse, 7)
	require.EqualValues(t, st.Open, st.Dialed)
	require.Zero(t, st.ClosedAll())
	require.Len(t, st.Nodes, 1)
	require.Equal(t, s.Addr(), st.Nodes[0].Name)
	require.Len(t, st.Holders, monitor.MaxHolders, "those that have held the longest")
	require.False(t, st.Holders[0].Overdue)
	require.Contains(t, st.Holders[0].Site, "monitor_test.go")
	require.Equal(t, "report", st.Holders[0].Label)
	require.Equal(t, "get", st.Holders[0].Command)
	require.EqualValues(t, 9, st.Command.Count, "7 GET on leases, a pipeline, a SET; no handshake, no visit")
	require.EqualValues(t, st.Dialed, st.Dial.Count)

	for _, conn := range held {
		conn.Release()
	}
	held[0].Release()
	require.EqualValues(t, 7, c.Stats().Hold.Count)
	require.Zero(t, c.Stats().Leases)
	require.Positive(t, c.EvictIdle(ctx))
	redistest.Eventually(t, "the server agrees", soon, func() bool { st = c.Stats(); return s.NumClients(t) == st.Open })
	require.EqualValues(t, st.Dialed-st.ClosedAll(), st.Open)
	require.Equal(t, c.CloseReasons()[hooks.ReasonReset], st.Closed["reset"])

	b, err := json.Marshal(st)
	require.NoError(t, err)
	var back monitor.Stats
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, st.Closed, back.Closed)
}

// Acquire takes an idle connection by a visit, and maintenance visits, too: only the
// first is somebody who wanted one.
func TestHitsAreThoseOfCallers(t *testing.T) {
	s := redistest.Start(t)
	ctx := context.Background()
	c := client(t, sized(s, 1, soon), managed.WithHeartbeat(20*time.Millisecond)) // one connection, so that nobody dials while a heartbeat has it
	require.NoError(t, c.Ping(ctx).Err())
	node := func() monitor.Numbers { return c.Stats().Nodes[0].Numbers }
	require.Zero(t, node().Hits)
	require.EqualValues(t, 1, node().Misses)
	pings := func() int64 {
		n, err := s.Admin().Info(ctx, "commandstats").Result()
		require.NoError(t, err)
		return int64(strings.Count(n, "cmdstat_ping"))
	}
	redistest.Eventually(t, "heartbeats", soon, func() bool { return c.Conns()[0].BytesIn > 2000 && pings() > 0 })
	require.Zero(t, node().Hits)
	require.NoError(t, c.Ping(ctx).Err())
	conn, err := c.Acquire(ctx)
	require.NoError(t, err)
	conn.Release()
	require.EqualValues(t, 2, node().Hits)
}

func TestWaitsAreDistributedWithThoseThatFailed(t *testing.T) {
	s := redistest.Start(t)
	ctx := context.Background()
	c := client(t, sized(s, 1, 80*time.Millisecond))
	conn, err := c.Acquire(ctx)
	require.NoError(t, err)
	require.ErrorIs(t, c.Ping(ctx).Err(), redis.ErrPoolTimeout)
	_, err = c.Acquire(ctx)
	require.ErrorIs(t, err, redis.ErrPoolTimeout)
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	_, err = c.Acquire(short)
	cancel()
	require.ErrorIs(t, err, context.DeadlineExceeded)

	var wg sync.WaitGroup
	wg.Go(func() { require.NoError(t, c.Ping(ctx).Err()) })
	redistest.Eventually(t, "somebody waits", soon, func() bool { return c.Stats().Waiting == 1 })
	conn.Release()
	wg.Wait()

	st := c.Stats()
	require.EqualValues(t, 3, st.PoolTimeouts)
	require.EqualValues(t, 4, st.Waits)
	require.EqualValues(t, 4, st.Wait.Count)
	require.GreaterOrEqual(t, st.Wait.Max, 75*time.Millisecond)
	require.GreaterOrEqual(t, st.Wait.P50, 15*time.Millisecond/2)
	require.GreaterOrEqual(t, st.WaitTime, 180*time.Millisecond*9/10)
}

func TestAnAlertNamesWhoHoldsThePool(t *testing.T) {
	s := redistest.Start(t)
	ctx := context.Background()
	alerts := make(chan monitor.Alert, 16)
	c := client(t, sized(s, 2, time.Second), managed.WithMonitor(monitor.WithInterval(10*time.Millisecond), monitor.WithoutDefaults(),
		monitor.Threshold{Metric: monitor.PoolUse, Level: monitor.Critical, Limit: 0.9, For: 30 * time.Millisecond},
		monitor.WithAlertHandler(func(a monitor.Alert) { alerts <- a })))
	next := func() monitor.Alert {
		select {
		case a := <-alerts:
			return a
		case <-time.After(soon):
			t.Fatal("no alert")
			return monitor.Alert{}
		}
	}
	one, err := c.Acquire(managed.WithLabel(ctx, "export"))
	require.NoError(t, err)
	two, err := c.Acquire(ctx)
	require.NoError(t, err)
	a := next()
	require.True(t, a.Active)
	require.Equal(t, s.Addr(), a.Node)
	require.Equal(t, "export", a.Holders[0].Label)
	require.Contains(t, a.String(), "monitor_test.go")
	one.Release()
	two.Release()
	a = next()
	require.False(t, a.Active)
}

func TestTheServersClientsAreKnown(t *testing.T) {
	s := redistest.Start(t, "--maxclients", "77")
	c := client(t, sized(s, 2, time.Second))
	require.NoError(t, c.Ping(context.Background()).Err())
	st := c.Stats()
	redistest.Eventually(t, "the server's numbers", soon, func() bool { st = c.Stats(); return st.MaxClients == 77 })
	require.Positive(t, st.ServerClients)
	require.NotContains(t, strings.Join(st.Gaps, " "), "maxclients")
	require.Equal(t, 1, st.Open, "it took no connection more")
	require.EqualValues(t, 1, st.Command.Count, "nor does it show among commands")
	require.Zero(t, st.Hits)
}

func TestAServerThatSaysNothingOfItsClientsIsAGap(t *testing.T) {
	s := redistest.Start(t)
	ctx := context.Background()
	require.NoError(t, s.Admin().Do(ctx, "ACL", "SETUSER", "app", "on", ">secret", "~*", "+get", "+ping").Err())
	opt := sized(s, 2, time.Second)
	opt.Username, opt.Password = "app", "secret"
	c := client(t, opt)
	require.NoError(t, c.Ping(ctx).Err())
	redistest.Eventually(t, "the gap", soon, func() bool { return strings.Contains(strings.Join(c.Stats().Gaps, " "), "NOPERM") })
	require.Zero(t, c.Stats().MaxClients)
	require.NotContains(t, strings.Join(c.Stats().Gaps, " "), "secret")
}

func TestWhatTheMonitorRefusesIsAnErrorOfNew(t *testing.T) {
	for name, o := range map[string]monitor.Option{
		"nil":    nil,
		"period": monitor.WithInterval(-1),
		"limit":  monitor.Threshold{Metric: monitor.PoolUse, Limit: 7},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := managed.New(&redis.Options{}, managed.WithMonitor(monitor.WithAlertHandler(func(monitor.Alert) {}), o))
			require.ErrorContains(t, err, "lifeguard/monitor")
			_, err = managed.NewRingClient(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}}, managed.WithMonitor(o))
			require.ErrorContains(t, err, "lifeguard/monitor")
			_, err = managed.NewCluster(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}}, managed.WithMonitor(o))
			require.ErrorContains(t, err, "lifeguard/monitor")
		})
	}
}

func TestLeaksAndBreakersAreCounted(t *testing.T) {
	s := redistest.Start(t)
	ctx := context.Background()
	c := client(t, sized(s, 2, time.Second), managed.WithLeakThreshold(5*time.Millisecond))
	conn, err := c.Acquire(ctx)
	require.NoError(t, err)
	redistest.Eventually(t, "the leak", soon, func() bool { return c.Stats().Leaks == 1 })
	conn.Release()
	require.EqualValues(t, 1, c.Stats().Leaks)
	require.Zero(t, c.Stats().BreakersOpen)
}

func TestALeaseIsOverdueForAsLongAsItIsHeldAndNoLonger(t *testing.T) {
	s := redistest.Start(t)
	ctx := context.Background()
	c := client(t, sized(s, 4, time.Second), managed.WithLeakThreshold(5*time.Millisecond), managed.WithLogger(slog.New(slog.DiscardHandler)),
		managed.WithMonitor(monitor.WithInterval(10*time.Millisecond), monitor.WithAlertHandler(func(monitor.Alert) {})))
	alerts := func() string {
		var names []string
		for _, a := range c.PoolMonitor().Alerts() {
			names = append(names, a.Name)
		}
		return strings.Join(names, " ")
	}
	a, err := c.Acquire(ctx)
	require.NoError(t, err)
	b, err := c.Acquire(ctx)
	require.NoError(t, err)
	redistest.Eventually(t, "both are overdue", soon, func() bool { return c.Stats().LeasesOverdue == 2 })
	redistest.Eventually(t, "the alert", soon, func() bool { return alerts() == "leases_overdue_warning" })
	require.True(t, c.Stats().Holders[0].Overdue)
	a.Release()
	require.Equal(t, 1, c.Stats().LeasesOverdue)
	for began := c.Stats().Time; c.Stats().Time.Sub(began) < 100*time.Millisecond; time.Sleep(time.Millisecond) {
		require.Equal(t, "leases_overdue_warning", alerts(), "one is still held")
	}
	b.Release()
	require.Zero(t, c.Stats().LeasesOverdue)
	redistest.Eventually(t, "the alert is over", soon, func() bool { return alerts() == "" })
	never := client(t, sized(s, 1, time.Second), managed.WithLeakThreshold(-1))
	require.False(t, never.Stats().Known("leases_overdue"))
}

func TestABlockingPoolIsANodeOfItsOwn(t *testing.T) {
	s := redistest.Start(t)
	ctx := context.Background()
	c := client(t, sized(s, 2, time.Second), managed.WithBlockingPool(3))
	require.NoError(t, c.Ping(ctx).Err())
	var wg sync.WaitGroup
	wg.Go(func() { c.BLPop(ctx, 0, "queue") })
	redistest.Eventually(t, "the BLPOP", soon, func() bool { return c.Stats().InUse == 1 && c.Stats().Open == 2 })
	st := c.Stats()
	require.Len(t, st.Nodes, 2)
	require.Equal(t, s.Addr()+" (blocking)", st.Nodes[1].Name)
	require.Equal(t, 3, st.Nodes[1].Main.Size)
	require.NoError(t, c.RPush(ctx, "queue", "x").Err())
	wg.Wait()
}

func TestAShardThatIsRemovedKeepsItsCounters(t *testing.T) {
	a, b := redistest.Start(t), redistest.Start(t)
	ctx := context.Background()
	r := managed.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": a.Addr(), "b": b.Addr()}}, managed.WithLogger(quiet))
	defer r.Close()
	for i := range 50 {
		require.NoError(t, r.Set(ctx, string(rune('a'+i)), "v", 0).Err())
	}
	st := r.Stats()
	require.Len(t, st.Nodes, 2)
	for _, n := range st.Nodes {
		require.Positive(t, n.Command.Count)
	}
	r.SetAddrs(map[string]string{"a": a.Addr()})
	redistest.Eventually(t, "b has left", soon, func() bool {
		now := r.Stats()
		require.GreaterOrEqual(t, now.Command.Count, st.Command.Count)
		require.GreaterOrEqual(t, now.Dialed, st.Dialed)
		return b.NumClients(t) == 0
	})
	require.GreaterOrEqual(t, r.Stats().ClosedAll(), uint64(1))
}

// With no calls there are no dials, so the probe has to find out that the server is back.
func TestTheLastDialErrorIsOverWhenTheProbeReachesTheServer(t *testing.T) {
	s := redistest.Start(t)
	rdb, err := managed.New(s.Options(), managed.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	defer rdb.Close()
	require.NoError(t, rdb.Ping(t.Context()).Err())
	s.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, rdb.Ping(ctx).Err())
	redistest.Eventually(t, "a dial has failed", 20*time.Second, func() bool { return rdb.Stats().LastDialError != nil })
	s.Restart()
	redistest.Eventually(t, "it is over", 20*time.Second, func() bool { return rdb.Stats().LastDialError == nil })
}
