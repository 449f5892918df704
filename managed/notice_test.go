package managed_test

import (
	"flag"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

var noticeRounds = flag.Int("notice", 0, "rounds of TestCallersDoNotNoticeMaintenance, to measure for real; 0: a few short ones")

// Callers of half of a pool of 64, while a visit is made to every idle connection
// every 100 ms: with a PING for each ("pings"), without network traffic
// ("visits"), and not at all, twice ("off", "control"). One client, in drawn order.
func TestCallersDoNotNoticeMaintenance(t *testing.T) {
	rounds, slice := *noticeRounds, 400*time.Millisecond
	if rounds == 0 {
		rounds, slice = 3, 100*time.Millisecond
	}
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 64
	c := client(t, opt, managed.WithMaxIdle(0), managed.WithHeartbeat(0))
	burst(t, c, 64)
	load := func(d time.Duration) []time.Duration {
		var mu sync.Mutex
		var all []time.Duration
		var wg sync.WaitGroup
		end := time.Now().Add(d)
		for range 8 {
			wg.Go(func() {
				took := make([]time.Duration, 0, 1<<14)
				for now := time.Now(); now.Before(end); {
					if err := c.Get(t.Context(), "key").Err(); err != nil && err.Error() != "redis: nil" {
						t.Error(err)
						return
					}
					then := time.Now()
					took = append(took, then.Sub(now))
					now = then
				}
				mu.Lock()
				all = append(all, took...)
				mu.Unlock()
			})
		}
		wg.Wait()
		slices.Sort(all)
		return all
	}
	sweeping := func(kind string) func() {
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for {
				switch kind {
				case "pings":
					c.Node().Tracker().Range(func(conn *conntrack.Conn) bool { conn.Validate(); return true })
					c.Kick()
				case "visits":
					for left := c.Node().Main().Idle; left > 0; left-- {
						_, _, _ = c.Node().Visit(hooks.PoolMain, 0)
					}
				}
				select {
				case <-stop:
					return
				case <-tick.C:
				}
			}
		}()
		return func() { close(stop); <-done }
	}
	kinds := []string{"off", "visits", "pings", "control"}
	ratios := map[string][]float64{}
	load(slice)
	var typical []time.Duration
	for range rounds {
		p99 := map[string]time.Duration{}
		for _, i := range rand.Perm(len(kinds)) {
			stop := sweeping(kinds[i])
			took := load(slice)
			stop()
			require.NotEmpty(t, took)
			p99[kinds[i]] = took[len(took)*99/100]
		}
		typical = append(typical, p99["off"])
		for _, k := range kinds[1:] {
			ratios[k] = append(ratios[k], float64(p99[k])/float64(p99["off"]))
		}
	}
	slices.Sort(typical)
	t.Logf("p99 without maintenance: %v (median of %d rounds)", typical[rounds/2], rounds)
	for _, k := range kinds[1:] {
		r := ratios[k]
		slices.Sort(r)
		t.Logf("%-8s p99 is %.3f of that (median; a quarter below %.3f, a quarter above %.3f)", k, r[rounds/2], r[rounds/4], r[rounds*3/4])
	}
	require.Less(t, ratios["visits"][rounds/2], 3.0)
}
