package redistest

import (
	"strings"
	"testing"
	"time"
)

func TestStallsAndJumpsOfTheClockAreReported(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		passed, wall time.Duration
		want         string
	}{
		{50 * time.Millisecond, 50 * time.Millisecond, ""},
		{400 * time.Millisecond, 410 * time.Millisecond, ""},
		{2 * time.Second, 2 * time.Second, "redistest: this process stood still for 2s until 03:04:05\n"},
		{50 * time.Millisecond, time.Hour, "redistest: the clock jumped by 59m59.95s at 03:04:05\n"},
		{time.Second, 0, "redistest: this process stood still for 1s until 03:04:05\nredistest: the clock jumped by -1s at 03:04:05\n"},
	} {
		var b strings.Builder
		reportStall(&b, c.passed, c.wall, at)
		if b.String() != c.want {
			t.Errorf("%v, %v: %q", c.passed, c.wall, b.String())
		}
	}
}

func TestWatchStallsEnds(t *testing.T) {
	stop := watchStalls()
	stop()
}
