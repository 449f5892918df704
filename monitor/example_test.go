package monitor_test

import (
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/monitor"
)

// A plain go-redis client, watched. With a managed client the Source is already there.
func Example() {
	rdb := redis.NewClient(&redis.Options{Addr: "localhost:6379", PoolSize: 20})
	defer func() { _ = rdb.Close() }()

	src := monitor.FromClient(rdb)
	rdb.AddHook(src.Hook()) // to time commands and dials, too
	m, err := monitor.New(src, monitor.WithInterval(time.Minute))
	if err != nil {
		panic(err)
	}
	defer func() { _ = m.Close() }()

	remove := m.OnStats(func(s monitor.Stats) { fmt.Println(s) })
	defer remove()
	m.OnAlert(func(a monitor.Alert) { fmt.Println(a) })

	fmt.Println(m.Stats())
	// Output: open=0 idle=0 in_use=0/30 peak=0 waiting=0 leases=0 dialed=0 closed=0 retries=0
}

// fixed is a Source whose numbers do not change.
type fixed monitor.Numbers

func (f fixed) Sample(s *monitor.Sample) {
	s.Nodes = []monitor.Node{{Name: "redis:6379", Numbers: monitor.Numbers(f)}}
}

func ExampleThreshold() {
	src := fixed{Main: monitor.Pool{Size: 10, Open: 10, InUse: 7, Idle: 3}}
	alerts := make(chan monitor.Alert, 1)
	m, err := monitor.New(src,
		monitor.WithInterval(10*time.Millisecond),
		monitor.Threshold{Name: "pool getting full", Metric: monitor.PoolUse, Limit: 0.7},
		monitor.WithAlertHandler(func(a monitor.Alert) { alerts <- a }),
	)
	if err != nil {
		panic(err)
	}
	defer func() { _ = m.Close() }()
	fmt.Println(<-alerts)
	// Output: warning pool getting full on redis:6379: main pool use is 70 %, limit 70 %
}

func ExampleThreshold_refused() {
	_, err := monitor.New(fixed{}, monitor.Threshold{Metric: monitor.PoolUse, Limit: 80})
	fmt.Println(err)
	// Output: lifeguard/monitor: threshold "pool_use_warning": Limit is 80: pool use is a share, at most 1
}

func ExampleMonitor_Advice() {
	m, err := monitor.New(fixed{Main: monitor.Pool{Size: 10, Open: 10, InUse: 10}, Hits: 5000, PeakDemand: 14, Waits: 300, PoolTimeouts: 2})
	if err != nil {
		panic(err)
	}
	a := m.Advice()
	fmt.Println(a.PoolSize, "->", a.Suggested)
	// Output: 10 -> 18
}

func ExampleHistogram() {
	var h monitor.Histogram
	for i := range 100 {
		h.Record(time.Duration(i) * time.Millisecond)
	}
	before := h.Snapshot()
	h.Record(time.Second)
	fmt.Println(before.Count, before.Max)
	fmt.Println(h.Snapshot().Sub(before).Max)
	// Output:
	// 100 99ms
	// 1s
}
