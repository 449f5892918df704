package integration_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// warmed opens n connections.
func warmed(t testing.TB, c *managed.Client, n int) {
	t.Helper()
	if got, err := c.Warm(t.Context(), n); err != nil {
		t.Fatal(got, err)
	}
}

// crowd runs n callers with k commands each, GET and SET in turns.
func crowd(n, k int, do func(ctx context.Context, i int) error) (took []time.Duration, errs []error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for j := range k {
				began := time.Now()
				err := do(context.Background(), i+j)
				d := redistest.Took(began)
				mu.Lock()
				took = append(took, d)
				if err != nil && !errors.Is(err, redis.Nil) {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	return took, errs
}

func mixed(c *managed.Client) func(ctx context.Context, i int) error {
	return func(ctx context.Context, i int) error {
		if i%2 == 0 {
			return c.Set(ctx, fmt.Sprint("key", i), i, 0).Err()
		}
		return c.Get(ctx, fmt.Sprint("key", i)).Err()
	}
}

// The server closes connections that are idle for 2 s. With nobody calling for 20 s the pool
// is as good as new; on RESP3, TLS, and with the client-side cache.
func TestAPoolThatWasIdleForTwentySecondsAnswersABurstOfFifty(t *testing.T) {
	for _, kind := range []string{"plain", "TLS", "cache"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var s *redistest.Server
			if kind == "TLS" {
				s = redistest.StartTLS(t, "--timeout", "2")
			} else {
				s = redistest.Start(t, "--timeout", "2")
			}
			opt := s.Options()
			opt.PoolSize = 50
			if kind == "cache" {
				opt.ClientSideCacheConfig = &redis.ClientSideCacheConfig{MaxEntries: 100}
			}
			var mu sync.Mutex
			var events []hooks.Event
			c := guarded(t, opt, managed.WithEventHandler(func(e hooks.Event) {
				mu.Lock()
				defer mu.Unlock()
				events = append(events, e)
			}))
			since := func(from int) []hooks.Event {
				mu.Lock()
				defer mu.Unlock()
				return slices.Clone(events[from:])
			}
			for try := 1; ; try++ {
				warmed(t, c, 50)
				redistest.Eventually(t, "all 50 have been heard of", 5*time.Second, func() bool {
					open := 0
					for _, e := range since(0) {
						switch e.Kind {
						case hooks.Dialed:
							open++
						case hooks.Closed:
							open--
						}
					}
					return open == 50
				})
				from, began := len(since(0)), time.Now()
				time.Sleep(20 * time.Second)
				took, errs := crowd(50, 1, mixed(c))
				changed := since(from)
				t.Logf("the longest of %d took %v; since: %v", len(took), took[len(took)-1], changed)
				if len(errs) > 0 {
					t.Errorf("%d failed: %v", len(errs), errs[0])
				}
				if len(changed) == 0 {
					return
				}
				// There is half a second between a heartbeat and the server's timeout.
				if stalled := redistest.Stalled(began); stalled < 300*time.Millisecond || try == 3 {
					t.Fatalf("connections were opened or closed: %v; the machine stood still for %v", changed, stalled)
				}
			}
		})
	}
}

// A real server is down for 2 s, five times.
func TestAfterAnOutageOfTwoSecondsCallersAreServedAtOnce(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 50
	c := guarded(t, opt)
	warmed(t, c, 50)
	var first []time.Duration
	var failed, served atomic.Int64
	for range 5 {
		var wg sync.WaitGroup
		stop := make(chan struct{})
		var last, back atomic.Int64
		for i := range 200 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
					err := mixed(c)(ctx, i)
					cancel()
					now := time.Now().UnixNano()
					if err != nil && !errors.Is(err, redis.Nil) {
						failed.Add(1)
						t.Log(err)
						continue
					}
					served.Add(1)
					if b := last.Load(); b != 0 && now > b {
						back.CompareAndSwap(0, now)
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		s.Kill()
		time.Sleep(2 * time.Second)
		last.Store(time.Now().UnixNano()) // nobody can succeed before
		s.Restart()                       // it returns when the server answers
		up := time.Now().UnixNano()
		redistest.Eventually(t, "a command succeeds", 5*time.Second, func() bool { return back.Load() != 0 })
		first = append(first, time.Duration(back.Load()-up))
		close(stop)
		wg.Wait()
		if n := int(c.PoolStats().TotalConns); n > 50 {
			t.Errorf("%d connections", n)
		}
	}
	slices.Sort(first)
	t.Logf("first success, against the moment at which the server was seen to answer (before it: negative): %v; %d served, %d failed", first, served.Load(), failed.Load())
	if failed.Load() > 0 {
		t.Errorf("%d GETs or SETs with a ctx of 5 s failed", failed.Load())
	}
	if m := first[len(first)/2]; m > 200*time.Millisecond {
		t.Errorf("median %v", m)
	}
}
