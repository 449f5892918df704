package retry_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/retry"
)

func TestWhileConnectionsAreCutCallersOfSafeCommandsSeeNoError(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr())
	opt := bare(s, proxy.Addr())
	opt.PoolSize = 64
	opt.ReadTimeout = 3 * time.Second
	p := quick() // on a slow machine more than 20 % of calls are cut
	p.MaxAttempts = -1
	rdb, h := attach(t, opt, p)
	d := 3 * time.Second
	if testing.Short() {
		d = time.Second
	}
	ctx := within(t, d+20*time.Second)
	until := time.Now().Add(d)
	var calls, unsafeErrs atomic.Int64
	var mu sync.Mutex
	certain, maybe := map[string]bool{}, map[string]bool{}
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for i := 0; time.Now().Before(until); i++ {
				calls.Add(3)
				id := fmt.Sprintf("%d.%d", g, i)
				if err := rdb.Set(ctx, fmt.Sprint("k", g), id, 0).Err(); err != nil {
					t.Errorf("SET: %v", err)
				}
				if v, err := rdb.Get(ctx, fmt.Sprint("k", g)).Result(); err != nil || v != id {
					t.Errorf("GET: %q, %v", v, err)
				}
				err := rdb.HIncrBy(ctx, "marks", id, 1).Err()
				mu.Lock()
				switch {
				case err == nil:
					certain[id] = true
				case errors.Is(err, retry.ErrUnknownOutcome):
					maybe[id] = true
					unsafeErrs.Add(1)
				default:
					t.Errorf("HINCRBY: %v", err)
				}
				mu.Unlock()
			}
		})
	}
	cuts := 0
	for time.Now().Before(until) {
		cuts += proxy.CutAll()
		time.Sleep(20 * time.Millisecond) // the rhythm of the test, not a wait for something
	}
	wg.Wait()
	proxy.CutAll()
	settled(t, s)
	marks := s.Admin().HGetAll(context.Background(), "marks").Val()
	for id, n := range marks {
		if n != "1" || !certain[id] && !maybe[id] {
			t.Errorf("%s: %s times", id, n)
		}
	}
	for id := range certain {
		if marks[id] == "" {
			t.Errorf("%s is lost", id)
		}
	}
	t.Logf("%d calls, %d connections cut, %d unknown outcomes, %d of them had happened, %+v", calls.Load(), cuts, len(maybe),
		len(marks)-len(certain), h.Stats())
}
