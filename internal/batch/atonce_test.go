package batch

import (
	"testing"
	"time"
)

func TestSeveralBatchesAreInProgressWhileTheyMostlyWaitForTheNetwork(t *testing.T) {
	for _, c := range []struct {
		name        string
		concurrency int // as set by the user
		size        int
		took        time.Duration
		want        int
	}{
		{"a server nearby", 0, 8, 60 * time.Microsecond, 1},
		{"a server nearby, large batches", 0, 256, time.Millisecond, 1},
		{"0.2 ms away, few calls", 0, 4, 300 * time.Microsecond, 4},
		{"0.2 ms away, many calls", 0, 64, 400 * time.Microsecond, 1},
		{"1 ms away, many calls", 0, 32, 1100 * time.Microsecond, 4},
		{"1 ms away, but the user wants one", 1, 4, 1100 * time.Microsecond, 1},
		{"nearby, but the user wants eight", 8, 8, 60 * time.Microsecond, 8},
	} {
		b := New(Config{Client: commandMaker(), Settings: Settings{Concurrency: c.concurrency}}).newBatcher(nil)
		b.adjust = func(timing) {}
		for range adjustEvery {
			b.observe(c.size, c.took)
		}
		if b.atOnce != c.want {
			t.Errorf("%s: %d batches at a time, want %d", c.name, b.atOnce, c.want)
		}
		for range adjustEvery { // the batches have become short
			b.observe(8, 60*time.Microsecond)
		}
		if b.atOnce != max(c.concurrency, 1) {
			t.Errorf("%s: %d batches at a time after the server has come near", c.name, b.atOnce)
		}
	}
}
