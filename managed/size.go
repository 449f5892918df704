package managed

import "runtime"

// SuggestPoolSize gives a PoolSize for an expected number of concurrent
// callers: the smaller of that and 2*GOMAXPROCS+1, at least 1. More connections
// than that only wait for the same processors; blocking commands need theirs on
// top.
func SuggestPoolSize(expectedConcurrency int) int {
	return max(1, min(expectedConcurrency, 2*runtime.GOMAXPROCS(0)+1))
}
