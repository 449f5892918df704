package peers_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

var (
	rounds = flag.Int("rounds", 40, "rounds of all clients, for each line of the table of throughput")
	slice  = flag.Duration("slice", 150*time.Millisecond, "how long each runs in a round")
)

// speed is what one client gave in one slice.
type speed struct{ perSecond, p99, allocs float64 }

func TestThroughputIsComparedRoundByRound(t *testing.T) {
	n, d := *rounds, *slice
	if !*measure {
		n, d = 2, 5*time.Millisecond
	}
	s := redistest.Start(t)
	value := strings.Repeat("x", 64)
	if err := s.Admin().Set(t.Context(), "k", value, 0).Err(); err != nil {
		t.Fatal(err)
	}
	var names []string
	var clients []client
	for _, sub := range subjects() {
		if strings.Contains(sub.name, *only) || sub.name == "go-redis" {
			c := sub.open(t, s.Addr())
			defer c.close()
			names, clients = append(names, sub.name), append(clients, c)
		}
	}
	var keys []string
	for range 100 {
		keys = append(keys, "k")
	}
	get := column{"GET", 1, func(ctx context.Context, c client) error { return c.get(ctx, "k") }}
	set := column{"SET", 1, func(ctx context.Context, c client) error { return c.set(ctx, "k", value) }}
	pipeline := column{"pipeline of 100 GETs", 1, func(ctx context.Context, c client) error { return c.getAll(ctx, keys) }}
	lease := column{"connection taken, GET, given back", 1, func(ctx context.Context, c client) error { return c.getLeased(ctx, "k") }}
	var out strings.Builder
	fmt.Fprintf(&out, "One run of %d rounds of %v for each client, %s, %d processors, values of 64 B. Each cell: throughput (median of\nthe ratio to go-redis within a round, with its quartiles), p99 relative to go-redis's, allocations per call.\n", n, d, runtime.Version(), runtime.GOMAXPROCS(0))
	for _, columns := range [][]column{
		{get.at(1), get.at(8), get.at(64), get.at(256)},
		{set.at(1), set.at(64), pipeline.at(1), pipeline.at(64)},
		{lease.at(1), lease.at(16)}, // as many as there are connections, or somebody waits for the timeout of a pool
	} {
		out.WriteString("\n| |")
		for _, col := range columns {
			fmt.Fprintf(&out, " %s, %d at a time |", col.name, col.callers)
		}
		fmt.Fprintf(&out, "\n|---|%s\n", strings.Repeat("---|", len(columns)))
		cells := make([][]string, len(clients))
		for _, col := range columns {
			all := make([][]speed, len(clients))
			for i := range all {
				all[i] = make([]speed, n)
			}
			for r := range n {
				for _, i := range rand.Perm(len(clients)) {
					all[i][r] = run(t, clients[i], col, d)
				}
			}
			for i := range clients {
				var ratio, p99, allocs []float64
				for r := range n {
					ratio = append(ratio, all[i][r].perSecond/all[0][r].perSecond)
					p99 = append(p99, all[i][r].p99/all[0][r].p99)
					allocs = append(allocs, all[i][r].allocs)
				}
				cells[i] = append(cells[i], fmt.Sprintf("%.2f (%.2f to %.2f), p99 %.2f, %.1f", quantile(ratio, 0.5), quantile(ratio, 0.25),
					quantile(ratio, 0.75), quantile(p99, 0.5), quantile(allocs, 0.5)))
			}
		}
		for i, name := range names {
			fmt.Fprintf(&out, "| %s | %s |\n", name, strings.Join(cells[i], " | "))
		}
	}
	t.Log("\n" + out.String())
	if *write && *measure {
		put(t, "../../docs/PERFORMANCE.md", "the peers' table", out.String())
	}
}

// column is what is called, by how many at a time.
type column struct {
	name    string
	callers int
	call    func(context.Context, client) error
}

func (c column) at(callers int) column {
	c.callers = callers
	return c
}

func quantile(v []float64, q float64) float64 {
	slices.Sort(v)
	return v[min(len(v)-1, int(q*float64(len(v))))]
}

// run calls for about d. One call in eight is timed.
func run(t *testing.T, c client, col column, d time.Duration) speed {
	var (
		stop  atomic.Bool
		total atomic.Int64
		wg    sync.WaitGroup
		mu    sync.Mutex
		times []float64
		gate  = make(chan struct{})
		m     runtime.MemStats
	)
	for range col.callers {
		wg.Go(func() {
			ctx := context.Background()
			took := make([]float64, 0, 4096)
			<-gate
			ops := int64(0)
			for ; !stop.Load(); ops++ {
				timed := ops%8 == 0 && len(took) < cap(took)
				var began time.Time
				if timed {
					began = time.Now()
				}
				if err := col.call(ctx, c); err != nil {
					t.Error(err)
					return
				}
				if timed {
					took = append(took, float64(time.Since(began)))
				}
			}
			total.Add(ops)
			mu.Lock()
			times = append(times, took...)
			mu.Unlock()
		})
	}
	runtime.GC()
	runtime.ReadMemStats(&m)
	allocs := m.Mallocs
	timer := time.AfterFunc(d, func() { stop.Store(true) })
	defer timer.Stop()
	began := time.Now()
	close(gate)
	wg.Wait()
	took := time.Since(began)
	runtime.ReadMemStats(&m)
	ops := float64(max(total.Load(), 1))
	if len(times) == 0 {
		times = []float64{1}
	}
	return speed{ops / took.Seconds(), quantile(times, 0.99), float64(m.Mallocs-allocs) / ops}
}
