package retry

import (
	"context"
	"errors"
	"time"
)

const (
	leastPause  = time.Millisecond // minimum between two attempts that a server refuses
	manyEvicted = 100              // evicted connections that one call may skip without a pause
)

// pause decides whether there is another attempt, and waits for it. If there is none, it returns
// the error to end with.
func (h *Hook) pause(ctx context.Context, p *progress, f failure, a Attempt) (bool, error) {
	var wait time.Duration
	deadline, hasDeadline := ctx.Deadline()
	var gate waiter
	switch f.kind {
	case notReady, unwritten:
		if h.policy.MaxAttempts == 1 && !f.evicted {
			return false, f.err
		}
		if p.idle+p.evicted == 0 {
			p.since = time.Now()
		} else if !hasDeadline && time.Since(p.since) >= h.unreachableLimit(f) {
			return false, f.err
		}
		if f.kind == notReady {
			gate = gateOf(f.err)
		}
		switch {
		case f.evicted: // each one leaves the pool; the next connection is younger
			if p.evicted++; p.evicted > manyEvicted {
				wait = h.policy.Backoff(p.evicted - manyEvicted)
			}
		case p.idle > 0 || f.kind == notReady:
			wait = h.policy.Backoff(p.idle + 1)
			p.idle++
		default: // another connection may work at once
			p.idle++
		}
	default:
		p.idle, p.evicted = 0, 0
		p.sent++
		if h.policy.MaxAttempts > 0 && p.sent >= h.policy.MaxAttempts {
			return false, f.err
		}
		wait = h.policy.Backoff(p.sent)
	}
	wait = max(wait, 0)
	if f.kind == notReady && f.outcome == Answered {
		wait = max(wait, leastPause) // nothing else bounds how often the server is asked
	}
	if gate == nil && hasDeadline && time.Until(deadline) <= wait {
		return false, f.err
	}
	if f.kind == lost && !h.policy.Budget.take(a.Commands) {
		h.count.budget.Add(1)
		return false, f.err
	}
	a.Number, a.Err, a.Outcome, a.Reason = p.tries, f.err, f.outcome, f.reason
	if gate == nil {
		a.Wait = wait
	}
	h.countRetry(ctx, a)
	if gate != nil {
		return h.waitGate(ctx, gate, p, f, wait, hasDeadline)
	}
	return sleep(ctx, wait, f.err)
}

// unreachableLimit bounds how long a call without a deadline waits. Where a ring has no shard left, or no
// Sentinel answers, there is no node whose breaker could end the wait.
func (h *Hook) unreachableLimit(f failure) time.Duration {
	if h.fanout.Load() && h.breaker != nil && f.outcome == NotSent && f.reason == ReasonDial {
		return min(h.breaker.after, UnreachableLimit)
	}
	return UnreachableLimit
}

// waitGate waits until the owner of gate reports that the node may be tried again.
func (h *Hook) waitGate(ctx context.Context, gate waiter, p *progress, f failure, wait time.Duration, hasDeadline bool) (bool, error) {
	wctx, limit := ctx, time.Duration(0)
	if h.breaker != nil { // check again when the breaker may open
		switch limit = h.breaker.remaining(); {
		case limit > 0:
		case h.breaker.clean():
			limit = h.breaker.after
		default:
			limit = wait
		}
	}
	if !hasDeadline {
		rest := max(h.unreachableLimit(f)-time.Since(p.since), time.Millisecond)
		if limit == 0 || rest < limit {
			limit = rest
		}
	}
	if limit > 0 {
		var cancel context.CancelFunc
		wctx, cancel = context.WithTimeout(ctx, max(limit, wait))
		defer cancel()
	}
	err := gate.Wait(wctx, wait)
	switch {
	case err == nil || ctx.Err() == nil && wctx.Err() != nil:
		return true, nil
	case ctx.Err() != nil:
		return false, &waitError{ctx.Err(), f.err}
	}
	return sleep(ctx, wait, f.err) // Wait could not wait
}

func sleep(ctx context.Context, d time.Duration, last error) (bool, error) {
	if d <= 0 {
		if err := ctx.Err(); err != nil {
			return false, &waitError{err, last}
		}
		return true, nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true, nil
	case <-ctx.Done():
		return false, &waitError{ctx.Err(), last}
	}
}

// gateOf returns the waiter of an unreachable node.
func gateOf(err error) waiter {
	var w waiter
	if errors.As(err, &w) {
		return w
	}
	return nil
}
