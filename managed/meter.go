package managed

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/command"
	"github.com/lifeguard-redis/lifeguard/monitor"
)

// meter counts, while commands run, what the Monitor reports about one unit. Hooks count demand and
// dials.
type meter struct {
	Dial, Wait, Command monitor.Histogram

	givenUp atomic.Uint64 // waits for a connection that ended with their ctx
	lost    atomic.Int64  // total duration of these, ns

	crowded atomic.Uint32 // commands that ended while others waited

	looked atomic.Int64 // when the waits were last read, on the tracker's clock
	mu     sync.Mutex
	pools  [2]waits // main and pipeline
}

// waits holds go-redis's counters as last read.
type waits struct {
	count, timeouts uint32
	ns              int64
}

// took is called for every command that has ended.
func (u *unit) took(cmd redis.Cmder, d time.Duration) {
	const long = 100 * time.Millisecond
	if d > long && command.MayBlock(cmd) {
		return // a blocking command: it was meant to wait
	}
	u.meter.Command.Record(d)
	if u.node.InFlight(hooks.PoolMain) >= u.rdb.Options().PoolSize && u.meter.crowded.Add(1)%16 == 0 {
		u.waiting()
	}
}

// waiting is called while callers wait for connections. go-redis reports only how many have waited
// and for how long in total; read every few milliseconds, these show how the waits are distributed.
func (u *unit) waiting() {
	const often = 5 * time.Millisecond
	now := int64(u.core.tracker.Elapsed())
	if last := u.meter.looked.Load(); now-last > int64(often) && u.meter.looked.CompareAndSwap(last, now) {
		u.meter.note(u.rdb)
	}
}

// note records the waits since the last read: their mean, once for each of them, and those that got
// no connection.
func (m *meter) note(rdb *redis.Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ps, limit := rdb.PoolStats(), rdb.Options().PoolTimeout
	for i, p := range []*redis.PoolStats{ps, (*redis.PoolStats)(ps.PipelineStats)} {
		if p == nil {
			continue
		}
		was := &m.pools[i]
		now := waits{p.WaitCount, p.Timeouts, p.WaitDurationNs}
		if n := now.count - was.count; n > 0 {
			m.Wait.RecordN(time.Duration(max(now.ns-was.ns, 0)/int64(n)), n)
		}
		m.Wait.RecordN(limit, now.timeouts-was.timeouts)
		*was = now
	}
}

// gaveUp counts an Acquire whose ctx ended while it waited for a connection; go-redis does not
// count these.
func (m *meter) gaveUp(after time.Duration) {
	m.givenUp.Add(1)
	m.lost.Add(int64(after))
	m.Wait.Record(after)
}
