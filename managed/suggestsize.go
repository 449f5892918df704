package managed

import "runtime"

// SuggestPoolSize returns the smaller of the expected number of concurrent callers and
// 2*GOMAXPROCS+1, at least 1. It is a lower bound for work that is limited by this process's CPU,
// and not a recommendation: callers that wait for the network need more connections, about as many
// as there are calls in flight at once (commands per second times the round trip in seconds).
// Measure with Monitor or lifeguard doctor. Blocking commands need additional ones. It is safe for
// concurrent use.
func SuggestPoolSize(expectedConcurrency int) int {
	return max(1, min(expectedConcurrency, 2*runtime.GOMAXPROCS(0)+1))
}
