package retry

import (
	"math/rand/v2"
	"time"
)

// Backoff returns how long to wait before the retry of the given number, which
// starts at 1. It is called by several goroutines at a time.
type Backoff func(retry int) time.Duration

const (
	defaultBackoffBase = 8 * time.Millisecond
	defaultBackoffMax  = 512 * time.Millisecond
)

// DefaultBackoff is FullJitter(8ms, 512ms).
func DefaultBackoff(retry int) time.Duration {
	return jitter(defaultBackoffBase, defaultBackoffMax, retry)
}

// FullJitter waits for a random time between 0 and a limit that is base for the
// first retry and doubles with each further one, up to limit. Negative values
// are taken for 0, and a limit below base for base.
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
