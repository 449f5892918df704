package redistest

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

const (
	stallTick   = 20 * time.Millisecond
	stallLimit  = 80 * time.Millisecond  // less is the scheduler
	stallReport = 250 * time.Millisecond // for the log
)

// stalls are the times in which this process stood still: a virtual machine that
// is paused, or one whose processors are busy elsewhere. Tests that measure time
// leave them out, and the log of a failure says that there were some.
var stalls struct {
	sync.Mutex
	last time.Time // the latest tick, zero while nobody watches
	list []stall
}

type stall struct {
	until time.Time
	d     time.Duration
}

// Took is for how long something lasted that began then, without the time in
// which this process stood still. Safe for concurrent use.
func Took(began time.Time) time.Duration {
	return max(0, time.Since(began)-Stalled(began))
}

// Stalled is for how long this process stood still since a time, in all. Safe for
// concurrent use. It knows only of tests that run with Main or MainWithoutLeaks.
func Stalled(since time.Time) time.Duration {
	stalls.Lock()
	defer stalls.Unlock()
	return stalledIn(stalls.list, since) + stalledIn(ongoing(time.Now()), since)
}

// ongoing is a stall that is just over, if there is one.
func ongoing(now time.Time) []stall {
	if d := now.Sub(stalls.last); !stalls.last.IsZero() && d >= stallLimit {
		return []stall{{now, d}}
	}
	return nil
}

func stalledIn(list []stall, since time.Time) (sum time.Duration) {
	for _, s := range list {
		sum += max(0, min(s.d, s.until.Sub(since)))
	}
	return sum
}

// watchStalls notes them until stop is called.
func watchStalls() (stop func()) {
	ended, done := make(chan struct{}), make(chan struct{})
	log := os.Stderr // package testing replaces it under -json
	noteTick(log, time.Now())
	go func() {
		defer close(done)
		tick := time.NewTicker(stallTick)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				noteTick(log, time.Time{})
				return
			case <-tick.C:
				noteTick(log, time.Now())
			}
		}
	}()
	return func() {
		close(ended)
		<-done
	}
}

func noteTick(log io.Writer, now time.Time) {
	stalls.Lock()
	last := stalls.last
	stalls.list = append(stalls.list, ongoing(now)...)
	stalls.last = now
	stalls.Unlock()
	if !last.IsZero() && !now.IsZero() {
		reportStall(log, now.Sub(last), now.Round(0).Sub(last.Round(0)), now)
	}
}

// reportStall compares two ticks: how far apart they were, and how far apart the
// clock on the wall says they were.
func reportStall(w io.Writer, passed, wall time.Duration, at time.Time) {
	if passed >= stallReport {
		fmt.Fprintf(w, "redistest: this process stood still for %v until %s\n", passed.Round(time.Millisecond), at.Format(time.TimeOnly))
	}
	if jump := wall - passed; jump.Abs() >= stallReport {
		fmt.Fprintf(w, "redistest: the clock jumped by %v at %s\n", jump.Round(time.Millisecond), at.Format(time.TimeOnly))
	}
}
