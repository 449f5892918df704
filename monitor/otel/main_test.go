package otel_test

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor"
)

func TestMain(m *testing.M) {
	// go-redis has one goroutine per process that keeps the time, for ever.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.init.0.func1"),
		goleak.Cleanup(func(code int) {
			redistest.Stop()
			os.Exit(code)
		}))
}

var bg = context.Background()

// script is a Source whose samples the test sets.
type script struct {
	mu   sync.Mutex
	next func(*monitor.Sample)
}

func (s *script) Sample(to *monitor.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next(to)
}

func (s *script) set(next func(*monitor.Sample)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = next
}

func newMonitor(t testing.TB, src monitor.Source) *monitor.Monitor {
	t.Helper()
	m, err := monitor.New(src, monitor.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func distribution(ds ...time.Duration) monitor.Distribution {
	var h monitor.Histogram
	for _, d := range ds {
		h.Record(d)
	}
	return h.Snapshot()
}

// everything is a node of which all is known and nothing is zero.
func everything() monitor.Numbers {
	d := distribution(3*time.Millisecond, 30*time.Millisecond, 3*time.Second)
	return monitor.Numbers{
		Main: monitor.Pool{Size: 10, Open: 9, Idle: 2, InUse: 7, Waiting: 3}, Pipeline: monitor.Pool{Size: 5, Open: 4, Idle: 3, InUse: 1, Waiting: 1},
		Subscribed: 2, Dialing: 1, Leases: 4, PeakInUse: 12, PeakDemand: 20, BreakersOpen: 1, MaxClients: 100, ServerClients: 42,
		Hits: 500, Misses: 15, Waits: 11, WaitTime: 2500 * time.Millisecond, PoolTimeouts: 6, Dialed: 25, DialErrors: 8,
		Closed: map[string]uint64{"age": 5, "error": 7}, Retries: map[string]uint64{"timeout": 13}, UnknownOutcomes: 14, BudgetRefusals: 16,
		BreakerOpened: 17, BreakerClosed: 18, BreakerRefusals: 19, Leaks: 21, Dial: d, Wait: d, Hold: d, Command: d,
	}
}

func known(s *monitor.Sample) { s.Nodes = []monitor.Node{{Name: "a:1", Numbers: everything()}} }
