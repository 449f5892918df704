package soak

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

var (
	soakFlag = flag.Duration("soak", 0, "how long the soak runs; 0: 20s, with -short 4s")
	seedFlag = flag.Uint64("seed", 0, "seed of the first round; 0: a random one")
)

const longest = 30 * time.Second // of a round: what it wrote is compared in memory

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

// Everything that the library promises, at once and for as long as wanted.
func TestSoakFindsNothingLostDoubledMixedUpOrLeaked(t *testing.T) {
	total := *soakFlag
	switch {
	case total > 0:
	case testing.Short():
		total = 4 * time.Second
	default:
		total = 20 * time.Second
	}
	first := *seedFlag
	if first == 0 {
		first = rand.Uint64() >> 1
	}
	rounds := int((total + longest - 1) / longest)
	each := total / time.Duration(rounds)
	for i := range rounds {
		seed := first + uint64(i)
		ok := t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { soak(t, seed, each) })
		if !ok {
			t.Fatalf("again with: go test -race -count=1 -v ./integration_test/soak -soak %v -seed %d", each, seed)
		}
	}
}
