package demo

import (
	"context"
	"fmt"
	"time"
)

// phase is one part of the demo. run returns when everything has been shown; the load and the live
// table continue until the phase's share of the time is over. To add a phase, add a line to the
// list.
type phase struct {
	title string
	share int // of the time, relative to the others
	run   func(ctx context.Context, d *demo, budget time.Duration) error
}

var phases = []phase{
	{"Commands and leases, mixed", 3, showLoad},
	{"A lease that is not given back", 2, showHeld},
	{"A lease that is dropped", 1, showDropped},
	{"A pool that is exhausted", 2, showExhausted},
	{"All connections cut", 2, showHealing},
	{"INCR while requests and replies get lost", 3, showChaos},
	{"A pool that nobody needs any more", 1, showIdle},
	{"Connections that grow old", 1, showAge},
	{"Connections that are idle for too long", 2, showHeartbeat},
	{"A pool that is about to be exhausted", 1, showAlert},
}

// runPhases divides the time from start on between the phases. It ends early with ctx.
func (d *demo) runPhases(ctx context.Context, phases []phase, start time.Time, all time.Duration) error {
	shares := 0
	for _, p := range phases {
		shares += p.share
	}
	done := 0
	for i, p := range phases {
		done += p.share
		end := start.Add(all * time.Duration(done) / time.Duration(shares))
		d.screen.title(fmt.Sprintf("%d. %s", i+1, p.title))
		if err := p.run(ctx, d, max(time.Until(end), 0)); err != nil {
			return fmt.Errorf("demo: %s: %w", p.title, err)
		}
		if !sleep(ctx, time.Until(end)) {
			return nil
		}
	}
	return nil
}

// sleep waits; false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
