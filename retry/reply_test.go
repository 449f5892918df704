package retry_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// lossy are writes whose second reply says less: what is there before, and the
// command. On what is there each replies as high as it can.
var lossy = []struct{ before, line string }{
	{"ZADD z 1 m", "ZREM z m"},
	{"ZADD z 1 m 2 n", "ZREM z m n"},
	{"SADD s m", "SREM s m"},
	{"RPUSH l v v", "LREM l 0 v"},
	{"HSET h f 1", "HDEL h f"},
	{"SET k v", "DEL k"},
	{"SET k v", "UNLINK k"},
	{"", "SADD s m"},
	{"", "PFADD p m"},
	{"XADD x 5-1 f v;XGROUP CREATE x g 0;XREADGROUP GROUP g c STREAMS x >", "XACK x g 5-1"},
	{"XADD x 5-1 f v", "XDEL x 5-1"},
	{"XADD x 5-1 f v;XADD x 5-2 f v", "XTRIM x MAXLEN 1"},
	{"SET k v EX 100", "PERSIST k"},
	{"ZADD z 1 m", "ZADD z CH 2 m"},
	{"", "ZADD z GT 2 m"},
	{"GEOADD g 1 2 m", "GEOADD g CH 3 4 m"},
	{"ZADD z 1 m", "ZREMRANGEBYSCORE z 0 5"},
	{"HSET h f 1;HEXPIRE h 100 FIELDS 1 f", "HPERSIST h FIELDS 1 f"},
	{"XADD x 5-1 f v;XGROUP CREATE x g 0", "XGROUP CREATECONSUMER x g c"},
	{"VADD v VALUES 2 1 2 e", "VREM v e"},
	{"SET k v", "EXPIRE k -1"},
}

// run runs lines that are divided by ";".
func run(t *testing.T, rdb *redis.Client, lines string) {
	t.Helper()
	for line := range strings.SplitSeq(lines, ";") {
		if line == "" {
			continue
		}
		if err := rdb.Process(context.Background(), do(line)); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
}

// counts are writes that count elements of which others may add some between two executions.
var counts = map[string]bool{"lrem": true, "xtrim": true, "zremrangebyscore": true}

func word(line string) string { return strings.ToLower(strings.Fields(line)[0]) }

func TestTheReplyOfARepetitionIsNotPassedOffAsTheFirstOne(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	opt := bare(s, f.proxy.Addr())
	opt.MaxRetries = 3
	plain := redis.NewClient(opt)
	defer plain.Close()
	rdb, _ := attach(t, bare(s, f.proxy.Addr()), quick())
	ctx := within(t, 60*time.Second)
	for _, c := range lossy {
		before := func() {
			s.Admin().FlushAll(ctx)
			run(t, s.Admin(), c.before)
		}
		before()
		first := do(c.line).(*redis.Cmd)
		if err := s.Admin().Process(ctx, first); err != nil {
			t.Fatalf("%s: %v", c.line, err)
		}

		before()
		f.reply(word(c.line), 1, redistest.CutBefore)
		again := do(c.line).(*redis.Cmd)
		if err := plain.Process(ctx, again); err != nil || fmt.Sprint(again.Val()) == fmt.Sprint(first.Val()) {
			t.Errorf("%s: bare go-redis says %v, %v: does it not tell less?", c.line, again.Val(), err)
		}

		before()
		f.reply(word(c.line), 1, redistest.CutBefore)
		err := rdb.Process(ctx, do(c.line))
		var u *retry.UnknownOutcomeError
		if !errors.Is(err, retry.ErrUnknownOutcome) || !retry.Applied(err) || !errors.As(err, &u) || u.Cause == nil || u.Attempts != 2 ||
			retry.OutcomeOf(err) != retry.Unknown {
			t.Errorf("%s: reply lost: %v", c.line, err)
		}

		// A first one that was not carried out: the repetition's reply proves it, unless it counts
		// what others may have added meanwhile.
		before()
		f.request(word(c.line), 1, redistest.CutBefore)
		got := do(c.line).(*redis.Cmd)
		if err := rdb.Process(ctx, got); counts[word(c.line)] {
			if !retry.Applied(err) {
				t.Errorf("%s: request lost: %v, %v", c.line, got.Val(), err)
			}
		} else if err != nil || strings.Replace(fmt.Sprint(got.Val()), "true", "1", 1) != fmt.Sprint(first.Val()) {
			t.Errorf("%s: request lost: %v, %v, want %v", c.line, got.Val(), err, first.Val())
		}

		before()
		f.reply(word(c.line), 1, redistest.CutBefore)
		if err := rdb.Process(retry.Idempotent(ctx), do(c.line)); err != nil {
			t.Errorf("%s, marked as idempotent: %v", c.line, err)
		}
	}
}

func TestSetBitAndGetExOfAPassedTimeAreSentOnce(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	rdb, _ := attach(t, bare(s, f.proxy.Addr()), quick())
	ctx := within(t, 20*time.Second)
	for _, c := range []struct{ before, line string }{
		{"", "SETBIT k 1 1"},
		{"SET k v", "GETEX k EXAT 1"},
		{"SET k v", "GETEX k PX 1"},
	} {
		run(t, s.Admin(), c.before)
		f.reply(word(c.line), 1, redistest.CutBefore)
		if err := rdb.Process(ctx, do(c.line)); !errors.Is(err, retry.ErrUnknownOutcome) || retry.Applied(err) || f.sent() != 1 {
			t.Errorf("%s: %v, sent %d times", c.line, err, f.sent())
		}
	}
}

// Of several members the first execution may have removed some, and somebody may
// have put one back.
func TestACountOfSomeOfTheMembersProvesNothing(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	p := quick()
	p.OnRetry = func(retry.Attempt) { s.Admin().SAdd(context.Background(), "s", "a") }
	rdb, _ := attach(t, bare(s, f.proxy.Addr()), p)
	ctx := within(t, 10*time.Second)
	s.Admin().SAdd(ctx, "s", "a", "b")
	f.reply("srem", 1, redistest.CutBefore)
	if n, err := rdb.SRem(ctx, "s", "a", "b", "b").Result(); !retry.Applied(err) {
		t.Errorf("removed %d, %v", n, err)
	}
}

func TestWhoIgnoresCountsGetsThoseOfTheRepetition(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	p := quick()
	p.IgnoreCounts = true
	rdb, h := attach(t, bare(s, f.proxy.Addr()), p)
	ctx := within(t, 10*time.Second)
	s.Admin().ZAdd(ctx, "z", redis.Z{Member: "m"})
	f.reply("zrem", 1, redistest.CutBefore)
	if n, err := rdb.ZRem(ctx, "z", "m").Result(); n != 0 || err != nil || h.Stats().UnknownOutcomes != 0 {
		t.Errorf("%d, %v", n, err)
	}
}

func TestInPipelinesAndTransactionsToo(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	rdb, h := attach(t, bare(s, f.proxy.Addr()), quick())
	ctx := within(t, 20*time.Second)
	for name, run := range map[string]func(func(redis.Pipeliner) error) ([]redis.Cmder, error){
		"pipeline":    func(fn func(redis.Pipeliner) error) ([]redis.Cmder, error) { return rdb.Pipelined(ctx, fn) },
		"transaction": func(fn func(redis.Pipeliner) error) ([]redis.Cmder, error) { return rdb.TxPipelined(ctx, fn) },
	} {
		s.Admin().FlushAll(ctx)
		s.Admin().SAdd(ctx, "s", "a")
		s.Admin().Set(ctx, "there", "v", 0)
		f.reply("srem", 1, redistest.CutBefore)
		before := h.Stats().UnknownOutcomes
		cmds, err := run(func(p redis.Pipeliner) error {
			p.Set(ctx, "k", "v", 0)
			p.SRem(ctx, "s", "a")
			p.SetXX(ctx, "there", "v", 0)
			p.SetXX(ctx, "absent", "v", 0)
			return nil
		})
		if !retry.Applied(err) || cmds[0].Err() != nil || !retry.Applied(cmds[1].Err()) || cmds[2].Err() != nil ||
			!retry.Applied(cmds[3].Err()) || f.sent() != 2 || h.Stats().UnknownOutcomes != before+2 {
			t.Errorf("%s: %v: %v, sent %d times", name, err, cmds, f.sent())
		}
	}
}

// DEL of nothing, then SET: done again, DEL finds what SET has made, and says 1.
func TestAReplyProvesNothingWhereItsPipelineWritesTheSameKey(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	rdb, _ := attach(t, bare(s, f.proxy.Addr()), quick())
	ctx := within(t, 20*time.Second)
	for _, lines := range []string{"DEL k;SET k v", "SADD k a;SREM k a", "SREM k a;SADD k a", "HDEL k f;HSET k f v"} {
		s.Admin().FlushAll(ctx)
		f.reply(word(lines), 1, redistest.CutBefore)
		cmds, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for line := range strings.SplitSeq(lines, ";") {
				_ = p.Process(ctx, do(line))
			}
			return nil
		})
		if f.sent() != 2 || !retry.Applied(err) || !retry.Applied(cmds[0].Err()) {
			t.Errorf("%s: sent %d times, %v, %v", lines, f.sent(), err, cmds)
		}
	}
	for _, lines := range []string{"SETRANGE k 0 abc;DEL k", "EXPIRE k 100;SET k v"} {
		s.Admin().Set(ctx, "k", "xxxxxxxx", 0)
		f.reply(word(lines), 1, redistest.CutBefore)
		_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for line := range strings.SplitSeq(lines, ";") {
				_ = p.Process(ctx, do(line))
			}
			return nil
		})
		if f.sent() != 1 || !errors.Is(err, retry.ErrUnknownOutcome) || retry.Applied(err) {
			t.Errorf("%s: sent %d times, %v", lines, f.sent(), err)
		}
	}
}
