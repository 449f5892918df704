package monitor_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/monitortest"
)

func TestOptionsThatCannotBeAreRefusedWithTheReason(t *testing.T) {
	ok := monitor.Threshold{Metric: monitor.PoolUse, Limit: 0.5}
	with := func(change func(*monitor.Threshold)) []monitor.Option {
		th := ok
		change(&th)
		return []monitor.Option{th}
	}
	for want, opts := range map[string][]monitor.Option{
		"it has no Metric":                        {monitor.Threshold{Limit: 1}},
		`there is no metric "pool"`:               with(func(t *monitor.Threshold) { t.Metric = "pool" }),
		"Limit is NaN":                            with(func(t *monitor.Threshold) { t.Limit = math.NaN() }),
		"Limit is +Inf":                           with(func(t *monitor.Threshold) { t.Limit = math.Inf(1) }),
		"Limit is 0":                              with(func(t *monitor.Threshold) { t.Limit = 0 }),
		"Limit is -1":                             with(func(t *monitor.Threshold) { t.Limit = -1 }),
		"Limit is 80: pool use is a share":        with(func(t *monitor.Threshold) { t.Limit = 80 }),
		"no hit ratio is better":                  {monitor.Threshold{Metric: monitor.HitRatio, Limit: 1}},
		"there is no Level(7)":                    with(func(t *monitor.Threshold) { t.Level = 7 }),
		"For is -1s":                              with(func(t *monitor.Threshold) { t.For = -time.Second }),
		"Samples is -1":                           with(func(t *monitor.Threshold) { t.Samples = -1 }),
		"Hysteresis is 1":                         with(func(t *monitor.Threshold) { t.Hysteresis = 1 }),
		"Hysteresis is NaN":                       with(func(t *monitor.Threshold) { t.Hysteresis = math.NaN() }),
		`two thresholds have the name "pool_use_`: {ok, ok},
		`two thresholds have the name "x"`:        {monitor.Threshold{Name: "x", Metric: monitor.Leaks, Limit: 1}, monitor.Threshold{Name: "x", Metric: monitor.Churn, Limit: 1}},
		"WithInterval(0s)":                        {monitor.WithInterval(0)},
		"WithInterval(-1s)":                       {monitor.WithInterval(-time.Second)},
		"an option is nil":                        {nil},
	} {
		if _, err := monitor.New(&monitortest.Source{}, opts...); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "lifeguard/monitor: ") {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	var nobody *monitortest.Source
	for _, src := range []monitor.Source{nil, nobody, monitor.FromClient(nil)} {
		if _, err := monitor.New(src); err == nil || !strings.Contains(err.Error(), "nil") {
			t.Errorf("a nil source: %v", err)
		}
	}
}

// alerts collects alerts as short words.
type alerts struct{ all []monitor.Alert }

func (a *alerts) take() string {
	synctest.Wait()
	var s []string
	for _, x := range a.all {
		w := "+"
		if !x.Active {
			w = "-"
		}
		s = append(s, w+x.Name)
	}
	a.all = nil
	return strings.Join(s, " ")
}

func (a *alerts) add(x monitor.Alert) { a.all = append(a.all, x) }

func TestPoolUseWarnsFrom80PercentAndIsCriticalFrom95In3Samples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, got := &monitortest.Source{}, &alerts{}
		src.Set(inUse(10))
		m := monitortest.New(t, src)
		m.OnAlert(got.add)
		synctest.Wait()
		for i, step := range []struct {
			inUse int
			want  string
		}{
			{79, ""},
			{80, "+pool_use_warning"},
			{94, ""},
			{95, ""},
			{95, ""},
			{94, ""}, // 3 in a row, or it begins anew
			{96, ""},
			{99, ""},
			{97, "+pool_use_critical"},
			{90, ""},                   // within the hysteresis
			{86, ""},                   //
			{85, "-pool_use_critical"}, // below 0.95 * 0.9
			{72, ""},
			{71, "-pool_use_warning"},
			{81, ""}, // cool-down
			{10, ""},
			{82, "+pool_use_warning"},
		} {
			src.Set(inUse(step.inUse))
			periods(1)
			if s := got.take(); s != step.want {
				t.Errorf("step %d, %d in use: %q, want %q", i, step.inUse, s, step.want)
			}
		}
		if a := m.Alerts(); len(a) != 1 || a[0].Name != "pool_use_warning" || a[0].Value != 0.82 {
			t.Errorf("Alerts: %v", a)
		}
	})
}

func TestAnAlertSaysWhatHelps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &monitortest.Source{}
		var got []monitor.Alert
		m := monitortest.New(t, src, monitor.WithoutDefaults(), monitor.Threshold{Metric: monitor.PoolUse, Limit: 0.9, Level: monitor.Critical, For: 2 * period})
		m.OnAlert(func(a monitor.Alert) { got = append(got, a) })
		synctest.Wait()
		start := time.Now()
		full := func(use int) func(*monitor.Sample) {
			return func(s *monitor.Sample) {
				n := monitor.Numbers{Main: monitor.Pool{Size: 10, Open: 10, InUse: 1}, Pipeline: monitor.Pool{Size: 10, Open: 10, InUse: use}}
				s.Nodes = []monitor.Node{{Name: "b:2"}, {Name: "a:1", Numbers: n}}
				s.AddHolder(monitor.Holder{Node: "b:2", Site: "other.go:1", For: time.Hour})
				s.AddHolder(monitor.Holder{Node: "a:1", Site: "web.go:31", Label: "report", For: 3 * time.Second, Command: "blpop"})
				s.LastDialError = &monitor.DialError{Time: start, Node: "a:1", Err: "connection refused"}
			}
		}
		src.Set(full(9))
		periods(1)
		src.Set(full(10))
		periods(1)
		src.Set(full(9))
		periods(1)
		src.Set(full(2))
		periods(1)
		synctest.Wait()
		if len(got) != 2 {
			t.Fatalf("%v", got)
		}
		a, b := got[0], got[1]
		if !a.Active || a.Node != "a:1" || a.Pool != "pipeline" || !a.Since.Equal(start.Add(period)) || a.Time.Sub(a.Since) != 2*period || a.Value != 0.9 || a.Worst != 1 || len(a.Holders) != 1 {
			t.Errorf("%+v", a)
		}
		want := "critical pool_use_critical on a:1: pipeline pool use is 90 %, limit 90 %, for 1m0s; held by web.go:31 (report) for 3s, last command blpop; last dial error 1m30s ago: connection refused"
		if a.String() != want {
			t.Errorf("got  %s\nwant %s", a, want)
		}
		want = "critical pool_use_critical on a:1 is over after 1m30s: pipeline pool use is 20 %, limit 90 %, it was 100 % at worst"
		if b.Active || b.String() != want {
			t.Errorf("got  %s\nwant %s", b, want)
		}
		out, err := json.Marshal(a)
		var back monitor.Alert
		if err != nil || json.Unmarshal(out, &back) != nil || back.String() != a.String() {
			t.Errorf("%s came back as %v, %v", out, back, err)
		}
	})
}

func TestEveryMetricRaisesItsAlert(t *testing.T) {
	var slow monitor.Histogram
	slow.Record(time.Second)
	over := monitor.Numbers{
		Main: monitor.Pool{Size: 10, Open: 9, InUse: 9, Waiting: 4}, PeakInUse: 10, BreakersOpen: 1, MaxClients: 100, ServerClients: 90,
		Hits: 1, Misses: 9, PoolTimeouts: 1, DialErrors: 1, UnknownOutcomes: 1, Leaks: 1, LeasesOverdue: 2, Instances: 3, InstancesLost: 2, Closed: map[string]uint64{"age": 3000},
		Wait: slow.Snapshot(), Command: slow.Snapshot(),
	}
	for metric, limit := range map[monitor.Metric]float64{
		monitor.PoolUse: 0.9, monitor.PoolPeak: 1, monitor.Waiting: 4, monitor.WaitP99: 0.9, monitor.CommandP99: 0.9, monitor.HitRatio: 0.1,
		monitor.PoolTimeouts: 1, monitor.DialFailures: 1, monitor.MaxClients: 0.9, monitor.Churn: 100, monitor.UnknownOutcomes: 1,
		monitor.Leaks: 1, monitor.BreakerOpen: 1, monitor.LeasesOverdue: 2, monitor.InstancesLost: 2,
	} {
		synctest.Test(t, func(t *testing.T) {
			src, got := &monitortest.Source{}, &alerts{}
			src.Set(monitortest.Node(monitor.Numbers{}))
			m := monitortest.New(t, src, monitor.WithoutDefaults(), monitor.Threshold{Name: "it", Metric: metric, Limit: limit}, monitor.WithAlertHandler(got.add))
			synctest.Wait()
			src.Set(monitortest.Node(over))
			periods(1)
			if s := got.take(); s != "+it" || len(m.Alerts()) != 1 {
				t.Errorf("%s: %q", metric, s)
			}
			for _, a := range m.Alerts() {
				if s := a.String(); strings.Contains(s, "_") || !regexp.MustCompile(`: (.* is .*, limit |[\d.]+ [a-z ]+(, limit [2-9]|;|$))`).MatchString(s) {
					t.Errorf("no words for %s: %s", metric, s)
				}
			}
			// The same counters again: nothing has come since.
			quiet := over
			quiet.Main, quiet.PeakInUse, quiet.BreakersOpen, quiet.ServerClients, quiet.Hits, quiet.LeasesOverdue, quiet.InstancesLost = monitor.Pool{Size: 10}, 0, 0, 1, 1000, 0, 0
			src.Set(monitortest.Node(quiet))
			periods(1)
			if s := got.take(); s != "-it" {
				t.Errorf("%s: %q", metric, s)
			}
		})
	}
}

func TestAFullNodeDoesNotHideBehindTheOthersAndItsAlertEndsWhenItLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &monitortest.Source{}
		var got []string
		m := monitortest.New(t, src)
		m.OnAlert(func(a monitor.Alert) { got = append(got, a.String()) })
		synctest.Wait()
		src.Set(func(s *monitor.Sample) {
			for _, n := range []string{"a:1", "b:1", "c:1"} {
				s.Nodes = append(s.Nodes, monitor.Node{Name: n, Numbers: monitor.Numbers{Main: monitor.Pool{Size: 10, Open: 9}}})
			}
			s.Nodes[1].Main.InUse = 9
		})
		periods(1)
		src.Set(func(s *monitor.Sample) { s.Nodes = []monitor.Node{{Name: "a:1"}} })
		periods(1)
		synctest.Wait()
		want := "warning pool_use_warning on b:1: main pool use is 90 %, limit 80 %|" +
			"warning pool_use_warning on b:1 is over after 30s: the node is gone; it was 90 % at worst"
		if s := strings.Join(got, "|"); s != want {
			t.Errorf("got  %s\nwant %s", s, want)
		}
	})
}

func TestAValueThatIsNotKnownNeitherBeginsNorEndsAnAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, got := &monitortest.Source{}, &alerts{}
		monitortest.New(t, src, monitor.WithoutDefaults(), monitor.Threshold{Metric: monitor.HitRatio, Limit: 0.5}, monitor.WithAlertHandler(got.add))
		for i, step := range []struct {
			hits, misses uint64
			want         string
		}{{0, 0, ""}, {1, 9, "+hit_ratio_warning"}, {1, 9, ""}, {6, 14, ""}, {26, 14, "-hit_ratio_warning"}} {
			src.Set(monitortest.Node(monitor.Numbers{Hits: step.hits, Misses: step.misses}))
			if i == 0 {
				synctest.Wait()
			}
			periods(1)
			if s := got.take(); s != step.want {
				t.Errorf("step %d: %q, want %q", i, s, step.want)
			}
		}
	})
}

func TestAThresholdReplacesTheDefaultOfItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, got := &monitortest.Source{}, &alerts{}
		monitortest.New(t, src, monitor.Threshold{Metric: monitor.PoolUse, Limit: 0.5, CoolDown: -1, Hysteresis: -1}, monitor.WithAlertHandler(got.add))
		synctest.Wait()
		for i, step := range []struct {
			inUse int
			want  string
		}{{85, "+pool_use_warning"}, {50, ""}, {49, "-pool_use_warning"}, {50, "+pool_use_warning"}} {
			src.Set(inUse(step.inUse))
			periods(1)
			if s := got.take(); s != step.want {
				t.Errorf("step %d: %q, want %q", i, s, step.want)
			}
		}
	})
}

func TestAlertsThatNobodyListensToAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, log := &monitortest.Source{}, &logged{}
		m := monitortest.New(t, src, log.option())
		m.Start()
		synctest.Wait()
		src.Set(inUse(90))
		periods(1)
		synctest.Wait()
		if s := log.String(); !strings.Contains(s, "level=WARN") || !strings.Contains(s, "alert.name=pool_use_warning") {
			t.Errorf("logged %q", s)
		}
	})
}

func TestAnAlertAboutOverdueLeasesNamesNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &monitortest.Source{}
		var got []monitor.Alert
		m := monitortest.New(t, src, monitor.WithAlertHandler(func(a monitor.Alert) { got = append(got, a) }))
		defer m.Close()
		src.Set(func(s *monitor.Sample) {
			s.Nodes = []monitor.Node{{Name: "a:1", Numbers: monitor.Numbers{Main: monitor.Pool{Size: 10, Open: 10, InUse: 3}, LeasesOverdue: 1}}}
			s.AddHolder(monitor.Holder{Node: "a:1", Site: "jobs.go:33", For: time.Minute, Overdue: true})
			s.AddHolder(monitor.Holder{Node: "a:1", Site: "web.go:31", For: 3 * time.Second})
			s.AddHolder(monitor.Holder{Node: "a:1", Command: "blpop", For: time.Hour})
		})
		periods(1)
		synctest.Wait()
		if len(got) != 1 || got[0].Metric != monitor.LeasesOverdue || len(got[0].Holders) != 1 || got[0].Holders[0].Site != "jobs.go:33" {
			t.Errorf("%v", got)
		}
	})
}

func TestOneCauseIsOneAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, got := &monitortest.Source{}, &alerts{}
		m := monitortest.New(t, src, monitor.WithAlertHandler(got.add), monitor.Threshold{Metric: monitor.PoolTimeouts, Limit: 1},
			monitor.Threshold{Metric: monitor.UnknownOutcomes, Limit: 1})
		synctest.Wait()
		var n monitor.Numbers
		for i, step := range []struct {
			inUse, overdue, breakers int
			fails                    uint64 // dials, timeouts and unknown outcomes, each
			want, active             string
		}{
			{10, 2, 0, 0, "+leases_overdue_warning", "leases_overdue_warning"},
			{80, 2, 0, 0, "+pool_use_warning", "pool_use_warning"}, // it says how many are overdue
			{100, 9, 0, 1, "+unknown_outcomes_warning", "pool_use_warning unknown_outcomes_warning"},
			{100, 9, 0, 1, "", "pool_use_warning unknown_outcomes_warning"},
			{100, 9, 0, 1, "+pool_use_critical +dial_failures_warning", "pool_use_critical dial_failures_warning unknown_outcomes_warning"},
			{100, 9, 1, 1, "+breaker_open_critical", "breaker_open_critical pool_use_critical unknown_outcomes_warning"},
			{10, 9, 1, 1, "-pool_use_warning -pool_use_critical +pool_timeouts_warning", // from here on nothing explains it
				"breaker_open_critical leases_overdue_warning pool_timeouts_warning unknown_outcomes_warning"},
			{10, 0, 1, 1, "-leases_overdue_warning", "breaker_open_critical pool_timeouts_warning unknown_outcomes_warning"},
			{10, 0, 0, 0, "-pool_timeouts_warning -unknown_outcomes_warning -dial_failures_warning -breaker_open_critical", ""},
		} {
			n.Main, n.LeasesOverdue, n.BreakersOpen = monitor.Pool{Size: 100, Open: 100, InUse: step.inUse}, step.overdue, step.breakers
			n.DialErrors, n.PoolTimeouts, n.UnknownOutcomes = n.DialErrors+step.fails, n.PoolTimeouts+step.fails, n.UnknownOutcomes+step.fails
			src.Set(monitortest.Node(n))
			periods(1)
			if s := got.take(); s != step.want {
				t.Errorf("step %d: %q, want %q", i, s, step.want)
			}
			var active []string
			for _, a := range m.Alerts() {
				active = append(active, a.Name)
				if a.Metric == monitor.PoolUse && (a.LeasesOverdue != step.overdue || !strings.Contains(a.String(), fmt.Sprintf("; %d leases held past the leak threshold", step.overdue))) {
					t.Errorf("step %d: %v", i, a)
				}
			}
			if s := strings.Join(active, " "); s != step.active {
				t.Errorf("step %d: active %q, want %q", i, s, step.active)
			}
		}
	})
}

func TestTheAlertOfAFullPoolSaysWhoWaitsAndWhatToDo(t *testing.T) {
	const size, waits = 2, "48 waiting callers"
	full := func(change func(*monitor.Numbers)) monitor.Numbers {
		times := monitortest.Distribution(slices.Repeat([]time.Duration{ms(200)}, 200)...)
		n := monitor.Numbers{Main: monitor.Pool{Size: size, Open: size, InUse: size, Waiting: 48}, PeakDemand: 50, Hits: 200, PoolTimeouts: 3,
			Waits: 200, Wait: times, Hold: times, Command: times}
		change(&n)
		return n
	}
	for name, c := range map[string]struct {
		n      monitor.Numbers
		has    []string
		advice bool
		held   time.Duration
	}{
		"too small":             {full(func(*monitor.Numbers) {}), []string{waits, "try a PoolSize of 4"}, true, ms(200)},
		"leases held right now": {full(func(*monitor.Numbers) {}), []string{waits}, false, 10 * time.Second},
		"leases held for long":  {full(func(n *monitor.Numbers) { n.Hold = monitortest.Distribution(2 * time.Second) }), []string{waits, "leases are held for 2s on average: shorten them first"}, true, ms(200)},
		"leases overdue":        {full(func(n *monitor.Numbers) { n.LeasesOverdue = 1 }), []string{waits, "1 lease held past"}, false, ms(200)},
		"nobody waits":          {full(func(n *monitor.Numbers) { n.Main.Waiting, n.PoolTimeouts = 0, 0 }), nil, false, ms(200)},
		"a slow server":         {full(func(n *monitor.Numbers) { n.Command = monitortest.Distribution(time.Minute, time.Minute) }), []string{waits}, false, ms(200)},
		"nothing gets done":     {full(func(n *monitor.Numbers) { n.Command, n.Hold = monitor.Distribution{}, monitor.Distribution{} }), []string{waits}, false, ms(200)},
		"an unreachable server": {full(func(n *monitor.Numbers) { n.DialErrors = 1 }), []string{waits}, false, ms(200)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := &monitortest.Source{}
				var got []monitor.Alert
				m := monitortest.New(t, src, monitor.WithoutDefaults(), monitor.Threshold{Metric: monitor.PoolUse, Limit: 0.9})
				m.OnAlert(func(a monitor.Alert) { got = append(got, a) })
				synctest.Wait()
				src.Set(func(s *monitor.Sample) {
					s.Nodes = []monitor.Node{{Name: "a:1", Numbers: c.n}}
					for i := range 3 {
						s.AddHolder(monitor.Holder{Node: "a:1", Site: "web.go:31", For: c.held / 2 * time.Duration(i)})
					}
				})
				periods(1)
				synctest.Wait()
				if len(got) != 1 {
					t.Fatalf("%v", got)
				}
				for _, s := range append(c.has, "; held by web.go:31 for "+c.held.String()) {
					if !strings.Contains(got[0].String(), s) {
						t.Errorf("%q is not in %s", s, got[0])
					}
				}
				if n := strings.Count(got[0].String(), "web.go:31"); n != 1 {
					t.Errorf("the site is named %d times: %s", n, got[0])
				}
				if (got[0].Advice != "") != c.advice {
					t.Errorf("advice: %q", got[0].Advice)
				}
			})
		})
	}
}

func TestAnAlertOfWhatShouldBeZeroNamesNoLimit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a    monitor.Alert
		want string
	}{
		{monitor.Alert{Name: "it", Level: monitor.Warning, Metric: monitor.Leaks, Active: true, Value: 1, Worst: 1, Limit: 1}, "warning it: 1 leaked lease"},
		{monitor.Alert{Name: "it", Level: monitor.Warning, Metric: monitor.Leaks, Worst: 1, Limit: 1}, "warning it is over after 0s: 0 leaked leases, it was 1 at worst"},
		{monitor.Alert{Name: "it", Level: monitor.Warning, Metric: monitor.Waiting, Active: true, Value: 30, Worst: 30, Limit: 20}, "warning it: 30 waiting callers, limit 20"},
	} {
		if got := c.a.String(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestTheDocsListEachDefaultThresholdWithItsLimit(t *testing.T) {
	text, err := os.ReadFile("../docs/OPTIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range monitor.DefaultThresholds() {
		if row := fmt.Sprintf("| `%s` | %v ", d.Name, d.Limit); !strings.Contains(string(text), row) {
			t.Errorf("docs/OPTIONS.md has no row %q", row)
		}
	}
}
