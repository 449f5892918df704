package monitor_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/monitortest"
)

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

var bg = context.Background()

// inUse makes samples of a pool of 100 with n connections in use.
func inUse(n int) func(*monitor.Sample) {
	return monitortest.Node(monitor.Numbers{Main: monitor.Pool{Size: 100, Open: 100, Idle: 100 - n, InUse: n}})
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
