package bench

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// sample is what one client did in one round.
type sample struct {
	ops      int64
	took     time.Duration
	p50, p99 time.Duration
}

func (s sample) perSecond() float64 { return float64(s.ops) / s.took.Seconds() }

// round has one run of each client, directly one after the other in random order. adaptive is zero
// if it is not measured.
type round struct{ bare, managed, control, adaptive sample }

// op sends a command; n counts the calls of one caller.
type op func(ctx context.Context, n int) error

const timeEvery = 8 // one call in this many is timed

// run has callers send for d, or until all of them sent limit (0: none).
func run(ctx context.Context, callers int, d time.Duration, limit int64, do op) (sample, error) {
	var (
		stop  atomic.Bool
		left  atomic.Int64
		total atomic.Int64
		fault atomic.Pointer[error]
		wg    sync.WaitGroup
		gate  = make(chan struct{})
		took  = make([][]time.Duration, callers)
	)
	left.Store(limit)
	for g := range callers {
		wg.Go(func() {
			times := make([]time.Duration, 0, 1024)
			defer func() { took[g] = times }()
			done := int64(0)
			defer func() { total.Add(done) }()
			<-gate
			for n := g; !stop.Load(); n++ {
				if limit > 0 && left.Add(-1) < 0 {
					return
				}
				timed := done%timeEvery == 0
				var began time.Time
				if timed {
					began = time.Now()
				}
				if err := do(ctx, n); err != nil {
					fault.CompareAndSwap(nil, &err)
					stop.Store(true)
					return
				}
				if done++; timed {
					times = append(times, time.Since(began))
				}
			}
		})
	}
	runtime.GC() // now, not during the run, for the garbage of the previous one
	timer := time.AfterFunc(d, func() { stop.Store(true) })
	defer timer.Stop()
	began := time.Now()
	close(gate)
	wg.Wait()
	s := sample{took: max(time.Since(began), 1), ops: max(total.Load(), 1)}
	if err := fault.Load(); err != nil {
		return s, *err
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	if len(all) > 0 {
		s.p50, s.p99 = max(all[len(all)/2], 1), max(all[len(all)*99/100], 1)
	}
	return s, nil
}

// rounds runs all rounds for one number of callers. After an error it returns those that were
// finished.
func (c Config) rounds(ctx context.Context, callers int, of clients) ([]round, error) {
	subjects := []struct {
		do op
		to func(*round) *sample
	}{
		{of.bare, func(r *round) *sample { return &r.bare }},
		{of.managed, func(r *round) *sample { return &r.managed }},
		{of.control, func(r *round) *sample { return &r.control }},
		{of.adaptive, func(r *round) *sample { return &r.adaptive }},
	}[:c.subjects()]
	for _, s := range subjects { // opens the connections; bounded like the rest
		if _, err := run(ctx, callers, c.slice(), int64(callers), s.do); err != nil {
			return nil, err
		}
	}
	var all []round
	for range c.Rounds {
		var r round
		rand.Shuffle(len(subjects), func(i, j int) { subjects[i], subjects[j] = subjects[j], subjects[i] })
		for _, s := range subjects {
			got, err := run(ctx, callers, c.slice(), c.share(), s.do)
			if err != nil {
				return all, err
			}
			*s.to(&r) = got
		}
		all = append(all, r)
	}
	return all, nil
}
