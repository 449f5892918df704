package bench_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func TestAdaptiveIsMeasuredBesideTheBareClient(t *testing.T) {
	ctx := t.Context()
	opt := redistest.Options(t)
	one, other := redis.NewClient(opt), redis.NewClient(opt)
	man, err := managed.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	adaptive := man.Adaptive()
	for _, c := range []redis.UniversalClient{one, other, man} {
		defer c.Close()
	}
	key, value := redistest.UniqueKey(t, "get"), strings.Repeat("x", 64)
	if err := one.Set(ctx, key, value, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	defer one.Del(ctx, key)
	get := func(n int, c redis.Cmdable) subject {
		return timed(t, n, func() error {
			got, err := c.Get(ctx, key).Result()
			if err == nil && got != value {
				err = errors.New("a wrong value came back")
			}
			return err
		})
	}
	var table strings.Builder
	fmt.Fprintf(&table, "One run of %d rounds of 3 x %v for each line, %s, %d processors.\n\n", *rounds, *slice, runtime.Version(), runtime.GOMAXPROCS(0))
	fmt.Fprintf(&table, "| GET of 64 B | throughput, Adaptive / bare | control: bare / bare | p99, Adaptive / bare | allocations per command: bare, Adaptive |\n|---|---|---|---|---|\n")
	for _, n := range []int{1, 8, 64, 256} {
		rs := pair(get(n, one), get(n, adaptive), get(n, other))
		bare := estimated(rs, func(r round) float64 { return r.bare.allocsPerOp() }).median
		ours := estimated(rs, func(r round) float64 { return r.managed.allocsPerOp() }).median
		fmt.Fprintf(&table, "| %s | %s | %s | %s | %.1f, %.1f |\n", goroutines(n),
			estimated(rs, func(r round) float64 { return r.managed.perSecond() / r.bare.perSecond() }).ratio(),
			estimated(rs, func(r round) float64 { return r.control.perSecond() / r.bare.perSecond() }).ratio(),
			estimated(rs, func(r round) float64 { return float64(r.managed.p99) / float64(r.bare.p99) }).ratio(), bare, ours)
		if *measure && n >= 64 && ours >= bare {
			t.Errorf("%s: %.1f allocations per command, bare has %.1f", goroutines(n), ours, bare)
		}
	}
	t.Logf("\n%s", table.String())
	if *write {
		replaceTable(t, "../../docs/PERFORMANCE.md", "the table of Adaptive", table.String())
	}
}

// timed is loop with one call in eight timed.
func timed(t *testing.T, n int, op func() error) subject {
	return func(d time.Duration) sample {
		took := make([][]time.Duration, n)
		s := loops(t, n, func(g int) func() error {
			calls, mine := 0, make([]time.Duration, 0, 4096)
			return func() error {
				if calls++; calls%8 != 0 || len(mine) == cap(mine) {
					return op()
				}
				began := time.Now()
				err := op()
				mine = append(mine, time.Since(began))
				took[g] = mine
				return err
			}
		})(d)
		all := slices.Concat(took...)
		slices.Sort(all)
		if s.p99 = 1; len(all) > 0 {
			s.p99 = all[len(all)*99/100]
		}
		return s
	}
}
