package monitor_test

import (
	"context"
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
type logged struct{ redistest.Log }

func (l *logged) option() monitor.Option {
	return monitor.WithLogger(l.Logger())
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
