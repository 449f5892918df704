package conntrack

import (
	"sync/atomic"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// demand counts how many connections of a pool are wanted at once. Commands that wait for a
// connection count, too.
type demand struct {
	now  atomic.Int64
	peak peak
	seen peak     // the same for the second reader
	_    [40]byte // keep the counters of two pools on different cache lines
}

func (d *demand) enter() {
	v := d.now.Add(1)
	d.peak.raise(v)
	d.seen.raise(v)
}

func (d *demand) leave() { d.now.Add(-1) }

// peak is the highest of some values.
type peak struct{ atomic.Int64 }

func (p *peak) raise(v int64) {
	for was := p.Load(); v > was && !p.CompareAndSwap(was, v); was = p.Load() {
	}
}

// take returns the peak since the last take; the next one begins with now.
func (p *peak) take(now int64) int { return int(max(p.Swap(now), now)) }

func (n *Node) demand(p hooks.Pool) *demand {
	if p == hooks.PoolPipeline {
		return &n.pipeline
	}
	return &n.main
}

// Enter counts a caller that wants a connection of a pool, until Leave.
func (n *Node) Enter(p hooks.Pool) { n.demand(p).enter() }

// Leave undoes one Enter.
func (n *Node) Leave(p hooks.Pool) { n.demand(p).leave() }

// InFlight returns how many callers want a connection of a pool now, or have one and run a command
// or pipeline on it.
func (n *Node) InFlight(p hooks.Pool) int {
	now := n.demand(p).now.Load()
	if p != hooks.PoolPipeline {
		now += n.pinned.Load()
	}
	return int(now)
}

// Pinned returns how many pipelines are in progress on Conns, leases and transactions, which have
// their connection already.
func (n *Node) Pinned() int { return int(n.pinned.Load()) }

// TakePeak returns the highest InFlight since the last TakePeak.
func (n *Node) TakePeak(p hooks.Pool) int {
	d := n.demand(p)
	return d.peak.take(d.now.Load())
}

// TakePeakOpen returns how many connections were open at most since the last call.
func (n *Node) TakePeakOpen() int { return n.peakOpen.take(n.count.Load()) }

// TakeSeenPeak is TakePeak for a second reader, independent of the first.
func (n *Node) TakeSeenPeak(p hooks.Pool) int {
	d := n.demand(p)
	return d.seen.take(d.now.Load())
}
