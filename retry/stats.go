package retry

import "sync/atomic"

// Stats is a snapshot of what a [Hook] has done. It is immutable.
type Stats struct {
	Calls   uint64 // commands started; those of pipelines count one by one
	Retries uint64 // commands sent again, counted in the same way
	// RetriesByReason splits Retries. It has an entry for each reason that occurred.
	RetriesByReason map[Reason]uint64
	UnknownOutcomes uint64 // commands that ended with ErrUnknownOutcome
	BudgetRefusals  uint64 // retries that the budget refused
	BreakerOpened   uint64 // changes of a breaker from closed or half-open to open
	BreakerClosed   uint64 // changes back to closed
	BreakerRefusals uint64 // calls that an open breaker refused
}

// Attempts is how many times commands were sent or tried: calls plus retries.
func (s Stats) Attempts() uint64 { return s.Calls + s.Retries }

type counters struct {
	calls           atomic.Uint64
	retries         [len(reasons)]atomic.Uint64
	unknown         atomic.Uint64
	budget          atomic.Uint64
	breakerOpened   atomic.Uint64
	breakerClosed   atomic.Uint64
	breakerRefusals atomic.Uint64
}

func (c *counters) retried(r Reason, n int) {
	if i := r.index(); i >= 0 {
		c.retries[i].Add(uint64(n))
	}
}

func (c *counters) snapshot() Stats {
	s := Stats{
		Calls:           c.calls.Load(),
		RetriesByReason: map[Reason]uint64{},
		UnknownOutcomes: c.unknown.Load(),
		BudgetRefusals:  c.budget.Load(),
		BreakerOpened:   c.breakerOpened.Load(),
		BreakerClosed:   c.breakerClosed.Load(),
		BreakerRefusals: c.breakerRefusals.Load(),
	}
	for i := range c.retries {
		if n := c.retries[i].Load(); n > 0 {
			s.RetriesByReason[reasons[i]] = n
			s.Retries += n
		}
	}
	return s
}
