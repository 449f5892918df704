package bench_test

import (
	"flag"
	"testing"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

var guard = flag.Bool("guard", false, "fail when the managed client costs more than it may; not with -race")

// What CI accepts: far less than what docs/PERFORMANCE.md shows, so that a busy machine
// never fails, and a change that costs several percent does. A ratio counts with its own
// error. Allocations are exact.
var guarded = []struct {
	way     string
	callers []int
	least   float64 // of the bare client's throughput
	allocs  float64 // at most, per call, more than the bare client's
}{
	{"get", []int{1, 8, 64}, 0.90, -0.9},
	{"set", []int{8}, 0.90, -0.9},
	{"lease", []int{1, 16}, 0.65, 3.5},
	{"pipeline", []int{8}, 0.75, -0.5},
	{"adaptive", []int{1}, 0.80, -0.9},
	{"adaptive", []int{64}, 2, -0.5},
}

const guardTrials = 3

func TestAManagedClientCostsNoMoreThanItMay(t *testing.T) {
	if !*guard {
		t.Log("measured with -guard only, and without the race detector")
		return
	}
	*rounds, *slice = 30, 25*time.Millisecond
	x := newTrio(t, redistest.Options(t), redistest.UniqueKey(t, "guard"))
	awaitSteadyState()
	for _, g := range guarded {
		for _, n := range g.callers {
			ok := false
			for trial := 0; trial < guardTrials && !ok; trial++ {
				rs := x.run(t, g.way, n)
				ratio, allocs := estimated(rs, throughput), estimated(rs, moreAllocs)
				t.Logf("%s, %s: %s of the bare client's throughput, %s allocations per call", x.ways[g.way].name, goroutines(n), ratio.ratio(), allocs.count())
				ok = ratio.median+ratio.twoSE >= g.least && allocs.median <= g.allocs
			}
			if !ok {
				t.Errorf("%s, %s: below %v of the bare client's throughput, or above %v allocations more, %d times in a row",
					x.ways[g.way].name, goroutines(n), g.least, g.allocs, guardTrials)
			}
		}
	}
}
