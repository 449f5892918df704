//go:build unix

package sim

import (
	"errors"
	"flag"
	"fmt"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/lifeguard-redis/lifeguard/retry"
)

var (
	seeds = flag.Int("seeds", 40, "how many seeds")
	first = flag.Uint64("seed", 1, "the first of them")
	again = flag.Int("again", 1, "how often each is played")
	only  = flag.String("only", "", "only failures whose class and kind match fail")
	whole = flag.Bool("whole", false, "print the whole trace")
	stop  = flag.Bool("stop", false, "stop at the first seed that fails")
	small = flag.Bool("small", true, "look for a smaller scenario that fails alike")
)

// TestSim plays scenarios and reports the first that breaks an invariant.
func TestSim(t *testing.T) {
	asked := regexp.MustCompile(*only)
	by := map[string][]uint64{}
	count := func(name string, seed uint64) {
		if n := len(by[name]); n == 0 || by[name][n-1] != seed {
			by[name] = append(by[name], seed)
		}
	}
	var total, unknown int
	var virtual time.Duration
	began := time.Now()
	for i := range *seeds * *again {
		s := newScenario(*first + uint64(i / *again))
		p := play(t, s)
		virtual += p.Virtual
		total += len(p.Results)
		for _, res := range p.Results {
			if errors.Is(res.Err, retry.ErrUnknownOutcome) {
				unknown++
			}
		}
		for _, f := range p.Failures {
			count(f.name(), s.Seed)
			if asked.MatchString(f.name()) && !t.Failed() {
				tell(t, s, p, f)
			}
		}
		if *stop && t.Failed() {
			break
		}
	}
	took := time.Since(began)
	t.Logf("%d seeds from %d: %.0f a second, %.0f times as fast as life; %d requests, %d of unknown outcome", *seeds, *first,
		float64(*seeds**again)/took.Seconds(), virtual.Seconds()/took.Seconds(), total, unknown)
	var names []string
	for name := range by {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		t.Logf("%-60s %4d seeds: %v", name, len(by[name]), by[name][:min(8, len(by[name]))])
	}
}

// tell prints how a failure happened.
func tell(t *testing.T, s Scenario, p *Played, f Failure) {
	if *small {
		s, p, f = shrink(t, s, p, f)
	}
	var b strings.Builder
	calls := 0
	for _, c := range s.Callers {
		calls += len(c)
	}
	fmt.Fprintf(&b, "seed %d breaks %s: %s\n", s.Seed, f.Class, f.Text)
	fmt.Fprintf(&b, "%s, latency %v, %v, %d callers, %d calls, faults %v\n", s.Servers, s.Latency, s.Options, len(s.Callers), calls, s.Faults)
	lines := p.Trace.about(f)
	if *whole {
		lines = p.Trace.lines
	}
	for _, l := range lines {
		fmt.Fprintln(&b, l)
	}
	t.Errorf("%s\nto repeat it: go test ./internal/sim -run Sim -seeds 1 -seed %d -again 20 -only '^%s'", b.String(), s.Seed, regexp.QuoteMeta(f.name()))
}
