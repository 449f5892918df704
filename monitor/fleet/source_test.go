package fleet_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
)

func TestAnAlertComesWhenTheFleetTakesAShareOfMaxclientsAndEndsWhenItDoesNot(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB, ...string) *redistest.Server{"Redis": redistest.Start, "Valkey": redistest.StartValkey} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, "--maxclients", "40")
			_ = s.Admin().Ping(bg)
			src, err := fleet.NewSource(dial(t, s.Options(), "reader"))
			require.NoError(t, err)
			alerts := make(chan monitor.Alert, 10)
			small := dial(t, s.Options(), "member")
			publish(t, small)
			hold(t, small, 2)
			m := watch(t, src, monitor.WithInterval(50*time.Millisecond), monitor.WithoutDefaults(), monitor.WithAlertHandler(func(a monitor.Alert) { alerts <- a }),
				monitor.Threshold{Metric: monitor.MaxClients, Limit: 0.5, CoolDown: -1})

			opt := s.Options()
			opt.PoolSize = 30
			big := dial(t, opt, "member")
			p := publish(t, big)
			for range 17 {
				c := big.Conn()
				require.NoError(t, c.Ping(bg).Err())
				defer c.Close()
			}
			a := next(t, alerts)
			assert.True(t, a.Active)
			assert.Equal(t, "max_clients_warning", a.Name)
			assert.Equal(t, s.Addr(), a.Node)
			assert.GreaterOrEqual(t, a.Value, 0.5)
			redistest.Eventually(t, "the share is that of the fleet", soon, func() bool {
				n := m.Stats().Nodes
				return len(n) == 1 && n[0].MaxClients == 40 && n[0].Open == count(t, "member", s)
			})
			require.NoError(t, p.Close())
			require.NoError(t, big.Close())
			a = next(t, alerts)
			assert.False(t, a.Active)
			assert.False(t, a.Gone)
			assert.Less(t, a.Value, 0.45)
		})
	}
}

func next(t testing.TB, alerts <-chan monitor.Alert) monitor.Alert {
	t.Helper()
	select {
	case a := <-alerts:
		return a
	case <-time.After(soon):
		t.Fatal("no alert has come")
		panic("")
	}
}

func TestAnAlertGoesOnWhileTheFleetCannotBeRead(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--maxclients", "20")
	proxy := redistest.NewProxy(t, s.Addr())
	rdb := dial(t, s.Options(), "member")
	publish(t, rdb)
	hold(t, rdb, 6)
	opt := s.Options()
	opt.Addr = proxy.Addr()
	src, err := fleet.NewSource(dial(t, opt, "reader"), fleet.WithMaxClients(s.Addr(), 10), fleet.WithTimeout(300*time.Millisecond))
	require.NoError(t, err)
	alerts := make(chan monitor.Alert, 10)
	m := watch(t, src, monitor.WithInterval(50*time.Millisecond), monitor.WithoutDefaults(), monitor.WithAlertHandler(func(a monitor.Alert) { alerts <- a }),
		monitor.Threshold{Metric: monitor.MaxClients, Limit: 0.5}, monitor.Threshold{Metric: monitor.PoolUse, Limit: 0.1})
	for range 2 {
		assert.True(t, next(t, alerts).Active)
	}
	dialed := m.Stats().Dialed
	proxy.RefuseNew(true)
	proxy.CutAll()
	redistest.Eventually(t, "the gauges are not known", soon, func() bool { return !m.Stats().Known("open") })
	for range 5 {
		stats := m.Stats()
		assert.Zero(t, stats.Open)
		assert.Equal(t, dialed, stats.Dialed, "counters stay")
	}
	assert.Len(t, m.Alerts(), 2)
	proxy.RefuseNew(false)
	redistest.Eventually(t, "they are known again", soon, func() bool { return m.Stats().Known("open") })
	assert.Len(t, m.Alerts(), 2)
	assert.Empty(t, alerts)
}

func TestMaxclientsThatNobodyKnowsIsAGap(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	rdb := dial(t, s.Options(), "member")
	elsewhere := &script{}
	elsewhere.set(node("elsewhere:6379", monitor.Numbers{Main: monitor.Pool{Size: 10, Open: 5, Idle: 5}}))
	p := publishOf(t, watch(t, elsewhere), rdb)
	require.NoError(t, p.Now(bg))
	src, err := fleet.NewSource(rdb)
	require.NoError(t, err)
	stats := watch(t, src).Stats()
	assert.Zero(t, stats.MaxClients)
	assert.False(t, stats.Known("max_clients"))
	gaps := strings.Join(stats.Gaps, "\n")
	assert.Contains(t, gaps, "maxclients of [elsewhere:6379]: this client is not connected to it under that address; see Limit")
	assert.NotContains(t, gaps, "there is no field")

	elsewhere.set(node("elsewhere:6379", monitor.Numbers{Main: monitor.Pool{Size: 10, Open: 5, Idle: 5}, MaxClients: 100}))
	require.NoError(t, p.Now(bg))
	src, err = fleet.NewSource(rdb)
	require.NoError(t, err)
	assert.Equal(t, 100, watch(t, src).Stats().MaxClients, "the instances know it")
}

func TestCountersOfAFleetNeverFallAndCountWhatIsNewOnce(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	rdb := dial(t, s.Options(), "member")
	counters := func(dialed uint64) func(*monitor.Sample) {
		return func(to *monitor.Sample) {
			node("a:1", monitor.Numbers{Dialed: dialed, Closed: map[string]uint64{"age": dialed / 2}})(to)
			to.Rest.Leaks = 1
		}
	}
	a, b := &script{}, &script{}
	a.set(counters(10))
	b.set(counters(100))
	pa, pb := publishOf(t, watch(t, a), rdb), publishOf(t, watch(t, b), rdb)
	require.NoError(t, pa.Now(bg))
	require.NoError(t, pb.Now(bg))
	src, err := fleet.NewSource(rdb)
	require.NoError(t, err)
	m := watch(t, src, monitor.WithInterval(time.Hour)) // so that all is since the first
	first := m.Stats()
	assert.EqualValues(t, 110, first.Dialed)
	assert.EqualValues(t, 55, first.ClosedAll())
	assert.EqualValues(t, 2, first.Leaks)

	require.NoError(t, pb.Close())
	stats := m.Stats()
	assert.EqualValues(t, 110, stats.Dialed, "who has left has dialed all the same")
	assert.Zero(t, stats.Recent.Dialed)

	a.set(counters(14))
	require.NoError(t, pa.Now(bg))
	c := &script{}
	c.set(counters(3))
	pc := publishOf(t, watch(t, c), rdb)
	require.NoError(t, pc.Now(bg))
	stats = m.Stats()
	assert.EqualValues(t, 117, stats.Dialed)
	assert.EqualValues(t, 7, stats.Recent.Dialed)
	assert.EqualValues(t, 3, stats.Leaks)
}

func TestAnAlertTellsOfALostInstance(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		proxy := redistest.NewProxy(t, s.Addr())
		opt := s.Options()
		opt.Addr = proxy.Addr()
		p := publish(t, dial(t, opt, "x"), fleet.WithLostAfter(500*time.Millisecond), fleet.WithTimeout(200*time.Millisecond))
		require.NoError(t, p.Now(bg))
		src, err := fleet.NewSource(s.Admin())
		require.NoError(t, err)
		alerts := make(chan monitor.Alert, 10)
		m := watch(t, src, monitor.WithInterval(50*time.Millisecond), monitor.WithoutDefaults(), monitor.WithAlertHandler(func(a monitor.Alert) { alerts <- a }),
			monitor.Threshold{Metric: monitor.InstancesLost, Limit: 1, CoolDown: -1})
		assert.Equal(t, 1, m.Stats().Instances)
		proxy.RefuseNew(true)
		proxy.CutAll()
		a := next(t, alerts)
		assert.True(t, a.Active)
		assert.Contains(t, a.String(), "1 lost instance")
		proxy.RefuseNew(false)
		assert.False(t, next(t, alerts).Active)
	})
}

// The pools of a node of a fleet are sums, which hide that one instance's is full.
func TestTheFullestPoolOfAnInstanceIsNamedAndNoSizeIsAdvised(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize, opt.PipelinePoolSize = 4, -1
	full, empty := dial(t, opt, "full"), dial(t, s.Options(), "empty")
	hold(t, full, 3)
	publish(t, full, fleet.WithService("checkout"), fleet.WithHost("host-1"))
	publish(t, empty, fleet.WithService("search"), fleet.WithHost("host-2"))
	src, err := fleet.NewSource(dial(t, s.Options(), "reader"))
	require.NoError(t, err)
	m := watch(t, src, monitor.WithoutDefaults())
	var pools []monitor.NamedPool
	redistest.Eventually(t, "all pools are published", soon, func() bool {
		pools = m.Stats().Pools
		return len(pools) == 3 && pools[0].InUse == 3
	})
	require.Regexp(t, `^checkout on host-1, PID \d+$`, pools[0].Name)
	require.Equal(t, s.Addr(), pools[0].Node)
	require.Equal(t, "main", pools[0].Kind)
	require.Equal(t, 4, pools[0].Size)
	require.Regexp(t, `^search on host-2, PID \d+$`, pools[1].Name)
	require.Equal(t, "pipeline", pools[2].Kind)
	require.Zero(t, m.Advice().Suggested)
	require.Contains(t, m.Advice().String(), "the numbers are those of 2 instances together")
}

func TestAFullMainPoolIsNotHiddenByAnEmptyPipelinePoolNorByOtherInstances(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	rdb := dial(t, s.Options(), "member")
	idle := monitor.Pool{Size: 10, Open: 2, Idle: 2}
	full, quiet := &script{}, &script{}
	full.set(node("a:1", monitor.Numbers{Main: monitor.Pool{Size: 5, Open: 5, InUse: 5, Waiting: 2}, Pipeline: monitor.Pool{Size: 10}}))
	quiet.set(func(to *monitor.Sample) {
		to.Nodes = []monitor.Node{{Name: "a:1", Numbers: monitor.Numbers{Main: idle, Pipeline: idle}},
			{Name: "a:1" + monitor.Blocking, Numbers: monitor.Numbers{Main: monitor.Pool{Size: 4, Open: 2, InUse: 2}, Pipeline: idle}}}
	})
	for service, source := range map[string]*script{"checkout": full, "search": quiet} {
		require.NoError(t, publishOf(t, watch(t, source), rdb, fleet.WithService(service), fleet.WithHost("host-1")).Now(bg))
	}
	src, err := fleet.NewSource(rdb)
	require.NoError(t, err)
	alerts := make(chan monitor.Alert, 10)
	m := watch(t, src, monitor.WithInterval(50*time.Millisecond), monitor.WithoutDefaults(), monitor.WithAlertHandler(func(a monitor.Alert) { alerts <- a }),
		monitor.Threshold{Metric: monitor.PoolUse, Limit: 0.8})

	var got []string
	stats := m.Stats()
	for _, p := range stats.Pools {
		service, _, _ := strings.Cut(p.Name, " ")
		got = append(got, fmt.Sprintf("%s %s %s %d/%d", service, p.Node, p.Kind, p.InUse, p.Size))
	}
	assert.Equal(t, []string{"checkout a:1 main 5/5", "search a:1 (blocking) blocking 2/4", "search a:1 main 0/10", "checkout a:1 pipeline 0/10", "search a:1 pipeline 0/10"}, got)
	fullest, ok := stats.FullestPool("")
	require.True(t, ok)
	assert.Equal(t, 1.0, fullest.Use())
	assert.Equal(t, monitor.Pool{Size: 15, Open: 7, Idle: 2, InUse: 5, Waiting: 2}, stats.Nodes[0].Main)
	assert.Equal(t, monitor.Pool{Size: 20, Open: 2, Idle: 2}, stats.Nodes[0].Pipeline)

	a := next(t, alerts)
	assert.Equal(t, 1.0, a.Value)
	assert.Regexp(t, `^warning pool_use_warning on a:1: main pool use of checkout on host-1, PID \d+ is 100 %, limit 80 %; 2 waiting callers`, a.String())
}
