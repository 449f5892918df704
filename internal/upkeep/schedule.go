package upkeep

import (
	"sync"
	"time"
)

// schedule calls check when it is due, never twice at once. Between two calls there is a timer and
// no goroutine, and no timer while nothing is due.
type schedule struct {
	check func(late time.Duration) (next time.Duration)

	mu       sync.Mutex
	timer    *time.Timer
	at       time.Time // of the next call, zero for none
	checking bool
	off      bool
}

// within schedules a call within d. It never blocks for long, so it may be called under go-redis's
// locks.
func (c *schedule) within(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.plan(d)
	if !c.checking {
		c.set()
	}
}

// plan moves the next call forward. The caller holds the lock.
func (c *schedule) plan(d time.Duration) {
	if d == never {
		return
	}
	if at := time.Now().Add(d); c.at.IsZero() || at.Before(c.at) {
		c.at = at
	}
}

// set sets the timer. The caller holds the lock.
func (c *schedule) set() {
	if c.off || c.at.IsZero() {
		return
	}
	if d := time.Until(c.at); c.timer == nil {
		c.timer = time.AfterFunc(d, c.run)
	} else {
		c.timer.Reset(d)
	}
}

func (c *schedule) run() {
	c.mu.Lock()
	if c.off || c.checking || c.at.IsZero() {
		c.mu.Unlock()
		return
	}
	late := time.Since(c.at)
	c.at, c.checking = time.Time{}, true
	c.mu.Unlock()

	next := c.check(late)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.checking = false
	c.plan(next)
	if least := time.Now().Add(tickPause); !c.at.IsZero() && c.at.Before(least) {
		c.at = least
	}
	c.set()
}

// stop ends the schedule: check is not called again.
func (c *schedule) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = true
	if c.timer != nil {
		c.timer.Stop()
	}
}
