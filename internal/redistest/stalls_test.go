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
		{240 * time.Millisecond, 260 * time.Millisecond, ""},
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

func TestStalledCountsWhatWasAfterATime(t *testing.T) {
	began := time.Now()
	list := []stall{
		{began.Add(-time.Second), 5 * time.Second},
		{began.Add(time.Second), 3 * time.Second},
		{began.Add(4 * time.Second), 2 * time.Second},
	}
	if got := stalledIn(list, began); got != 3*time.Second {
		t.Errorf("%v, not the 1s of the second one and the 2s of the third", got)
	}
}

func TestWatchStallsEnds(t *testing.T) {
	stop := watchStalls()
	stop()
}
