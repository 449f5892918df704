package retry

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// DefaultBudgetRatio is the share of calls that may be retries.
	DefaultBudgetRatio = 0.2
	// DefaultBudgetReserve is how many retries a second are allowed on top.
	DefaultBudgetReserve = 10

	unit     = 1000        // one retry
	maxSaved = 1000 * unit // what quiet times may save up
)

// Budget limits retries, so that they do not bury a server that is struggling:
// each call pays in a fraction of a retry, each retry takes out a whole one.
// When it is spent, and the reserve of this second too, calls get their first
// error. Waiting for an unreachable node takes nothing, as nothing is sent.
//
// One Budget may serve several hooks; it is safe for concurrent use. A nil
// *Budget allows everything.
type Budget struct {
	ratio   int64 // in thousandths of a retry per call
	reserve float64
	free    bool

	saved atomic.Int64

	mu     sync.Mutex
	tokens float64 // of the reserve
	filled time.Time
}

// NewBudget allows ratio retries per call, up to 1000 of them saved, and
// perSecond more each second whatever the number of calls. Zero for either means
// none of that kind. A negative ratio means no limit. A ratio above 1 is taken
// for 1, a negative perSecond for 0.
func NewBudget(ratio, perSecond float64) *Budget {
	return &Budget{
		ratio:   int64(min(ratio, 1) * unit),
		reserve: max(perSecond, 0),
		free:    ratio < 0,
		tokens:  max(perSecond, 0),
	}
}

// String describes the limits.
func (b *Budget) String() string {
	if b == nil || b.free {
		return "no limit"
	}
	return fmt.Sprintf("%g of calls and %g/s", float64(b.ratio)/unit, b.reserve)
}

// deposit pays in for n calls.
func (b *Budget) deposit(n int) {
	if b == nil || b.ratio <= 0 || b.saved.Load() >= maxSaved {
		return // full is the usual case, and costs no write to shared memory
	}
	b.saved.Add(b.ratio * int64(n))
}

// take takes out n retries, or nothing if there are not as many.
func (b *Budget) take(n int) bool {
	if b == nil || b.free {
		return true
	}
	want := int64(n) * unit
	for {
		have := b.saved.Load()
		if have < want {
			break
		}
		if b.saved.CompareAndSwap(have, have-want) {
			return true
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if !b.filled.IsZero() {
		b.tokens = min(b.reserve, b.tokens+now.Sub(b.filled).Seconds()*b.reserve)
	}
	b.filled = now
	// A pipeline may be larger than a whole second's reserve: a full one is
	// enough for it then.
	if need := min(float64(n), max(b.reserve, 1)); b.tokens >= need {
		b.tokens -= need
		return true
	}
	return false
}
