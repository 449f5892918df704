package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// This is why answered commands have to be told apart by other means than their
// error: go-redis gives them one, too.
func TestGoRedisGivesAnsweredCommandsOfABrokenPipelineAnError(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	rdb := redis.NewClient(bare(s, f.proxy.Addr()))
	defer rdb.Close()
	ctx := within(t, 5*time.Second)
	rdb.Ping(ctx)
	var cmds []redis.Cmder
	redistest.Eventually(t, "a pipeline breaks between replies", 5*time.Second, func() bool {
		f.reply("echo", 1, redistest.HalfThenCut)
		cmds, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := range 8 {
				p.Echo(ctx, fmt.Sprint(i))
			}
			return nil
		})
		return cmds[0].(*redis.StringCmd).Val() == "0"
	})
	if cmds[0].Err() == nil {
		t.Error("an answered command has no error: go-redis has changed, errUnanswered may go")
	}
}

func TestAnsweredCommandsOfAPipelineAreNotSentAgain(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	rdb, h := attach(t, bare(s, f.proxy.Addr()), quick())
	ctx := within(t, 30*time.Second)
	const n = 100
	for round := range 20 {
		rdb.Ping(ctx)
		list := fmt.Sprint("list:", round)
		f.reply("rpush", 1, redistest.HalfThenCut)
		cmds, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := range n {
				switch {
				case i < n/2 && i%4 == 0:
					p.RPush(ctx, list, i) // those in the second half may not be repeated, so there are none
				case i%2 == 0:
					p.Set(ctx, fmt.Sprint("k", i), i, 0)
				default:
					p.Get(ctx, fmt.Sprint("other", i))
				}
			}
			return nil
		})
		lost := 0
		for i, cmd := range cmds {
			switch e := cmd.Err(); {
			case e == nil || e == redis.Nil:
				if c, ok := cmd.(*redis.IntCmd); ok && c.Val() != int64(i/4+1) {
					t.Errorf("RPUSH %d said %d", i, c.Val())
				}
			case errors.Is(e, retry.ErrUnknownOutcome) || e == io.EOF:
				lost++
			default:
				t.Errorf("command %d: %v", i, e)
			}
		}
		if (err != nil && err != redis.Nil) != (lost > 0) {
			t.Errorf("Exec: %v with %d lost", err, lost)
		}
		seen := map[string]int{}
		for _, v := range s.Admin().LRange(ctx, list, 0, -1).Val() {
			if seen[v]++; seen[v] > 1 {
				t.Errorf("%s was pushed %d times", v, seen[v])
			}
		}
		if len(seen) != n/8+1 {
			t.Errorf("%d pushes", len(seen))
		}
	}
	t.Logf("%+v", h.Stats())
	if h.Stats().Retries == 0 {
		t.Error("nothing was ever repeated")
	}
}

func TestAPipelineOfSafeCommandsIsRepeatedWhereItBroke(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	rdb, _ := attach(t, bare(s, f.proxy.Addr()), quick())
	ctx := within(t, 10*time.Second)
	for _, loss := range []redistest.Action{redistest.CutBefore, redistest.HalfThenCut, redistest.Drop} {
		f.reply("hset", 3, loss)
		cmds, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := range 50 {
				p.Set(ctx, fmt.Sprint("a", i), i, 0)
				p.Get(ctx, fmt.Sprint("a", i))
				p.HSet(ctx, "h", i, 1)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("%v: %v", loss, err)
		}
		for i, cmd := range cmds {
			if c, ok := cmd.(*redis.StringCmd); ok && c.Val() != fmt.Sprint(i/3) || cmd.Err() != nil {
				t.Errorf("%v: %d: %v", loss, i, cmd)
			}
		}
	}
}

func TestOneUnsafeCommandWithoutAnswerStopsThePipeline(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	rdb, h := attach(t, bare(s, f.proxy.Addr()), quick())
	ctx := within(t, 10*time.Second)
	f.reply("incr", 1, redistest.CutBefore)
	var get *redis.StringCmd
	var set *redis.StatusCmd
	var incr *redis.IntCmd
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		get, set, incr = p.Get(ctx, "g"), p.Set(ctx, "s", 1, 0), p.Incr(ctx, "i")
		return nil
	})
	if f.sent() != 1 || s.Admin().Get(ctx, "i").Val() != "1" {
		t.Errorf("sent %d times", f.sent())
	}
	if err != io.EOF || get.Err() != io.EOF {
		t.Errorf("read: %v, Exec: %v", get.Err(), err)
	}
	if !errors.Is(set.Err(), retry.ErrUnknownOutcome) || !errors.Is(incr.Err(), retry.ErrUnknownOutcome) {
		t.Errorf("writes: %v, %v", set.Err(), incr.Err())
	}
	if st := h.Stats(); st.UnknownOutcomes != 2 || st.Calls != 3 {
		t.Errorf("%+v", st)
	}
}

func TestAReadFollowedByItsDeletionIsNotRepeated(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	rdb, _ := attach(t, bare(s, f.proxy.Addr()), quick())
	ctx := within(t, 10*time.Second)
	for name, run := range map[string]func(func(redis.Pipeliner) error) error{
		"pipeline":    func(fn func(redis.Pipeliner) error) error { _, err := rdb.Pipelined(ctx, fn); return err },
		"transaction": func(fn func(redis.Pipeliner) error) error { _, err := rdb.TxPipelined(ctx, fn); return err },
	} {
		s.Admin().RPush(ctx, "queue", 1, 2, 3)
		f.reply("lrange", 1, redistest.CutBefore)
		var items *redis.StringSliceCmd
		var del *redis.IntCmd
		err := run(func(p redis.Pipeliner) error {
			items, del = p.LRange(ctx, "queue", 0, -1), p.Del(ctx, "queue")
			return nil
		})
		if err == nil || items.Err() == nil || !errors.Is(del.Err(), retry.ErrUnknownOutcome) {
			t.Errorf("%s: %v: items %v, %v: they are lost without a word", name, err, items, del.Err())
		}
		s.Admin().Del(ctx, "queue")
	}
}

func TestATransactionIsRepeatedWholeOrNotAtAll(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	rdb, _ := attach(t, bare(s, f.proxy.Addr()), quick())
	ctx := within(t, 10*time.Second)
	for _, loss := range []redistest.Action{redistest.CutBefore, redistest.HalfThenCut} {
		f.reply("exec", 1, loss)
		cmds, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, "a", 1, 0)
			p.Incr(ctx, "n")
			return nil
		})
		if !errors.Is(err, retry.ErrUnknownOutcome) || f.sent() != 1 || !errors.Is(cmds[1].Err(), retry.ErrUnknownOutcome) {
			t.Errorf("unsafe: %v, sent %d", err, f.sent())
		}
		f.reply("exec", 2, loss)
		cmds, err = rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, "a", 2, 0)
			p.HSet(ctx, "h", "f", 1)
			p.Get(ctx, "a")
			return nil
		})
		if err != nil || f.sent() != 3 || cmds[2].(*redis.StringCmd).Val() != "2" {
			t.Errorf("safe: %v, sent %d", err, f.sent())
		}
	}
	if n := s.Admin().Get(ctx, "n").Val(); n != "2" {
		t.Errorf("n is %s", n)
	}
	f.request("exec", 1, redistest.CutBefore)
	if _, err := rdb.TxPipelined(retry.Idempotent(ctx), func(p redis.Pipeliner) error { p.Incr(ctx, "m"); return nil }); err != nil {
		t.Errorf("marked: %v", err)
	}
}

func TestAnAbortedTransactionKeepsItsErrors(t *testing.T) {
	s := redistest.Start(t)
	rdb, h := attach(t, bare(s, s.Addr()), quick())
	ctx := within(t, 10*time.Second)
	cmds, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, "a", 1, 0)
		p.Do(ctx, "nonsense")
		return nil
	})
	if err == nil || !redis.IsExecAbortError(cmds[0].Err()) || !strings.Contains(cmds[1].Err().Error(), "unknown command") {
		t.Errorf("%v: %v", err, cmds)
	}
	err = rdb.Watch(ctx, func(tx *redis.Tx) error {
		s.Admin().Set(ctx, "w", 2, 0)
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "w", 3, 0); return nil })
		return err
	}, "w")
	if err != redis.TxFailedErr {
		t.Errorf("%v", err)
	}
	if st := h.Stats(); st.Retries != 0 {
		t.Errorf("%+v", st)
	}
}

func TestPipelinesAndTransactionsThatWereNotSentAreSent(t *testing.T) {
	s := redistest.Start(t)
	rdb, h := attach(t, bare(s, s.Addr()), quick())
	ctx := within(t, 20*time.Second)
	rdb.Ping(ctx)
	s.Kill()
	rdb.Ping(within(t, 50*time.Millisecond)) // so that no dead connection is left idle
	errs := make(chan error, 2)
	go func() {
		_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "a"); p.Get(ctx, "b"); return nil })
		errs <- err
	}()
	go func() {
		_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "c"); return nil })
		errs <- err
	}()
	redistest.Eventually(t, "both wait", 5*time.Second, func() bool { return h.Stats().RetriesByReason[retry.ReasonDial] > 12 })
	s.Restart()
	for range 2 {
		if err := <-errs; err != nil && err != redis.Nil {
			t.Error(err)
		}
	}
	if a, c := s.Admin().Get(ctx, "a").Val(), s.Admin().Get(ctx, "c").Val(); a != "1" || c != "1" {
		t.Errorf("a %s, c %s", a, c)
	}
	if _, err := rdb.Pipelined(cancelled(), func(p redis.Pipeliner) error { p.Incr(ctx, "a"); return nil }); err != context.Canceled {
		t.Errorf("%v", err)
	}
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestAHandWrittenTransactionInAPipelineIsNotTornApart(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	rdb, _ := attach(t, bare(s, f.proxy.Addr()), quick())
	ctx := within(t, 10*time.Second)
	f.reply("multi", 1, redistest.HalfThenCut)
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Get(ctx, "x")
		p.Do(ctx, "multi")
		p.Set(ctx, "x", 1, 0)
		p.Do(ctx, "exec")
		p.Get(ctx, "y")
		return nil
	})
	if err == nil || f.sent() != 1 {
		t.Errorf("%v, sent %d", err, f.sent())
	}
}

func TestTheAutoPipelineKeepsTheGuarantee(t *testing.T) {
	s := redistest.Start(t)
	for _, full := range []bool{false, true} {
		t.Run(fmt.Sprint("full duplex ", full), func(t *testing.T) {
			f := newFaults(t, s.Addr())
			rdb, _ := attach(t, bare(s, f.proxy.Addr()), quick())
			ctx := within(t, 20*time.Second)
			cfg := redis.DefaultAutoPipelineOptions()
			cfg.FullDuplex = full
			ap, err := rdb.AsyncAutoPipelineWithOptions(cfg)
			if err != nil {
				t.Fatal(err)
			}
			rdb.Ping(ctx)
			key := redistest.UniqueKey(t, "n")
			f.reply("incr", 1, redistest.CutBefore)
			var cmds []*redis.IntCmd
			for range 20 {
				cmds = append(cmds, ap.Incr(ctx, key))
			}
			ok := 0
			for _, c := range cmds {
				if c.Err() == nil {
					ok++
					if c.Val() == 0 {
						t.Error("success without a value")
					}
				}
			}
			n, _ := s.Admin().Get(ctx, key).Int()
			if n > 20 {
				t.Errorf("%d calls counted %d times", len(cmds), n)
			}
			s.Admin().Set(ctx, key+"v", "v", 0)
			f.reply("get", 1, redistest.CutBefore)
			get := ap.Get(ctx, key+"v")
			if v, err := get.Result(); err == nil && v != "v" {
				t.Errorf("GET gave %q", v)
			} else if !full && err != nil {
				t.Errorf("GET: %v", err)
			}
			t.Logf("%d of %d succeeded, counter %d, GET %v", ok, len(cmds), n, get.Err())
		})
	}
}

func TestPipelinesOfMixedCommandsUnderRandomCutsLoseAndRepeatNothing(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr())
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	proxy.OnReply(randomly(seed, 25, redistest.CutBefore, redistest.HalfThenCut, redistest.CutAfter))
	proxy.OnRequest(randomly(seed+1, 25, redistest.CutBefore, redistest.HalfThenCut, redistest.CutAfter))
	rdb, h := attach(t, bare(s, proxy.Addr()), quick())
	ctx := within(t, 60*time.Second)
	certain, maybe := map[string]bool{}, map[string]bool{}
	for round := range 60 {
		cmds, _ := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := range 100 {
				id := fmt.Sprintf("%d.%d", round, i)
				switch rnd.IntN(4) {
				case 0:
					p.RPush(ctx, "log", id)
				case 1:
					p.Set(ctx, "s"+id, id, 0)
				case 2:
					p.Get(ctx, fmt.Sprintf("s%d.%d", round, rnd.IntN(i+1)))
				default:
					p.HSet(ctx, "h", id, 1)
				}
			}
			return nil
		})
		for i, cmd := range cmds {
			if cmd.Name() != "rpush" {
				continue
			}
			id := fmt.Sprintf("%d.%d", round, i)
			switch err := cmd.Err(); {
			case err == nil:
				certain[id] = true
			case errors.Is(err, retry.ErrUnknownOutcome):
				maybe[id] = true
			}
		}
	}
	seen := map[string]bool{}
	for _, id := range s.Admin().LRange(ctx, "log", 0, -1).Val() {
		if seen[id] {
			t.Errorf("%s twice (seed %d)", id, seed)
		}
		if seen[id] = true; !certain[id] && !maybe[id] {
			t.Errorf("%s happened although its error said no (seed %d)", id, seed)
		}
	}
	for id := range certain {
		if !seen[id] {
			t.Errorf("%s is lost (seed %d)", id, seed)
		}
	}
	t.Logf("%d certain, %d unknown, %d happened, %+v", len(certain), len(maybe), len(seen), h.Stats())
}

// panics is a hook of a user that panics in a pipeline.
type panics struct{}

func (panics) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (panics) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (panics) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "echo" {
			panic("a user's hook")
		}
		return next(ctx, cmds)
	}
}

// The AutoPipeliner lives on after a panic, and gives its error to commands that have none.
func TestAPanicInAPipelineLeavesNoErrorOfOursInItsCommands(t *testing.T) {
	s := redistest.Start(t)
	rdb, _ := attach(t, bare(s, s.Addr()), quick())
	rdb.AddHook(panics{})
	p := rdb.Pipeline()
	cmd := p.Echo(t.Context(), "a")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic did not reach the caller")
			}
		}()
		_, _ = p.Exec(t.Context())
	}()
	if cmd.Err() != nil {
		t.Errorf("the command has the error %q", cmd.Err())
	}
}
