package source

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/command"
	"github.com/lifeguard-redis/lifeguard/monitor"
)

// meter counts, while commands run, what the Monitor reports about one pool. Hooks count demand and
// dials.
type meter struct {
	Dial, Wait, Command monitor.Histogram

	inVain  atomic.Uint64 // waits for a connection that got none, except those that go-redis counts
	lost    atomic.Int64  // total duration of these, ns
	givenUp atomic.Uint64 // of them, those that ended with their ctx

	crowded atomic.Uint32 // commands that were answered while others waited

	readAt atomic.Int64 // when the waits were last read, on the tracker's clock
	mu     sync.Mutex
	waits  [2]waits // main and pipeline
}

// waits holds go-redis's counters as last read.
type waits struct {
	count, timeouts uint32
	ns              int64
}

// Took is called for every command, when it has its reply.
func (p *Pool) Took(cmd redis.Cmder, d time.Duration) {
	const long = 100 * time.Millisecond
	if d > long && command.MayBlock(cmd) {
		return // a blocking command: it was meant to wait
	}
	p.Command.Record(d)
	if p.Node.InFlight(hooks.PoolMain) >= p.Client.Options().PoolSize && p.crowded.Add(1)%16 == 0 {
		p.readWaits()
	}
}

// readWaits is called while callers wait for connections. go-redis reports only how many have waited
// and for how long in total; read every few milliseconds, these show how the waits are distributed.
func (p *Pool) readWaits() {
	const interval = 5 * time.Millisecond
	now := int64(p.Tracker.Elapsed())
	if last := p.readAt.Load(); now-last > int64(interval) && p.readAt.CompareAndSwap(last, now) {
		p.recordWaits()
	}
}

// recordWaits records the waits since the last read: their mean, once for each of them, and those
// that got no connection.
func (p *Pool) recordWaits() {
	p.mu.Lock()
	defer p.mu.Unlock()
	ps, limit := p.Client.PoolStats(), p.Client.Options().PoolTimeout
	for i, now := range []*redis.PoolStats{ps, (*redis.PoolStats)(ps.PipelineStats)} {
		if now == nil {
			continue
		}
		was := &p.waits[i]
		read := waits{now.WaitCount, now.Timeouts, now.WaitDurationNs}
		if n := read.count - was.count; n > 0 {
			p.Wait.RecordN(time.Duration(max(read.ns-was.ns, 0)/int64(n)), n)
		}
		p.Wait.RecordN(limit, read.timeouts-was.timeouts)
		*was = read
	}
}

// GaveUp counts an Acquire whose ctx ended while it waited for a connection; go-redis does not
// count these.
func (p *Pool) GaveUp(after time.Duration) {
	p.givenUp.Add(1)
	p.TimedOut(1, after)
}

// TimedOut counts n commands that waited for PoolTimeout before go-redis got them.
func (p *Pool) TimedOut(n int, after time.Duration) {
	p.inVain.Add(uint64(n))
	p.lost.Add(int64(n) * int64(after))
	p.Wait.RecordN(after, uint32(n))
}
