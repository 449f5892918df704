package retry_test

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
	"github.com/lifeguard-redis/lifeguard/retry"
)

var (
	seeds    = flag.Int("retry.seeds", 1500, "number of seeds of the property test")
	seedFlag = flag.Uint64("retry.seed", 0, "one seed of the property test")
)

// randomly gives one chunk in n one of the actions.
func randomly(seed uint64, n int, actions ...redistest.Action) func(int, []byte) redistest.Action {
	rnd := rand.New(rand.NewPCG(seed, 2))
	var mu sync.Mutex
	return func(int, []byte) redistest.Action {
		mu.Lock()
		defer mu.Unlock()
		if rnd.IntN(n) > 0 {
			return redistest.Forward
		}
		return actions[rnd.IntN(len(actions))]
	}
}

// ledger is what callers were told about the writes that must not be repeated,
// by a number that each of them has for itself.
type ledger struct {
	certain, maybe, never map[string]bool
}

func (l *ledger) note(id string, err error) {
	switch {
	case err == nil:
		l.certain[id] = true
	case errors.Is(err, retry.ErrUnknownOutcome):
		l.maybe[id] = true
	default:
		l.never[id] = true
	}
}

// For a random sequence of faults and commands, the state of the server is the
// state of the calls that reported success, plus some of those that reported an
// unknown outcome, and nothing of the others. Every call leaves a mark of its
// own, so that one that ran twice is seen.
func TestTheServersStateMatchesTheRepliesOfCallers(t *testing.T) {
	s := redistest.Start(t)
	first, n := rand.Uint64(), *seeds
	if testing.Short() {
		n = min(n, 50)
	}
	if *seedFlag != 0 {
		first, n = *seedFlag, 1
	}
	var total retry.Stats
	start, ran := time.Now(), 0
	for i := range n {
		seed := first + uint64(i)
		st := property(t, s, seed)
		total.Calls += st.Calls
		total.Retries += st.Retries
		total.UnknownOutcomes += st.UnknownOutcomes
		if ran++; t.Failed() {
			t.Fatalf("again with: go test ./retry -run %s -retry.seed %d", t.Name(), seed)
		}
		if time.Since(start) > 25*time.Second {
			break
		}
	}
	t.Logf("%d seeds from %d in %v: %d calls, %d retries, %d unknown outcomes", ran, first, time.Since(start).Round(time.Millisecond),
		total.Calls, total.Retries, total.UnknownOutcomes)
}

func property(t *testing.T, s *redistest.Server, seed uint64) retry.Stats {
	rnd := rand.New(rand.NewPCG(seed, 3))
	proxy := redistest.NewProxy(t, s.Addr())
	defer proxy.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s.Admin().FlushDB(ctx)

	opt := bare(s, proxy.Addr())
	opt.ReadTimeout = 25 * time.Millisecond
	opt.PoolSize = 3
	opt.DisableIdentity = true
	p := quick()
	p.Backoff = retry.FullJitter(0, time.Millisecond)
	if rnd.IntN(4) == 0 {
		p.MaxAttempts = 1 + rnd.IntN(3)
	}
	if rnd.IntN(6) == 0 {
		opt.Protocol = 2
	}
	rdb := redis.NewClient(opt)
	defer rdb.Close()
	h, err := retry.Attach(rdb, p)
	if err != nil {
		t.Fatal(err)
	}
	cuts := []redistest.Action{redistest.CutBefore, redistest.CutAfter, redistest.HalfThenCut}
	if rnd.IntN(3) == 0 {
		cuts = append(cuts, redistest.Drop)
	}
	proxy.OnRequest(randomly(seed, 4+rnd.IntN(12), cuts...))
	proxy.OnReply(randomly(seed^0xabcdef, 4+rnd.IntN(12), cuts...))
	if rnd.IntN(4) == 0 {
		proxy.ReplySlices(20 + rnd.IntN(100))
	}

	l := ledger{map[string]bool{}, map[string]bool{}, map[string]bool{}}
	model := map[string]map[string]bool{} // values that a key may have
	set := func(key, val string, err error) {
		switch {
		case err == nil:
			model[key] = map[string]bool{val: true}
		case errors.Is(err, retry.ErrUnknownOutcome):
			if model[key] == nil {
				model[key] = map[string]bool{"": true}
			}
			model[key][val] = true
		}
	}
	for call := range 12 {
		id := fmt.Sprint(call)
		key := fmt.Sprint("k", rnd.IntN(3))
		switch rnd.IntN(9) {
		case 0:
			l.note(id, rdb.HIncrBy(ctx, "marks", id, 1).Err())
		case 1:
			l.note(id, rdb.RPush(ctx, "log", id).Err())
		case 2:
			l.note(id, rdb.Eval(ctx, "redis.call('hincrby', 'marks', ARGV[1], 1) return redis.call('get', 'k0')", nil, id).Err())
			delete(l.never, id) // its reply may be nil, or an error of the server
			if !l.certain[id] && !l.maybe[id] {
				l.maybe[id] = true
			}
		case 3:
			set(key, id, rdb.Set(ctx, key, id, 0).Err())
		case 4:
			set(key, "", rdb.Del(ctx, key).Err())
		case 5, 6:
			v, err := rdb.Get(ctx, key).Result()
			if err == nil || err == redis.Nil {
				if m := model[key]; m != nil && !m[v] || m == nil && v != "" {
					t.Errorf("seed %d: GET %s is %q, may be %v", seed, key, v, m)
				}
			} else if errors.Is(err, retry.ErrUnknownOutcome) {
				t.Errorf("seed %d: a read has an unknown outcome: %v", seed, err)
			}
		case 7:
			ids := []string{id + "a", id + "b", id + "c"}
			cmds, _ := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.HIncrBy(ctx, "marks", ids[0], 1)
				p.Set(ctx, key, ids[0], 0)
				p.Get(ctx, key)
				p.RPush(ctx, "log", ids[1])
				p.HIncrBy(ctx, "marks", ids[2], 1)
				return nil
			})
			l.note(ids[0], cmds[0].Err())
			set(key, ids[0], cmds[1].Err())
			if g := cmds[2].(*redis.StringCmd); g.Err() == nil && !model[key][g.Val()] {
				t.Errorf("seed %d: GET in a pipeline is %q", seed, g.Val())
			}
			l.note(ids[1], cmds[3].Err())
			l.note(ids[2], cmds[4].Err())
		case 8:
			unsafe := rnd.IntN(2) == 0
			cmds, _ := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, key, id, 0)
				p.SAdd(ctx, "members", id)
				if unsafe {
					p.HIncrBy(ctx, "marks", id, 1)
				}
				return nil
			})
			set(key, id, cmds[0].Err())
			if unsafe {
				l.note(id, cmds[2].Err())
				if (cmds[0].Err() == nil) != (cmds[2].Err() == nil) {
					t.Errorf("seed %d: half a transaction: %v, %v", seed, cmds[0].Err(), cmds[2].Err())
				}
			}
		}
	}
	proxy.CutAll()
	settled(t, s)

	count := map[string]int{}
	marks, err := s.Admin().HGetAll(ctx, "marks").Result()
	if err != nil {
		t.Fatal(err)
	}
	for id, n := range marks {
		fmt.Sscan(n, new(int))
		var c int
		fmt.Sscan(n, &c)
		count[id] += c
	}
	for _, id := range s.Admin().LRange(ctx, "log", 0, -1).Val() {
		count[id]++
	}
	for id, n := range count {
		if n > 1 {
			t.Errorf("seed %d: call %s happened %d times", seed, id, n)
		}
		if l.never[id] {
			t.Errorf("seed %d: call %s happened, and its error did not say that it might have", seed, id)
		}
	}
	for id := range l.certain {
		if count[id] == 0 {
			t.Errorf("seed %d: call %s reported success and is lost", seed, id)
		}
	}
	for key, may := range model {
		if v := s.Admin().Get(ctx, key).Val(); !may[v] {
			t.Errorf("seed %d: %s is %q, may be %v", seed, key, v, may)
		}
	}
	return h.Stats()
}

// settled waits until the server has read all that reached it: what the proxy
// had passed on before a cut is executed when its connection has ended.
func settled(t *testing.T, s *redistest.Server) {
	redistest.Eventually(t, "the connections of this seed have ended", 5*time.Second, func() bool { return s.NumClients(t) == 0 })
}
