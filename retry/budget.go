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
	// DefaultBudgetReserve is how many retries a second are allowed on top of that share.
	DefaultBudgetReserve = 10

	unit     = 1000        // one retry
	maxSaved = 1000 * unit // the most that quiet periods can save up
)

// Budget limits retries so that they do not overload a struggling server: each call deposits a
// fraction of a retry, and each retry withdraws a whole one. When the savings and this second's
// reserve are both spent, calls return their first error. Waiting for an unreachable node costs
// nothing, because nothing is sent.
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

// NewBudget allows ratio retries per call, of which up to 1000 can be saved up, plus perSecond
// retries each second regardless of the number of calls. Zero disables either part. A negative
// ratio means no limit. A ratio above 1 counts as 1, a negative perSecond as 0.
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

// deposit deposits for n calls.
func (b *Budget) deposit(n int) {
	if b == nil || b.ratio <= 0 || b.saved.Load() >= maxSaved {
		return // the usual case: full, and no write to shared memory
	}
	b.saved.Add(b.ratio * int64(n))
}

// take withdraws n retries, or none if fewer than n are left.
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
	// A pipeline may be larger than a whole second's reserve. For such a pipeline a full reserve
	// is enough.
	if need := min(float64(n), max(b.reserve, 1)); b.tokens >= need {
		b.tokens -= need
		return true
	}
	return false
}
