package monitor

import "sync/atomic"

// Peak counts how many of something there are now, and remembers the highest count until Take, so
// that a spike between two samples is not missed. The zero value is ready for use. It is safe for
// concurrent use and must not be copied.
type Peak struct {
	now, peak atomic.Int64
}

// Enter adds one.
func (p *Peak) Enter() {
	n := p.now.Add(1)
	for m := p.peak.Load(); n > m && !p.peak.CompareAndSwap(m, n); {
		m = p.peak.Load()
	}
}

// Leave undoes one Enter.
func (p *Peak) Leave() { p.now.Add(-1) }

// Now returns the current count.
func (p *Peak) Now() int { return int(p.now.Load()) }

// Take returns the highest count since the last Take, and resets it. It is meant for a single
// reader: two readers would hide peaks from each other.
func (p *Peak) Take() int {
	now := p.now.Load()
	return int(max(p.peak.Swap(now), now))
}
