package monitor

import (
	"math"
	"time"

	"github.com/redis/go-redis/v9"
)

// defaultPipelinePool is go-redis's default for Options.PipelinePoolSize.
const defaultPipelinePool = 10

// PoolCounters corrects the numbers that go-redis reports for the pools of one client: its counters
// wrap around at 32 bits and leave out waits that got no connection, and a gauge may underflow. The
// zero value is ready for use with a new client. It is not safe for concurrent use.
type PoolCounters struct {
	main, pipeline           widePool
	subscribed, unsubscribed counter
}

// Fill sets in n what ps, which must have just been read, reports about a client with the options
// opt (from redis.Client.Options, which has the defaults filled in): the pools, subscriptions,
// hits, misses, waits and timeouts. Because go-redis reports nothing better, connections that ended
// count in Closed as "removed", and connections that were opened in Dialed. Call it at least once
// in 2^32 commands.
func (w *PoolCounters) Fill(n *Numbers, opt *redis.Options, ps *redis.PoolStats) {
	n.Main = poolOf(ps, opt.PoolSize)
	if opt.MaxActiveConns > 0 && opt.MaxActiveConns < n.Main.Size {
		n.Main.Size = opt.MaxActiveConns // beyond it go-redis fails at once
	}
	n.Main.MinIdle, n.Main.MaxIdle = opt.MinIdleConns, n.Main.Size // all of them may be idle
	if opt.MaxIdleConns > 0 {
		n.Main.MaxIdle = min(opt.MaxIdleConns, n.Main.Size)
	}
	w.main.add(n, ps, opt.PoolTimeout)
	n.Subscribed = int(int32(ps.PubSubStats.Active))
	if pp := (*redis.PoolStats)(ps.PipelineStats); pp != nil {
		size := opt.PipelinePoolSize
		if size <= 0 {
			size = defaultPipelinePool
		}
		n.Pipeline = poolOf(pp, size)
		w.pipeline.add(n, pp, opt.PoolTimeout)
	}
	w.subscribed.add(ps.PubSubStats.Created)
	w.unsubscribed.add(ps.PubSubStats.Untracked)
	n.Dialed += w.subscribed.sum
	closed(n, w.unsubscribed.sum)
}

// poolOf corrects the gauges: IdleConns may be negative for a moment, which go-redis reports as
// 4294967295.
func poolOf(ps *redis.PoolStats, size int) Pool {
	p := Pool{Size: size, Open: int(ps.TotalConns), Waiting: max(int(int32(ps.PendingRequests)), 0)}
	p.Idle = min(max(int(int32(ps.IdleConns)), 0), p.Open)
	p.InUse = p.Open - p.Idle
	return p
}

type widePool struct {
	hits, misses, timeouts, waits, removed counter
	dialed                                 uint64
}

// counter extends a counter that wraps around.
type counter struct {
	last uint32
	sum  uint64
}

func (c *counter) add(now uint32) {
	c.sum += uint64(now - c.last)
	c.last = now
}

// reasonRemoved is the reason for all connections that go-redis closed: it does not distinguish
// them.
const reasonRemoved = "removed"

// add adds the counters of one pool to n.
func (w *widePool) add(n *Numbers, ps *redis.PoolStats, poolTimeout time.Duration) {
	w.hits.add(ps.Hits)
	w.misses.add(ps.Misses)
	w.timeouts.add(ps.Timeouts)
	w.waits.add(ps.WaitCount)
	w.removed.add(ps.StaleConns)
	// A connection that was opened is either still open or was removed. The two are read one after
	// the other.
	w.dialed = max(w.dialed, uint64(ps.TotalConns)+w.removed.sum)
	n.Hits += w.hits.sum
	n.Misses += w.misses.sum
	n.PoolTimeouts += w.timeouts.sum
	n.Waits += w.waits.sum + w.timeouts.sum
	n.WaitTime += time.Duration(ps.WaitDurationNs) + time.Duration(min(w.timeouts.sum, math.MaxInt32))*poolTimeout
	n.Dialed += w.dialed
	closed(n, w.removed.sum)
}

// closed counts connections that were closed for an unknown reason.
func closed(n *Numbers, count uint64) {
	if count > 0 {
		addMap(&n.Closed, map[string]uint64{reasonRemoved: count})
	}
}
