package conntrack

import (
	"time"
)

// now returns the time since the tracker was made, in ns. Monotonic.
func (t *Tracker) now() int64 {
	if t.cfg.Now != nil {
		return int64(t.cfg.Now().Sub(t.base))
	}
	return int64(time.Since(t.base))
}

// clocks returns now and how far the wall clock is ahead of it.
func (t *Tracker) clocks() (now, offset int64) {
	if t.cfg.Now == nil && t.cfg.Wall == nil {
		tm := time.Now()
		now = int64(tm.Sub(t.base)) // monotonic
		return now, tm.UnixNano() - now
	}
	now = t.now()
	wall := time.Now
	if t.cfg.Wall != nil {
		wall = t.cfg.Wall
	}
	return now, wall().UnixNano() - now
}

// clockJumped is how far the wall clock must run ahead of the monotonic one to show that the
// machine was suspended. Smaller steps are corrections of the clock.
const clockJumped = 2 * time.Second

// CheckClocks returns now, and detects a jump of the wall clock: every connection last used before
// the jump must answer a PING before it is used again.
func (t *Tracker) CheckClocks() (now time.Duration, jumped bool) {
	old := t.offset.Load() // before the clocks, or a slow reader would see a jump back and forth
	n, offset := t.clocks()
	if d := offset - old; d > int64(clockJumped) || d < -int64(clockJumped) {
		if t.offset.CompareAndSwap(old, offset) && d > 0 {
			t.Distrust()
			return time.Duration(n), true
		}
	}
	return time.Duration(n), false
}

// Unverified returns the time, on the tracker's clock, of the last Distrust.
func (t *Tracker) Unverified() time.Duration { return time.Duration(t.unverified.Load()) }

func (t *Tracker) wall(ns int64) time.Time { return t.base.Add(time.Duration(ns)).Round(0) }

// Now returns the time on the tracker's clock.
func (t *Tracker) Now() time.Time { return t.wall(t.now()) }

// Elapsed returns the time on the tracker's clock, as in View. Monotonic.
func (t *Tracker) Elapsed() time.Duration { return time.Duration(t.now()) }
