package upkeep

import (
	"sort"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

// poolState decides how many connections one pool keeps, by the peak of its demand over the
// max-idle time. It cannot use the idle time of single connections: the pool is a FIFO, which
// spreads the use over all of them.
type poolState struct {
	pool  hooks.Pool
	peaks []peak        // of the window, each higher than the next
	since time.Duration // when excess connections were first seen, 0 if there are none
}

type peak struct {
	at time.Duration
	n  int
}

// note adds the peak since the last check and removes those that left the window.
func (p *poolState) note(now, window time.Duration, n int) int {
	for len(p.peaks) > 0 && p.peaks[len(p.peaks)-1].n <= n {
		p.peaks = p.peaks[:len(p.peaks)-1]
	}
	p.peaks = append(p.peaks, peak{now, n})
	for p.peaks[0].at < now-window {
		p.peaks = p.peaks[1:]
	}
	return p.peaks[0].n
}

const maxShrinkTick = 400 * time.Millisecond

// shrink evicts the excess connections of the pool: those above the peak of concurrent use in the
// window plus MinIdleConns. A visit itself makes go-redis refill MinIdleConns, so a pool in use
// keeps one more, or every check would close one and dial one (docs/INTERNALS.md). Excess must be
// seen in two checks.
func (p *poolState) shrink(n *Node, l *survey) time.Duration {
	window := time.Duration(n.k.maxIdle.Load())
	total := l.total[p.pool]
	if window <= 0 || total == 0 {
		return never
	}
	recent := n.Tracked.TakePeak(p.pool)
	demand := p.note(l.now, window, recent)
	keep := 0
	if p.pool == hooks.PoolMain {
		keep = n.MinIdle
	}
	if demand > 0 || keep > 0 && l.heartbeat > 0 {
		keep += max(demand, 1)
	}
	// Connections younger than the window may still be needed.
	idle := make([]*conntrack.Conn, 0, 16)
	grown := never
	for _, c := range l.idle[p.pool] {
		if v := c.View(); v.Born+window <= l.now {
			idle = append(idle, c)
		} else {
			grown = min(grown, v.Born+window-l.now)
		}
	}
	excess := min(total-keep, len(idle))
	if excess <= 0 {
		p.since = 0
		if total > keep && recent == 0 {
			return max(grown, time.Millisecond)
		}
		return p.nextCheck(l.now, window, recent)
	}
	tick := min(max(window/20, 20*time.Millisecond), maxShrinkTick)
	if p.since == 0 {
		p.since = l.now
	}
	if wait := p.since + tick - l.now; wait > 0 {
		return wait
	}
	if l.refusing {
		l.waiting = true
		return tick
	}
	sort.Slice(idle, func(i, j int) bool { return idle[i].View().LastUsed < idle[j].View().LastUsed })
	for _, c := range idle[:excess] {
		if !c.Due() { // otherwise it is counted already
			l.due[p.pool]++
		}
		c.EvictIdle(hooks.ReasonIdle)
	}
	return tick
}

// nextCheck returns when the pool can have become too large: while it is used, the peak must be
// checked often; while it is not, only when a peak leaves the window.
func (p *poolState) nextCheck(now, window time.Duration, recent int) time.Duration {
	if recent > 0 {
		return min(max(window/20, 20*time.Millisecond), maxShrinkTick)
	}
	if p.peaks[0].n == 0 {
		return never // nothing left but what it keeps; the next dial wakes the node
	}
	return max(p.peaks[0].at+window-now, 0) + time.Millisecond
}
