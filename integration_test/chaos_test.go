package integration_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

const callers = 64

// everyTick calls f until the time is over, and then waits for the callers.
func everyTick(tick, d time.Duration, wg *sync.WaitGroup, f func()) {
	timer := time.NewTicker(tick)
	defer timer.Stop()
	for end := time.After(d); ; {
		select {
		case <-timer.C:
			f()
		case <-end:
			wg.Wait()
			return
		}
	}
}

// The first promise, with everything at its default: the server itself kills all
// connections, 50 times a second.
func TestWithAllConnectionsKilledEvery20msNothingHappensTwiceAndSafeCommandsSeeNoError(t *testing.T) {
	s := redistest.Start(t)
	rdb := guarded(t, s.Options())
	d := lasting(5*time.Second, 30*time.Second)
	ctx := upTo(t, d+30*time.Second)
	until := time.Now().Add(d)
	book := newLedger()
	var safe few
	var reads, slowest atomic.Int64
	var wg sync.WaitGroup
	for g := range callers {
		wg.Go(func() {
			mine := fmt.Sprint("own:", g)
			for i := 0; time.Now().Before(until); i++ {
				start := time.Now()
				key := fmt.Sprintf("n:%d:%d", g, i)
				n, err := rdb.Incr(ctx, key).Result()
				book.note(key, err)
				if err == nil && n != 1 {
					t.Errorf("%s is %d after its only INCR", key, n)
				}
				safe.add(rdb.Set(ctx, mine, key, 0).Err())
				v, err := rdb.Get(ctx, mine).Result()
				if safe.add(err); err == nil && v != key {
					t.Errorf("GET after SET is %q, not %q", v, key)
				}
				safe.add(rdb.HSet(ctx, "hash", mine, i).Err())
				reads.Add(3)
				if took := int64(time.Since(start)); took > slowest.Load() {
					slowest.Store(took)
				}
			}
		})
	}
	kills := 0
	everyTick(20*time.Millisecond, d, &wg, func() { kills += s.KillClients(t) })
	safe.none(t, "GET, SET, HSET", reads.Load())
	stats := rdb.RetryStats()
	_ = rdb.Close()
	v := book.reconcile(t, s)
	for key, err := range book.never {
		t.Errorf("%s: an error other than an unknown outcome: %v", key, err)
		break
	}
	t.Logf("%v: %d connections killed; %v; %d safe commands; slowest round of 4 commands %v; %+v", d, kills, v, reads.Load(), time.Duration(slowest.Load()), stats)
	if kills == 0 || v.calls == 0 {
		t.Fatal("nothing was killed, or nothing was called")
	}
}

// cutting gives one chunk in n one of all the ways to be cut: before, in the
// middle of and after it.
func cutting(seed uint64, n int) func(int, []byte) redistest.Action {
	ways := []redistest.Action{redistest.CutBefore, redistest.HalfThenCut, redistest.CutAfter}
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(seed, 1))
	return func(int, []byte) redistest.Action {
		mu.Lock()
		defer mu.Unlock()
		if rnd.IntN(n) > 0 {
			return redistest.Forward
		}
		return ways[rnd.IntN(len(ways))]
	}
}

// A proxy cuts requests and replies at random, and twice a second it makes black
// holes of all connections.
func TestCutsAtEveryPointOfRequestsAndRepliesAndHalfOpenConnectionsAreRiddenOut(t *testing.T) {
	for round := range 2 {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed %d, stalls %v", seed, round == 1), func(t *testing.T) {
			s := redistest.Start(t)
			proxy := redistest.NewProxy(t, s.Addr())
			rdb := guarded(t, behind(s, proxy))
			d := lasting(3*time.Second, 6*time.Second)
			ctx := upTo(t, d+30*time.Second)
			proxy.OnRequest(cutting(seed, 60))
			proxy.OnReply(cutting(seed+1, 60))
			until := time.Now().Add(d)
			book := newLedger()
			var safe few
			var calls, slowest atomic.Int64
			var wg sync.WaitGroup
			for g := range 32 {
				wg.Go(func() {
					mine := fmt.Sprint("own:", g)
					for i := 0; time.Now().Before(until); i++ {
						start := time.Now()
						key := fmt.Sprintf("n:%d:%d", g, i)
						book.note(key, rdb.Incr(ctx, key).Err())
						safe.add(rdb.Set(ctx, mine, key, 0).Err())
						v, err := rdb.Get(ctx, mine).Result()
						if safe.add(err); err == nil && v != key {
							t.Errorf("GET after SET is %q, not %q", v, key)
						}
						calls.Add(2)
						if took := int64(time.Since(start)); took > slowest.Load() {
							slowest.Store(took)
						}
					}
				})
			}
			everyTick(500*time.Millisecond, d, &wg, func() {
				if round == 1 {
					proxy.StallExisting()
				}
			})
			safe.none(t, "GET and SET", calls.Load())
			stats := rdb.RetryStats()
			_ = rdb.Close()
			proxy.CutAll()
			v := book.reconcile(t, s)
			for key, err := range book.never {
				t.Errorf("%s: an error other than an unknown outcome: %v", key, err)
				break
			}
			t.Logf("%v; %d safe commands; slowest round of 3 commands %v; %+v", v, calls.Load(), time.Duration(slowest.Load()), stats)
		})
	}
}

// durable makes a server keep what it has answered when it is killed.
func durable(t *testing.T) *redistest.Server {
	return redistest.Start(t, "--appendonly", "yes", "--appendfsync", "no")
}

func TestAKilledServerThatIsBackAfter2sCostsNoSafeCommandAndDoublesNone(t *testing.T) {
	s := durable(t)
	rdb := guarded(t, s.Options())
	stop := make(chan struct{})
	book := newLedger()
	var safe few
	var calls, back atomic.Int64
	var mu sync.Mutex
	var firsts []time.Duration
	var wg sync.WaitGroup
	for g := range callers {
		wg.Go(func() {
			mine, seen := fmt.Sprint("own:", g), false
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				key := fmt.Sprintf("n:%d:%d", g, i)
				book.note(key, rdb.Incr(ctx, key).Err())
				cancel()
				ctx, cancel = context.WithTimeout(context.Background(), 5*time.Second)
				safe.add(rdb.Set(ctx, mine, key, 0).Err())
				v, err := rdb.Get(ctx, mine).Result()
				cancel()
				if safe.add(err); err == nil && v != key {
					t.Errorf("GET after SET is %q, not %q", v, key)
				}
				calls.Add(2)
				if at := back.Load(); at > 0 && !seen && err == nil {
					seen = true
					mu.Lock()
					firsts = append(firsts, time.Since(time.Unix(0, at)))
					mu.Unlock()
				}
				time.Sleep(time.Millisecond) // some thousand calls are enough
			}
		})
	}
	time.Sleep(500 * time.Millisecond)
	s.Kill()
	time.Sleep(2 * time.Second)
	s.Restart()
	back.Store(time.Now().UnixNano())
	time.Sleep(time.Second)
	close(stop)
	wg.Wait()
	safe.none(t, "GET and SET", calls.Load())
	stats := rdb.RetryStats()
	_ = rdb.Close()
	v := book.reconcile(t, s)
	for key, err := range book.never {
		t.Errorf("%s: neither success nor an unknown outcome: %v", key, err)
		break
	}
	slices.Sort(firsts)
	if len(firsts) < callers {
		t.Fatalf("only %d of %d callers had a success within 1 s of the return", len(firsts), callers)
	}
	t.Logf("%v; %d safe commands; first success after the server's return: median %v, last %v; %+v", v, calls.Load(), firsts[len(firsts)/2], firsts[len(firsts)-1], stats)
}
