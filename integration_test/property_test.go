package integration_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

var (
	seeds = flag.Int("seeds", 300, "number of seeds of the property test; more than the default has no limit of time")
	seed  = flag.Uint64("seed", 0, "one seed of the property test")
)

const seedTime = 20 * time.Second // of the default number of seeds

// For a random sequence of faults and commands, the state of the server is that
// of the calls which reported success, plus some of those which reported an
// unknown outcome, and nothing of any other. For thousands of seeds:
//
//	go test -run TheStateOfTheServer -timeout 1h -seeds 5000
func TestTheStateOfTheServerMatchesTheRepliesOfAManagedClient(t *testing.T) {
	s := redistest.Start(t)
	first, n := rand.Uint64()>>1, *seeds
	if *seed != 0 {
		first, n = *seed, 1
	}
	start, ran := time.Now(), 0
	var total verdict
	for i := range n {
		v := oneSeed(t, s, first+uint64(i))
		total.calls, total.unknown, total.happened, total.failed = total.calls+v.calls, total.unknown+v.unknown, total.happened+v.happened, total.failed+v.failed
		if ran++; t.Failed() {
			t.Fatalf("again with: go test -run %s -seed %d", t.Name(), first+uint64(i))
		}
		if n <= 300 && time.Since(start) > seedTime {
			break
		}
	}
	t.Logf("%d seeds from %d in %v: %v", ran, first, time.Since(start).Round(time.Millisecond), total)
}

func oneSeed(t *testing.T, s *redistest.Server, seed uint64) verdict {
	rnd := rand.New(rand.NewPCG(seed, 7))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.Admin().FlushDB(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	proxy := redistest.NewProxy(t, s.Addr())
	defer proxy.Close()
	opt := behind(s, proxy)
	opt.ReadTimeout = 30 * time.Millisecond
	opt.PoolSize = 1 + rnd.IntN(4)
	opt.DisableIdentity = rnd.IntN(2) == 0
	if rnd.IntN(4) == 0 {
		opt.Protocol = 2
	}
	if rnd.IntN(4) == 0 {
		opt.PipelinePoolSize = -1
	}
	p := retry.Default()
	p.Backoff = retry.FullJitter(0, time.Millisecond)
	if rnd.IntN(3) == 0 {
		p.MaxAttempts = 1 + rnd.IntN(3)
	}
	p.NoRepeatWrites = rnd.IntN(4) == 0
	opts := []managed.Option{managed.WithRetry(p), managed.WithLogger(discard)}
	if rnd.IntN(3) == 0 {
		opts = append(opts, managed.WithMaxAge(20*time.Millisecond), managed.WithHeartbeat(5*time.Millisecond))
	}
	rdb, err := managed.New(opt, opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()

	actions := []redistest.Action{redistest.CutBefore, redistest.HalfThenCut, redistest.CutAfter}
	if rnd.IntN(3) == 0 {
		actions = append(actions, redistest.Drop)
	}
	var mu sync.Mutex
	faulty := func(n int) func(int, []byte) redistest.Action {
		return func(int, []byte) redistest.Action {
			mu.Lock()
			defer mu.Unlock()
			if rnd.IntN(n) > 0 {
				return redistest.Forward
			}
			return actions[rnd.IntN(len(actions))]
		}
	}
	draw := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return rnd.IntN(n)
	}
	proxy.OnRequest(faulty(5 + draw(15)))
	proxy.OnReply(faulty(5 + draw(15)))

	book := newLedger()
	may := map[string]map[string]bool{} // the values that a key may have
	told := func(key, val string, err error) {
		switch {
		case err == nil:
			may[key] = map[string]bool{val: true}
		case errors.Is(err, retry.ErrUnknownOutcome):
			if may[key] == nil {
				may[key] = map[string]bool{"": true}
			}
			may[key][val] = true
		}
	}
	got := func(key, val string, err error) {
		switch {
		case errors.Is(err, retry.ErrUnknownOutcome):
			t.Errorf("seed %d: a read has an unknown outcome: %v", seed, err)
		case err != nil && err != redis.Nil:
		case may[key] == nil && val != "", may[key] != nil && !may[key][val]:
			t.Errorf("seed %d: GET %s is %q, may be %v", seed, key, val, may[key])
		}
	}
	for call := range 16 {
		id := fmt.Sprint(call)
		key := fmt.Sprint("k", draw(3))
		a, b := "n"+id+"a", "n"+id+"b"
		switch draw(14) {
		case 0, 1:
			book.note(a, rdb.Incr(ctx, a).Err())
		case 2:
			book.note(a, rdb.WithTimeout(40*time.Millisecond).Incr(ctx, a).Err())
		case 3:
			told(key, id, rdb.Set(ctx, key, id, 0).Err())
		case 4:
			told(key, "", rdb.Del(ctx, key).Err())
		case 5, 6:
			v, err := rdb.Get(ctx, key).Result()
			got(key, v, err)
		case 7:
			cmds, _ := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Incr(ctx, a)
				p.Set(ctx, key, id, 0)
				p.Get(ctx, key)
				p.Incr(ctx, b)
				return nil
			})
			book.note(a, cmds[0].Err())
			told(key, id, cmds[1].Err())
			if g := cmds[2].(*redis.StringCmd); g.Err() == nil {
				got(key, g.Val(), nil)
			}
			book.note(b, cmds[3].Err())
		case 8:
			cmds, _ := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Incr(ctx, a)
				p.Set(ctx, key, id, 0)
				return nil
			})
			book.note(a, cmds[0].Err())
			told(key, id, cmds[1].Err())
			if (cmds[0].Err() == nil) != (cmds[1].Err() == nil) {
				t.Errorf("seed %d: half a transaction: %v, %v", seed, cmds[0].Err(), cmds[1].Err())
			}
		case 9:
			book.note(a, rdb.Watch(ctx, func(tx *redis.Tx) error {
				if err := tx.Get(ctx, key).Err(); err != nil && err != redis.Nil {
					return fmt.Errorf("before EXEC: %v", err)
				}
				_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, a); return nil })
				return err
			}, key))
		case 10:
			var err error
			if e := rdb.AcquireFunc(ctx, func(c *managed.Conn) error { err = unknownSaid(c.Incr(ctx, a).Err()); return nil }); e != nil {
				err = e
			}
			book.note(a, err)
		case 11:
			short, cancel := context.WithTimeout(ctx, time.Duration(draw(8000))*time.Microsecond)
			book.note(a, rdb.Incr(short, a).Err())
			cancel()
		case 12:
			proxy.CutAll()
		case 13:
			proxy.StallExisting()
		}
	}
	_ = rdb.Close()
	proxy.CutAll()
	v := book.reconcile(t, s)
	for key, may := range may {
		val := s.Admin().Get(ctx, key).Val()
		if !may[val] {
			t.Errorf("seed %d: %s is %q, may be %v", seed, key, val, may)
		}
	}
	return v
}
