package monitor_test

import (
	"bytes"
	"encoding/json"
	"expvar"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/monitortest"
)

func TestNothingRunsUntilThereIsSomebodyToTell(t *testing.T) {
	begin := map[string]func(*monitor.Monitor){
		"OnStats": func(m *monitor.Monitor) { m.OnStats(func(monitor.Stats) {}) },
		"OnAlert": func(m *monitor.Monitor) { m.OnAlert(func(monitor.Alert) {}) },
		"Start":   func(m *monitor.Monitor) { m.Start(); m.Start() },
	}
	for name, f := range begin {
		synctest.Test(t, func(t *testing.T) {
			src := &monitortest.Source{}
			m := monitortest.New(t, src)
			periods(10)
			if src.Samples() != 0 {
				t.Errorf("%d samples before %s", src.Samples(), name)
			}
			f(m)
			periods(2)
			if n := src.Samples(); n != 3 { // one to begin with
				t.Errorf("%d samples after %s", n, name)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		src := &monitortest.Source{}
		monitortest.New(t, src, monitor.Threshold{Metric: monitor.Leaks, Limit: 1})
		periods(1)
		if src.Samples() == 0 {
			t.Error("no samples for a threshold")
		}
	})
}

func TestStatsHaveTotalsAndWhatIsRecent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var commands monitor.Histogram
		src := &monitortest.Source{}
		set := func(dialed, aged, retries uint64, leases int) {
			src.Set(func(s *monitor.Sample) {
				a := monitor.Numbers{Main: monitor.Pool{Size: 5, Open: 4, Idle: 1, InUse: 3, Waiting: 2}, Pipeline: monitor.Pool{Size: 10, Open: 1, Idle: 1},
					Subscribed: 1, Leases: leases, Dialed: dialed, Closed: map[string]uint64{"age": aged}, Command: commands.Snapshot()}
				b := monitor.Numbers{Main: monitor.Pool{Size: 5, Open: 2, Idle: 2}, Dialed: 2, Closed: map[string]uint64{"idle": 1}}
				s.Nodes = []monitor.Node{{Name: "b:1", Numbers: b}, {Name: "a:1", Numbers: a}}
				s.Rest = monitor.Numbers{Retries: map[string]uint64{"network": retries}, UnknownOutcomes: 1}
			})
		}
		set(10, 3, 1, 0)
		commands.Record(time.Second)
		var got []monitor.Stats
		m := monitortest.New(t, src)
		m.OnStats(func(s monitor.Stats) { got = append(got, s) })
		synctest.Wait()
		for range 60 {
			commands.Record(ms(10))
		}
		set(16, 5, 4, 1)
		periods(1)
		if len(got) != 1 {
			t.Fatalf("%d stats", len(got))
		}
		s := got[0]
		if s.Interval != period || s.Open != 8 || s.Idle != 4 || s.InUse != 3 || s.Waiting != 2 || s.Leases != 1 || s.PeakInUse != 3 || s.PeakDemand != 5 {
			t.Errorf("gauges: %+v", s.Numbers)
		}
		if s.Dialed != 18 || s.ClosedAll() != 6 || s.Closed["age"] != 5 || s.Closed["idle"] != 1 || s.RetriesAll() != 4 || s.UnknownOutcomes != 1 || s.Command.Count != 61 || s.Command.Max != time.Second {
			t.Errorf("counters: %+v", s.Numbers)
		}
		r := s.Recent
		if r.Dialed != 6 || !reflect.DeepEqual(r.Closed, map[string]uint64{"age": 2}) || r.Retries["network"] != 3 || r.UnknownOutcomes != 0 || r.Command.Count != 60 || r.Command.Max > ms(11) || r.InUse != 3 {
			t.Errorf("recent: %+v", r)
		}
		if s.Rates.Commands != 2 || s.Rates.Dialed != 0.2 {
			t.Errorf("rates: %+v", s.Rates)
		}
		if len(s.Nodes) != 2 || s.Nodes[0].Name != "a:1" || s.Nodes[0].Recent.Dialed != 6 || s.Nodes[1].Open != 2 || s.Nodes[0].Rates.Dialed != 0.2 {
			t.Errorf("nodes: %+v", s.Nodes)
		}
		want := "open=8 idle=4 in_use=3/20 peak=3 waiting=2 leases=1 dialed=18 closed=6(age=5,idle=1) retries=4(network=4) unknown_outcomes=1 command(n=60 p50=9.96ms"
		if !strings.HasPrefix(s.String(), want) {
			t.Errorf("got  %s\nwant %s...", s, want)
		}
		var b bytes.Buffer
		slog.New(slog.NewTextHandler(&b, nil)).Info("x", "redis", s)
		if !strings.Contains(b.String(), "redis.open=8 redis.idle=4") {
			t.Errorf("logged %s", b.String())
		}
		out, err := json.Marshal(s)
		var back monitor.Stats
		if err != nil || json.Unmarshal(out, &back) != nil || !back.Time.Equal(s.Time) {
			t.Fatalf("%s came back as %v", out, back)
		}
		if back.Time = s.Time; !reflect.DeepEqual(back, s) {
			t.Errorf("%s came back as %+v", out, back)
		}
	})
}

func TestAskingForStatsHidesNothingFromTheCallbacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rec monitor.Recorder
		src := &monitortest.Source{}
		src.Set(func(s *monitor.Sample) {
			n := monitor.Numbers{Main: monitor.Pool{Size: 100, Open: 9, Idle: 9}}
			rec.Fill(&n)
			s.Nodes = []monitor.Node{{Name: "a:1", Numbers: n}}
		})
		var latest atomic.Pointer[monitor.Stats]
		m := monitortest.New(t, src)
		m.OnStats(func(s monitor.Stats) { latest.Store(&s) })
		synctest.Wait()
		for range 7 { // a spike between two samples
			rec.Use.Enter()
		}
		for range 7 {
			rec.Use.Leave()
			rec.Command.Record(ms(1))
		}
		time.Sleep(period / 2)
		for range 3 {
			if s := m.Stats(); s.PeakInUse != 7 || s.Recent.Command.Count != 7 || s.Interval != period/2 {
				t.Errorf("Stats: %+v", s)
			}
		}
		time.Sleep(period / 2)
		synctest.Wait()
		got := latest.Load()
		if got.PeakInUse != 7 || got.Recent.Command.Count != 7 || got.Interval != period {
			t.Errorf("OnStats: %+v", got)
		}
		periods(1)
		got = latest.Load()
		if got.PeakInUse != 0 || got.Recent.Command.Count != 0 || got.Command.Count != 7 {
			t.Errorf("the next period: %+v", got)
		}
	})
}

func TestWithoutAGoroutinePeriodsGoFromCallToCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &monitortest.Source{}
		m := monitortest.New(t, src)
		dialed := func(n uint64) { src.Set(monitortest.Node(monitor.Numbers{Dialed: n})) }
		for i, step := range []struct {
			after          time.Duration
			dialed, recent uint64
			interval       time.Duration
			rate           float64
		}{
			{0, 5, 0, 0, 0}, // nothing to compare with
			{period / 2, 11, 6, period / 2, 0.4},
			{period / 2, 20, 15, period, 0.5}, // a period is over
			{period / 2, 23, 3, period / 2, 0.2},
		} {
			time.Sleep(step.after)
			dialed(step.dialed)
			if s := m.Stats(); s.Dialed != step.dialed || s.Recent.Dialed != step.recent || s.Interval != step.interval || s.Rates.Dialed != step.rate {
				t.Errorf("step %d: %d dialed, %d recent, %v, %v", i, s.Dialed, s.Recent.Dialed, s.Interval, s.Rates.Dialed)
			}
		}
	})
}

func TestTotalsDoNotFallWhenNodesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &monitortest.Source{}
		m := monitortest.New(t, src)
		for i, step := range []struct {
			nodes         map[string]uint64 // dialed
			total, recent uint64
		}{
			{map[string]uint64{"a": 5, "b": 7}, 12, 0},
			{map[string]uint64{"a": 6, "b": 7}, 13, 1},
			{map[string]uint64{"a": 8}, 15, 2},                 // b has left
			{map[string]uint64{"a": 8, "c": 3}, 18, 3},         // c is new
			{map[string]uint64{"a": 8, "b": 9, "c": 3}, 20, 2}, // b is back
			{map[string]uint64{"a": 1, "b": 9, "c": 3}, 21, 1}, // a began anew
			{map[string]uint64{"a": 2, "c": 3}, 22, 1},
			{map[string]uint64{"a": 2, "b": 4, "c": 3}, 26, 4}, // b is back, and began anew
		} {
			src.Set(func(s *monitor.Sample) {
				for name, n := range step.nodes {
					s.Nodes = append(s.Nodes, monitor.Node{Name: name, Numbers: monitor.Numbers{Dialed: n}})
				}
			})
			time.Sleep(period)
			if s := m.Stats(); s.Dialed != step.total || s.Recent.Dialed != step.recent {
				t.Errorf("step %d: %d in all, %d recent, want %d, %d", i, s.Dialed, s.Recent.Dialed, step.total, step.recent)
			}
		}
	})
}

func TestAskingChangesNothing(t *testing.T) {
	src := &monitortest.Source{}
	shared := map[string]uint64{"age": 1} // a Source may keep its maps
	src.Set(func(s *monitor.Sample) {
		s.Rest.Closed = shared
		s.Nodes = []monitor.Node{{Name: "a", Numbers: monitor.Numbers{Closed: shared}}, {Name: "b", Numbers: monitor.Numbers{Closed: shared}}}
	})
	m := monitortest.New(t, src)
	first := m.Stats()
	for range 3 {
		if s := m.Stats(); s.ClosedAll() != 3 || s.Nodes[0].ClosedAll() != 1 {
			t.Errorf("%d closed in all, %d of a", s.ClosedAll(), s.Nodes[0].ClosedAll())
		}
	}
	shared["age"] = 2
	if s := m.Stats(); first.ClosedAll() != 3 || s.ClosedAll() != 6 {
		t.Errorf("the first Stats have %d closed now, the latest %d", first.ClosedAll(), s.ClosedAll())
	}
}

func TestTwoNodesOfOneNameAreAGap(t *testing.T) {
	src := &monitortest.Source{}
	src.Set(func(s *monitor.Sample) {
		s.Nodes = []monitor.Node{{Name: "a", Numbers: monitor.Numbers{Dialed: 1}}, {Name: "a", Numbers: monitor.Numbers{Dialed: 2}}}
	})
	if s := monitortest.New(t, src).Stats(); s.Dialed != 1 || len(s.Nodes) != 1 || len(s.Gaps) != 1 {
		t.Errorf("%+v", s)
	}
}

func TestAClosedMonitorDoesNotStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &monitortest.Source{}
		m := monitortest.New(t, src)
		_ = m.Close()
		m.Start()
		m.OnStats(func(monitor.Stats) { t.Error("called") })
		periods(3)
		if src.Samples() != 0 {
			t.Errorf("%d samples", src.Samples())
		}
	})
}

// A number that is not known is no zero: it neither begins an alert nor ends one.
func TestAnUnknownNumberEndsNoAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, got := &monitortest.Source{}, &alerts{}
		src.Set(func(s *monitor.Sample) { s.Rest.Main.Waiting = 9 })
		m := monitortest.New(t, src, monitor.WithAlertHandler(got.add), monitor.WithoutDefaults(), monitor.Threshold{Metric: monitor.Waiting, Limit: 3})
		periods(1)
		src.Set(func(s *monitor.Sample) { s.Gap("who waits", "waiting") })
		periods(2)
		if s := got.take(); s != "+waiting_warning" || len(m.Alerts()) != 1 {
			t.Errorf("%q: want an alert that goes on", s)
		}
		src.Set(func(s *monitor.Sample) {})
		periods(1)
		if s := got.take(); s != "-waiting_warning" {
			t.Errorf("%q: want its end", s)
		}
	})
}

func TestASourceThatPanicsLeavesAGapAndNoWrongNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, got := &monitortest.Source{}, &alerts{}
		good := func(s *monitor.Sample) {
			inUse(90)(s)
			s.Nodes[0].Dialed, s.Nodes[0].Main.Waiting, s.Rest.Leaks = 5, 3, 2
		}
		src.Set(good)
		m := monitortest.New(t, src, monitor.WithAlertHandler(got.add), monitor.Threshold{Metric: monitor.Waiting, Limit: 3})
		periods(1)
		src.Set(func(*monitor.Sample) { panic("broken") })
		periods(1)
		if s := m.Stats(); s.Dialed != 5 || s.Leaks != 2 || s.InUse != 0 || fmt.Sprint(s.Gaps) != "[all gauges: the source panicked: broken]" {
			t.Errorf("%+v", s)
		}
		src.Set(good)
		periods(1)
		if s := m.Stats(); s.Dialed != 5 || s.Leaks != 2 || s.InUse != 90 || len(s.Gaps) != 0 {
			t.Errorf("%+v", s)
		}
		if s := got.take(); s != "+pool_use_warning" { // who waits is explained by it
			t.Errorf("%q: want alerts that go on", s)
		}
	})
}

func TestACallbackThatBlocksOrPanicsDelaysNobodyAndIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, release := &logged{}, make(chan struct{})
		m := monitortest.New(t, &monitortest.Source{}, log.option())
		var blocked, panics, exits, good int
		m.OnStats(func(monitor.Stats) { blocked++; <-release })
		m.OnStats(func(monitor.Stats) { panics++; panic("oh") })
		m.OnStats(func(monitor.Stats) { exits++; runtime.Goexit() })
		m.OnStats(func(monitor.Stats) { good++ })
		periods(10)
		if blocked != 1 || panics != 10 || exits != 10 || good != 10 {
			t.Errorf("blocked %d, panics %d, exits %d, good %d", blocked, panics, exits, good)
		}
		s := log.String()
		if strings.Count(s, "blocks") != 1 || strings.Count(s, "panicked") != 1 {
			t.Errorf("reported: %s", s)
		}
		close(release)
		synctest.Wait()
		if blocked != 5 { // the first and the 4 latest
			t.Errorf("after the block, %d calls", blocked)
		}
	})
}

func TestCallsOfACallbackFollowOneAnotherInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &monitortest.Source{}
		var n atomic.Uint64
		src.Set(func(s *monitor.Sample) { s.Rest.Dialed = n.Add(1) })
		m := monitortest.New(t, src, new(logged).option())
		var last atomic.Uint64
		var inside atomic.Int32
		m.OnStats(func(s monitor.Stats) {
			if before := last.Swap(s.Dialed); inside.Add(1) != 1 || s.Dialed <= before {
				t.Errorf("%d after %d", s.Dialed, before)
			}
			time.Sleep(period * 3 / 2)
			inside.Add(-1)
		})
		periods(20)
		if last.Load() < 10 {
			t.Errorf("the last one was %d", last.Load())
		}
		time.Sleep(10 * period)
		_ = m.Close()
		time.Sleep(10 * period)
	})
}

func TestACallbackMayUseTheMonitorEvenCloseIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := monitortest.New(t, &monitortest.Source{})
		calls := 0
		removes := make(chan func(), 1)
		removes <- m.OnStats(func(monitor.Stats) {
			calls++
			_, _ = m.Stats(), m.Advice()
			(<-removes)()
			m.OnStats(func(monitor.Stats) { calls++; _ = m.Close() })
		})
		periods(5)
		if calls != 2 {
			t.Errorf("%d calls", calls)
		}
	})
}

func TestAfterRemoveAndAfterCloseNobodyIsCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, log := &monitortest.Source{}, &logged{}
		m := monitortest.New(t, src, log.option())
		a, b := 0, 0
		remove := m.OnStats(func(monitor.Stats) { a++ })
		m.OnStats(func(monitor.Stats) { b++ })
		periods(2)
		remove()
		remove()
		periods(2)
		for range 2 {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
		n := src.Samples()
		m.OnStats(func(monitor.Stats) { b++ })()
		m.OnAlert(func(monitor.Alert) { b++ })
		m.Start()
		periods(5)
		if a != 2 || b != 4 || src.Samples() != n {
			t.Errorf("a was called %d times, b %d; %d samples after Close", a, b, src.Samples()-n)
		}
		if m.Stats(); src.Samples() != n+1 {
			t.Error("Stats works after Close")
		}
		m.OnStats(nil)()
		m.OnAlert(nil)()
		if strings.Count(log.String(), "the callback is nil") != 2 {
			t.Errorf("logged %q", log)
		}
	})
}

func TestRegisteringRemovingAndClosingAtOnceIsSafe(t *testing.T) {
	src := &monitortest.Source{}
	src.Set(inUse(90))
	m := monitortest.New(t, src, monitor.WithInterval(monitor.MinInterval))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				r1, r2 := m.OnStats(func(monitor.Stats) {}), m.OnAlert(func(monitor.Alert) {})
				_, _ = m.Stats(), m.Alerts()
				r1()
				_ = m.Advice()
				r2()
			}
		})
	}
	wg.Go(func() {
		for src.Samples() < 300 {
			runtime.Gosched()
		}
		_ = m.Close()
	})
	wg.Wait()
}

func TestTheLongestHoldersAreKept(t *testing.T) {
	src := &monitortest.Source{}
	src.Set(func(s *monitor.Sample) {
		for _, n := range []int{3, 9, 1, 7, 8, 2, 6, 5, 4, 9} {
			h := monitor.Holder{For: time.Duration(n) * time.Second}
			if kept := s.Holds(h.For); !kept && n > 5 {
				t.Errorf("%d is not to be kept", n)
			}
			s.AddHolder(h)
		}
		s.Gap("x")
		s.Gap("x")
	})
	s := monitortest.New(t, src).Stats()
	var got []string
	for _, h := range s.Holders {
		got = append(got, h.For.String())
	}
	if strings.Join(got, " ") != "9s 9s 8s 7s 6s" || len(s.Gaps) != 1 {
		t.Errorf("%v, gaps %v", got, s.Gaps)
	}
}

func TestVarIsAnExpvarThatReadsAsJSON(t *testing.T) {
	src := &monitortest.Source{}
	src.Set(inUse(3))
	var v expvar.Var = monitortest.New(t, src).Var()
	var s monitor.Stats
	if err := json.Unmarshal([]byte(v.String()), &s); err != nil || s.InUse != 3 || s.Nodes[0].Main.Size != 100 {
		t.Errorf("%v: %s", err, v)
	}
}

// crowd is a Source of 3 nodes with 1000 connections, each held by somebody.
type crowd struct {
	rec   [3]monitor.Recorder
	since []time.Time
}

func newCrowd() *crowd {
	c := &crowd{}
	for i := range 1000 {
		c.since = append(c.since, time.Now().Add(-time.Duration(i*7919%1000)*time.Second))
	}
	for i := range c.rec {
		for j := range 10_000 {
			d := time.Duration(j*j) * 10
			c.rec[i].Dial.Record(d)
			c.rec[i].Wait.Record(d)
			c.rec[i].Hold.Record(d)
			c.rec[i].Command.Record(d)
		}
	}
	return c
}

func (c *crowd) Sample(s *monitor.Sample) {
	for i, name := range []string{"a:1", "b:1", "c:1"} {
		n := monitor.Node{Name: name}
		c.rec[i].Fill(&n.Numbers)
		n.Closed = map[string]uint64{"age": 1, "idle": 2, "error": 3}
		s.Nodes = append(s.Nodes, n)
	}
	now := time.Now()
	for i, t := range c.since {
		n := &s.Nodes[i%3]
		n.Main.Size, n.Main.Open, n.Main.InUse = n.Main.Size+1, n.Main.Open+1, n.Main.InUse+1
		if d := now.Sub(t); s.Holds(d) {
			s.AddHolder(monitor.Holder{Node: n.Name, Site: "web.go:1", For: d})
		}
	}
}

func BenchmarkSnapshotOf1000Connections(b *testing.B) {
	m := monitortest.New(b, newCrowd())
	b.ReportAllocs()
	for b.Loop() {
		if s := m.Stats(); s.InUse != 1000 {
			b.Fatal(s)
		}
	}
}
