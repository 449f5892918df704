// Package testclock lets tests outside of package managed move the wall clock
// that its clients see, as a suspended machine or an administrator does. It is
// asked when a client is made, and never again.
package testclock

import (
	"sync/atomic"
	"time"
)

var wall atomic.Pointer[func() time.Time]

// Set gives the clients that are made from now on a wall clock of the test's own.
// Nil: the real one. Safe for concurrent use, as the clock has to be.
func Set(clock func() time.Time) {
	if clock == nil {
		wall.Store(nil)
		return
	}
	wall.Store(&clock)
}

// Wall is the clock that was Set, or nil.
func Wall() func() time.Time {
	if clock := wall.Load(); clock != nil {
		return *clock
	}
	return nil
}
