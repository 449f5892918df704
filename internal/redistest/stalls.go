package redistest

import (
	"fmt"
	"io"
	"os"
	"time"
)

const (
	stallTick  = 50 * time.Millisecond
	stallLimit = 500 * time.Millisecond
)

// watchStalls says on stderr when the whole process stood still for a while, or
// the machine's clock was set: tests that measure time cannot pass then, and
// their logs would not tell why. The function it returns ends it.
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
