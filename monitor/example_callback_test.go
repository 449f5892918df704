package monitor_test

import (
	"expvar"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/monitor"
)

// Numbers every period, to whoever wants them, until remove is called.
func ExampleMonitor_OnStats() {
	src := fixed{Main: monitor.Pool{Size: 10, Open: 4, InUse: 3, Idle: 1}}
	m, err := monitor.New(src, monitor.WithInterval(10*time.Millisecond))
	if err != nil {
		panic(err)
	}
	defer func() { _ = m.Close() }()

	told := make(chan string, 1)
	remove := m.OnStats(func(s monitor.Stats) {
		select {
		case told <- fmt.Sprintf("%d of %d in use", s.Main.InUse, s.Main.Size):
		default:
		}
	})
	defer remove()
	fmt.Println(<-told)
	// Output: 3 of 10 in use
}

// An alert begins, and ends when the value has come back far enough.
func ExampleMonitor_OnAlert() {
	src := fixed{Main: monitor.Pool{Size: 10, Open: 10, InUse: 10}}
	m, err := monitor.New(src, monitor.WithInterval(10*time.Millisecond), monitor.WithoutDefaults(),
		monitor.Threshold{Name: "full", Level: monitor.Critical, Metric: monitor.PoolUse, Limit: 0.95})
	if err != nil {
		panic(err)
	}
	defer func() { _ = m.Close() }()
	alerts := make(chan monitor.Alert, 1)
	m.OnAlert(func(a monitor.Alert) { alerts <- a })
	a := <-alerts
	fmt.Println(a.Level, a.Name, a.Active)
	// Output: critical full true
}

// A plain client: what it does not report is listed, instead of being a meaningless zero.
func ExampleFromClient() {
	rdb := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	defer func() { _ = rdb.Close() }()
	m, err := monitor.New(monitor.FromClient(rdb))
	if err != nil {
		panic(err)
	}
	s := m.Stats()
	fmt.Println(s.Known("in_use"), s.Known("leaks"))
	// Output: true false
}

// Under /debug/vars.
func ExampleMonitor_Var() {
	m, err := monitor.New(fixed{})
	if err != nil {
		panic(err)
	}
	expvar.Publish("redis", expvar.Func(func() any { return m.Stats() })) // or m.Var(), which is an expvar.Var
	fmt.Println(m.Var().String()[:8])
	// Output: {"time":
}

func ExampleStats_Known() {
	s := monitor.Stats{Unknown: []string{"leaks"}, Gaps: []string{"leases: a plain client has none"}}
	fmt.Println(s.Known("leaks"), s.Known("idle"))
	// Output: false true
}
