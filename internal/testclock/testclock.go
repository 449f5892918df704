// Package testclock lets tests outside of package managed set the wall clock that its clients see,
// as a suspended machine or an administrator would. A client reads it once, when it is made.
package testclock

import (
	"sync/atomic"
	"time"
)

var wall atomic.Pointer[func() time.Time]

// Set gives clients that are made from now on the test's own wall clock. Nil: the real one. Safe
// for concurrent use; so must the clock be.
func Set(clock func() time.Time) {
	if clock == nil {
		wall.Store(nil)
		return
	}
	wall.Store(&clock)
}

// Wall returns the clock that was Set, or nil.
func Wall() func() time.Time {
	if clock := wall.Load(); clock != nil {
		return *clock
	}
	return nil
}
