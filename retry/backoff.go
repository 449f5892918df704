package retry

import (
	"math/rand/v2"
	"time"
)

// Backoff returns how long to wait before a retry. Retries are numbered from 1. It may be called by
// several goroutines at once.
type Backoff func(retry int) time.Duration

const (
	defaultBackoffBase = 8 * time.Millisecond
	defaultBackoffMax  = 512 * time.Millisecond
)

// DefaultBackoff is FullJitter(8ms, 512ms).
func DefaultBackoff(retry int) time.Duration {
	return jitter(defaultBackoffBase, defaultBackoffMax, retry)
}

// FullJitter waits for a random time between 0 and a cap. The cap is base for the first retry,
// doubles with each further one, and never exceeds limit. Negative values count as 0; a limit below
// base counts as base.
func FullJitter(base, limit time.Duration) Backoff {
	base = max(base, 0)
	limit = max(limit, base)
	return func(retry int) time.Duration { return jitter(base, limit, retry) }
}

func jitter(base, limit time.Duration, retry int) time.Duration {
	top := base
	for range retry - 1 {
		if top >= limit {
			break
		}
		top *= 2
	}
	top = min(top, limit)
	if top <= 0 {
		return 0
	}
	return rand.N(top + 1)
}
