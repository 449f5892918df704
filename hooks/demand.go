package hooks

import "sync/atomic"

// demand counts how many connections of a pool are wanted at once. Commands that
// wait for a connection count too.
type demand struct {
	now  atomic.Int64
	peak atomic.Int64
	_    [48]byte // keep the counters of two pools on different cache lines
}

func (d *demand) enter() {
	if v := d.now.Add(1); v > d.peak.Load() {
		d.raise(v)
	}
}

func (d *demand) raise(v int64) {
	for {
		p := d.peak.Load()
		if v <= p || d.peak.CompareAndSwap(p, v) {
			return
		}
	}
}

func (d *demand) leave() { d.now.Add(-1) }

// take returns the peak since the last take.
func (d *demand) take() int {
	now := d.now.Load()
	return int(max(d.peak.Swap(now), now))
}

func (n *Node) demand(p Pool) *demand {
	if p == PoolPipeline {
		return &n.pipeline
	}
	return &n.main
}

// Enter counts a caller who wants a connection of a pool; Leave ends that.
func (n *Node) Enter(p Pool) { n.demand(p).enter() }

// Leave ends what Enter began.
func (n *Node) Leave(p Pool) { n.demand(p).leave() }

// InFlight is how many callers want a connection of a pool now.
func (n *Node) InFlight(p Pool) int { return int(n.demand(p).now.Load()) }

// TakePeak returns the highest InFlight since the last TakePeak.
func (n *Node) TakePeak(p Pool) int { return n.demand(p).take() }
