package monitor

import "sync/atomic"

// Peak counts how many of something there are at the moment, and remembers the
// highest count until Take, so that a spike between two looks is not missed. The
// zero value is ready for use. It is safe for concurrent use and must not be copied.
type Peak struct {
	now, peak atomic.Int64
}

// Enter adds one; Leave takes one away.
func (p *Peak) Enter() {
	n := p.now.Add(1)
	for m := p.peak.Load(); n > m && !p.peak.CompareAndSwap(m, n); {
		m = p.peak.Load()
	}
}

// Leave ends what Enter began.
func (p *Peak) Leave() { p.now.Add(-1) }

// Now is how many there are.
func (p *Peak) Now() int { return int(p.now.Load()) }

// Take returns the highest count since the last Take, and forgets it. It is for one
// reader: two would hide the peaks from each other.
func (p *Peak) Take() int {
	now := p.now.Load()
	return int(max(p.peak.Swap(now), now))
}
