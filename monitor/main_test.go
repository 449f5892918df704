package monitor_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"
	"testing/synctest"
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

// script is a Source whose next sample the test sets.
type script struct {
	mu   sync.Mutex
	next func(*monitor.Sample)
	n    int
}

func (s *script) Sample(to *monitor.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	if s.next != nil {
		s.next(to)
	}
}

// set makes next fill the samples from now on.
func (s *script) set(next func(*monitor.Sample)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = next
}

func (s *script) samples() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// node makes samples of one node.
func node(n monitor.Numbers) func(*monitor.Sample) {
	return func(s *monitor.Sample) { s.Nodes = []monitor.Node{{Name: "a:1", Numbers: n}} }
}

// inUse makes samples of a pool of 100 with n connections in use.
func inUse(n int) func(*monitor.Sample) {
	return node(monitor.Numbers{Main: monitor.Pool{Size: 100, Open: 100, Idle: 100 - n, InUse: n}})
}

// newMonitor makes a Monitor that is closed at the end of the test.
func newMonitor(t testing.TB, src monitor.Source, opts ...monitor.Option) *monitor.Monitor {
	t.Helper()
	m, err := monitor.New(src, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// logged collects a log.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logged) option() monitor.Option {
	return monitor.WithLogger(slog.New(slog.NewTextHandler(l, nil)))
}

const period = 30 * time.Second

// periods lets n periods pass, in a bubble of synctest.
func periods(n int) {
	for range n {
		time.Sleep(period)
		synctest.Wait()
	}
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }
