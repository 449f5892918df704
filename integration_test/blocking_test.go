package integration_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// journal is a log that can be read.
type journal struct{ redistest.Log }

func (j *journal) text() string { return j.String() }

func (j *journal) count(s string) int { return strings.Count(j.text(), s) }

func (j *journal) option() managed.Option {
	return managed.WithLogger(j.Logger())
}

func TestAStormOfBlockingCommandsDoesNotStarveOthersWithAPoolOfItsOwn(t *testing.T) {
	for _, own := range []bool{true, false} {
		t.Run(fmt.Sprintf("own pool: %v", own), func(t *testing.T) {
			s := redistest.Start(t)
			opt := s.Options()
			opt.PoolSize, opt.PoolTimeout = 4, 500*time.Millisecond
			var opts []managed.Option
			if own {
				opts = append(opts, managed.WithBlockingPool(32))
			}
			rdb := guarded(t, opt, opts...)
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			until := time.Now().Add(1500 * time.Millisecond)
			var wg sync.WaitGroup
			var popped atomic.Int64
			for g := range 32 {
				wg.Go(func() {
					for time.Now().Before(until) {
						if rdb.BLPop(ctx, time.Second, fmt.Sprint("list:", g)).Err() == nil {
							popped.Add(1)
						}
					}
				})
			}
			redistest.Eventually(t, "some are blocked", 10*time.Second, func() bool {
				n := 0
				for _, c := range s.ClientList(t) {
					if strings.Contains(c.Flags, "b") {
						n++
					}
				}
				return n >= 4
			})
			var starved few
			var calls int64
			var slowest time.Duration
			for time.Now().Before(until) {
				start := time.Now()
				starved.add(rdb.Set(ctx, "k", 1, 0).Err())
				slowest = max(slowest, time.Since(start))
				calls++
				rdb.RPush(ctx, fmt.Sprint("list:", calls%32), "x")
			}
			wg.Wait()
			t.Logf("%d SETs, slowest %v, %d errors; %d popped", calls, slowest, starved.n, popped.Load())
			if own {
				starved.none(t, "SET", calls)
				if calls < 50 {
					t.Errorf("only %d SETs", calls)
				}
			} else if slowest < 100*time.Millisecond {
				t.Errorf("without a pool of their own nothing was starved: this shows nothing")
			}
		})
	}
}

func TestBlockingCommandsThatHoldMoreThanHalfOfThePoolAreWarnedOfOnce(t *testing.T) {
	for _, own := range []bool{false, true} {
		s := redistest.Start(t)
		opt := s.Options()
		opt.PoolSize = 4
		j := &journal{}
		opts := []managed.Option{j.option()}
		if own {
			opts = append(opts, managed.WithBlockingPool(4))
		}
		rdb := guarded(t, opt, opts...)
		ctx := upTo(t, 20*time.Second)
		burst := func(n int) {
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() { rdb.Do(ctx, "BLPOP", "nothing", "0.3") })
			}
			wg.Wait()
		}
		const text = "blocking commands hold more than half of the pool"
		burst(2)
		if n := j.count(text); n != 0 {
			t.Errorf("own pool %v: half of the pool: %d warnings", own, n)
		}
		burst(3)
		burst(4)
		want := 1
		if own {
			want = 0
		}
		if n := j.count(text); n != want {
			t.Errorf("own pool %v: %d warnings, want %d:\n%s", own, n, want, j.text())
		}
	}
}

func TestPipelinesTransactionsAndLeasesStayOnTheirConnectionsWithABlockingPool(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize, opt.PipelinePoolSize = 1, -1
	rdb := guarded(t, opt, managed.WithBlockingPool(1))
	ctx := upTo(t, 20*time.Second)
	const wait = time.Second // go-redis sends no less
	for name, call := range map[string]func() error{
		"pipeline": func() error {
			_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.BLPop(ctx, wait, "l"); return nil })
			return err
		},
		"transaction": func() error {
			_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { p.BLPop(ctx, wait, "l"); return nil })
			return err
		},
		"Watch": func() error {
			return rdb.Watch(ctx, func(tx *redis.Tx) error { return tx.BLPop(ctx, wait, "l").Err() }, "k")
		},
		"lease": func() error {
			return rdb.AcquireFunc(ctx, func(c *managed.Conn) error { return c.BLPop(ctx, wait, "l").Err() })
		},
	} {
		if err := call(); err != redis.Nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := s.NumClients(t); n != 1 {
			t.Errorf("%s: %d connections, the pool's one was to do", name, n)
		}
	}
	if err := rdb.BLPop(ctx, wait, "l").Err(); err != redis.Nil {
		t.Error(err)
	}
	if n := s.NumClients(t); n != 2 {
		t.Errorf("after a BLPOP of the client: %d connections, not a second one", n)
	}
}
