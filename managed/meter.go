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

// meter counts, while commands run, what the Monitor tells of one unit. Demand and
// dials are counted by hooks.
type meter struct {
	Dial, Wait, Hold, Command monitor.Histogram

	leaks   atomic.Uint64
	givenUp atomic.Uint64 // waits for a connection that a ctx ended
	lost    atomic.Int64  // how long these were, ns

	crowded atomic.Uint32 // commands that ended while others waited

	looked atomic.Int64 // when the waits were last looked at, on the tracker's clock
	mu     sync.Mutex
	pools  [2]waits // main and pipeline
}

// waits is what go-redis had counted when it was last looked at.
type waits struct {
	count, timeouts uint32
	ns              int64
}

// took hears of every command that came to its end.
func (u *unit) took(cmd redis.Cmder, d time.Duration) {
	const long = 100 * time.Millisecond
	if d > long && command.MayBlock(cmd) {
		return // it waited because it was told to
	}
	u.meter.Command.Record(d)
	if u.node.InFlight(hooks.PoolMain) >= u.rdb.Options().PoolSize && u.meter.crowded.Add(1)%16 == 0 {
		u.waiting()
	}
}

// waiting is called while callers wait for connections. go-redis tells only how many
// have waited and for how long together; looked at every few milliseconds, that
// tells how the waits are distributed.
func (u *unit) waiting() {
	const often = 5 * time.Millisecond
	now := int64(u.core.tracker.Elapsed())
	if last := u.meter.looked.Load(); now-last > int64(often) && u.meter.looked.CompareAndSwap(last, now) {
		u.meter.note(u.rdb)
	}
}

// note records the waits since the last look: the mean of them, as often as there
// were some, and those that got no connection.
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

// gaveUp counts an Acquire whose ctx ended while it waited for a connection: go-redis
// does not.
func (m *meter) gaveUp(after time.Duration) {
	m.givenUp.Add(1)
	m.lost.Add(int64(after))
	m.Wait.Record(after)
}
