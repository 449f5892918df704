package redistest

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

const (
	stallTick  = 50 * time.Millisecond
	stallLimit = 250 * time.Millisecond
)

// stalls are the times in which this process stood still: a virtual machine that
// is paused, or one whose processors are busy elsewhere. Tests that measure time
// leave them out, and the log of a failure says that there were some.
var stalls struct {
	sync.Mutex
	list []stall
}

type stall struct {
	until time.Time
	d     time.Duration
}

// Stalled is for how long this process stood still since a time, in all. Safe for
// concurrent use. It knows only of tests that run with Main or MainWithoutLeaks.
func Stalled(since time.Time) time.Duration {
	stalls.Lock()
	defer stalls.Unlock()
	return stalledIn(stalls.list, since)
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
	go func() {
		defer close(done)
		tick := time.NewTicker(stallTick)
		defer tick.Stop()
		last := time.Now()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
			}
			now := time.Now()
			if d := now.Sub(last); d >= stallLimit {
				stalls.Lock()
				stalls.list = append(stalls.list, stall{now, d})
				stalls.Unlock()
			}
			reportStall(os.Stderr, now.Sub(last), now.Round(0).Sub(last.Round(0)), now)
			last = now
		}
	}()
	return func() {
		close(ended)
		<-done
	}
}

// reportStall compares two ticks: how far apart they were, and how far apart the
// clock on the wall says they were.
func reportStall(w io.Writer, passed, wall time.Duration, at time.Time) {
	if passed >= stallLimit {
		fmt.Fprintf(w, "redistest: this process stood still for %v until %s\n", passed.Round(time.Millisecond), at.Format(time.TimeOnly))
	}
	if jump := wall - passed; jump.Abs() >= stallLimit {
		fmt.Fprintf(w, "redistest: the clock jumped by %v at %s\n", jump.Round(time.Millisecond), at.Format(time.TimeOnly))
	}
}
