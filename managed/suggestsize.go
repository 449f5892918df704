package managed

import "runtime"

// SuggestPoolSize gives the smaller of the expected number of concurrent callers
// and 2*GOMAXPROCS+1, at least 1. It is a floor for work that is bound by this
// process's CPU, and no recommendation: callers that wait for the network need more
// connections, about as many as are in flight at once (commands a second times the
// round trip in seconds). Measure with Monitor or lifeguard doctor. Blocking commands
// need theirs on top. It is safe for concurrent use.
func SuggestPoolSize(expectedConcurrency int) int {
	return max(1, min(expectedConcurrency, 2*runtime.GOMAXPROCS(0)+1))
}
