package monitor_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/monitortest"
)

func TestAdviceFollowsFromWhatWasSeen(t *testing.T) {
	times := func(n int, d time.Duration) monitor.Distribution {
		var h monitor.Histogram
		for range n {
			h.Record(d)
		}
		return h.Snapshot()
	}
	pool := monitor.Pool{Size: 10, Open: 10}
	for name, c := range map[string]struct {
		n       monitor.Numbers
		periods int
		want    int
		words   string
	}{
		"nothing known": {monitor.Numbers{}, 20, 0, "the size is not known"},
		"little seen":   {monitor.Numbers{Main: pool, Hits: 99}, 20, 10, "too little was seen: 99 uses"},
		"it fits":       {monitor.Numbers{Main: pool, Hits: 1000, PeakDemand: 7}, 20, 10, "up to 7 callers wanted a connection at once; hardly anybody waited: the size fits"},
		"timeouts": {monitor.Numbers{Main: pool, Hits: 1000, PeakDemand: 14, PoolTimeouts: 3, Waits: 30}, 1, 18,
			"up to 14 callers wanted a connection at once; 30 callers waited, 0s on average, and 3 got no connection: 18 would have done"},
		"a stampede":  {monitor.Numbers{Main: pool, Hits: 1000, PeakDemand: 4000, Wait: times(100, ms(50))}, 1, 20, "twice as many is a step"},
		"short waits": {monitor.Numbers{Main: pool, Hits: 1000, PeakDemand: 14, Wait: times(100, time.Microsecond)}, 1, 10, "did not wait long: the size fits"},
		"starvation, in all": {monitor.Numbers{Main: pool, Hits: 1, PeakDemand: 34, PoolTimeouts: 24, PoolTimeoutsCtx: 24, Waits: 24, Wait: times(24, ms(600))}, 1, 20,
			"24 callers waited, p99 "},
		"leaks": {monitor.Numbers{Main: pool, Hits: 1000, PeakDemand: 34, PoolTimeouts: 24, Waits: 24, Leases: 10, LeasesOverdue: 10}, 1, 10,
			"leaks hold 10 of 10 connections: more connections will not help"},
		"average wait": {monitor.Numbers{Main: pool, Hits: 1000, PeakDemand: 12, Waits: 100, WaitTime: time.Second}, 1, 15, "100 callers waited, 10ms on average"},
		"long holds": {monitor.Numbers{Main: pool, Hits: 1000, PeakDemand: 14, PoolTimeouts: 3, Hold: times(10, 5*time.Second)}, 1, 10,
			"leases are held for 5s on average: shorten them first"},
		"slow dials":                    {monitor.Numbers{Main: pool, Hits: 1000, PeakDemand: 4, Wait: times(100, ms(50))}, 1, 10, "it was the dialing"},
		"too large":                     {monitor.Numbers{Main: pool, Hits: 1000, PeakDemand: 3}, 20, 5, "the peak and half of it again need 5"},
		"too large, but seen too short": {monitor.Numbers{Main: pool, Hits: 1000, PeakDemand: 3}, 2, 10, "the size fits"},
	} {
		synctest.Test(t, func(t *testing.T) {
			src := &monitortest.Source{}
			m := monitortest.New(t, src)
			m.Start()
			synctest.Wait()
			src.Set(monitortest.Node(c.n))
			periods(c.periods)
			a := m.Advice()
			if a.Suggested != c.want || !strings.Contains(a.Why, c.words) {
				t.Errorf("%s: %v", name, a)
			}
		})
	}
}

func TestAdviceUsesLittlesLaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &monitortest.Source{}
		var h monitor.Histogram
		src.Set(func(s *monitor.Sample) {
			monitortest.Node(monitor.Numbers{Main: monitor.Pool{Size: 40, Open: 40}, PeakInUse: 9, PeakDemand: 9, Command: h.Snapshot()})(s)
		})
		m := monitortest.New(t, src)
		m.Start()
		synctest.Wait()
		for range 30 * 800 { // 800 a second, 10 ms each: 8 at a time
			h.Record(ms(10))
		}
		periods(12)
		if a := m.Advice(); a.Load != 8 || a.Peak != 9 || a.Suggested != 16 || a.Node != "a:1" || a.Seen != 12*period ||
			!strings.Contains(a.String(), "pool size 40, suggested 16: in 6m0s up to 9 callers wanted a connection at once, and by Little's law 8 in use") {
			t.Errorf("%+v", a)
		}
	})
}

// PoolSize is not the size of a blocking pool, and its callers wait for the server.
func TestNoPoolSizeIsAdvisedForABlockingPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &monitortest.Source{}
		src.Set(func(s *monitor.Sample) {
			s.Nodes = []monitor.Node{
				{Name: "a:1", Numbers: monitor.Numbers{Main: monitor.Pool{Size: 30, Open: 30, Idle: 30}, Hits: 1000, PeakDemand: 20}},
				{Name: "a:1" + monitor.Blocking, Numbers: monitor.Numbers{Main: monitor.Pool{Size: 40, Open: 40, InUse: 40, Waiting: 9}, Hits: 1000, Waits: 90, PoolTimeouts: 9, PeakDemand: 49}},
			}
		})
		m := monitortest.New(t, src, monitor.WithoutDefaults(), monitor.Threshold{Metric: monitor.PoolUse, Limit: 0.8})
		m.Start()
		synctest.Wait()
		periods(1)
		if a := m.Advice(); a.Node != "a:1" || a.PoolSize != 30 || a.Suggested != 30 {
			t.Errorf("%+v", a)
		}
		if a := m.Alerts(); len(a) != 1 || a[0].Pool != "blocking" || a[0].Advice != "" {
			t.Errorf("%+v", a)
		}
	})
}
