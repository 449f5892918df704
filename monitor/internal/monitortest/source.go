// Package monitortest has what the tests of a Monitor and of its exporters share.
package monitortest

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/lifeguard-redis/lifeguard/monitor"
)

// Source is a monitor.Source whose samples the test sets. The zero value gives
// empty ones.
type Source struct {
	mu   sync.Mutex
	next func(*monitor.Sample)
	n    int
}

// Sample implements monitor.Source.
func (s *Source) Sample(to *monitor.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	if s.next != nil {
		s.next(to)
	}
}

// Set makes next fill the samples from now on.
func (s *Source) Set(next func(*monitor.Sample)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = next
}

// Samples is how many were taken.
func (s *Source) Samples() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// Of makes a Source whose samples next fills.
func Of(next func(*monitor.Sample)) *Source { return &Source{next: next} }

// Known makes a Source of one node, "a:1", that has Everything.
func Known() *Source { return Of(Node(Everything())) }

// Node makes samples of one node, "a:1".
func Node(n monitor.Numbers) func(*monitor.Sample) {
	return func(s *monitor.Sample) { s.Nodes = []monitor.Node{{Name: "a:1", Numbers: n}} }
}

// Period is that of a Monitor made with New, unless its options say otherwise.
const Period = 30 * time.Second

// New makes a Monitor that logs nothing, unless opts say otherwise, and is closed
// with the test.
func New(t testing.TB, src monitor.Source, opts ...monitor.Option) *monitor.Monitor {
	t.Helper()
	m, err := monitor.New(src, append([]monitor.Option{monitor.WithLogger(slog.New(slog.DiscardHandler)), monitor.WithInterval(Period)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// Everything are numbers of which all are known and none is zero.
func Everything() monitor.Numbers {
	d := Distribution(3*time.Millisecond, 30*time.Millisecond, 3*time.Second)
	return monitor.Numbers{
		Main: monitor.Pool{Size: 10, Open: 9, Idle: 2, InUse: 7, Waiting: 3, MinIdle: 2, MaxIdle: 8}, Pipeline: monitor.Pool{Size: 5, Open: 4, Idle: 3, InUse: 1, Waiting: 1},
		Subscribed: 2, Dialing: 1, LeasesOverdue: 1, Leases: 4, PeakInUse: 12, PeakDemand: 20, BreakersOpen: 1, MaxClients: 100, ServerClients: 42, Instances: 1, InstancesLost: 44,
		Hits: 500, Misses: 15, Waits: 11, WaitTime: 2500 * time.Millisecond, PoolTimeouts: 6, PoolTimeoutsCtx: 2, Dialed: 25, DialErrors: 8,
		Closed: map[string]uint64{"age": 5, "error": 7}, Retries: map[string]uint64{"timeout": 13}, HealthChanges: map[string]uint64{"unreachable": 22}, UnknownOutcomes: 14, BudgetRefusals: 16,
		BreakerOpened: 17, BreakerClosed: 18, BreakerRefusals: 19, Leaks: 21, Dial: d, Wait: d, Hold: d, Command: d,
	}
}

// Distribution is that of ds.
func Distribution(ds ...time.Duration) monitor.Distribution {
	var h monitor.Histogram
	for _, d := range ds {
		h.Record(d)
	}
	return h.Snapshot()
}
