package retry_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/retry"
)

func TestAPipelineWithFirstIsOneAttemptAndAfterGoesOnWithEachCommand(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	rdb, h := attach(t, bare(s, f.proxy.Addr()), quick())
	ctx := within(t, 10*time.Second)
	rdb.Ping(ctx)
	before := h.Stats()
	f.reply("incr", 1, redistest.CutBefore)
	pipe := rdb.Pipeline()
	get, incr := pipe.Get(ctx, "k"), pipe.Incr(ctx, "n")
	if _, err := pipe.Exec(attempt.With(ctx, attempt.First)); err == nil {
		t.Fatal("the reply was not lost")
	}
	for _, cmd := range []redis.Cmder{get, incr} {
		if err := cmd.Err(); retry.OutcomeOf(err) != retry.Unknown || errors.Is(err, retry.ErrUnknownOutcome) {
			t.Errorf("%s: %v: not the bare error of the attempt", cmd.Name(), err)
		}
	}
	if d := h.Stats(); d.Retries != before.Retries || d.UnknownOutcomes != before.UnknownOutcomes || d.Calls != before.Calls+2 {
		t.Errorf("%+v, before: %+v", d, before)
	}

	if err := rdb.Process(attempt.After(ctx, get.Err()), get); err != redis.Nil {
		t.Errorf("a read is not sent again: %v", err)
	}
	err := rdb.Process(attempt.After(ctx, incr.Err()), incr)
	var unknown *retry.UnknownOutcomeError
	if !errors.As(err, &unknown) || unknown.Attempts != 1 {
		t.Errorf("INCR: %v, %+v", err, unknown)
	}
	if n := s.Admin().Get(ctx, "n").Val(); n != "1" {
		t.Errorf("INCR was carried out %s times", n)
	}
	d := h.Stats()
	if d.Retries != before.Retries+1 || d.UnknownOutcomes != before.UnknownOutcomes+1 || d.Calls != before.Calls+2 {
		t.Errorf("%+v, before: %+v", d, before)
	}
}

func TestAfterAnAnswerOrTheEndOfItsCtxNothingIsSent(t *testing.T) {
	s := redistest.Start(t)
	rdb, h := attach(t, bare(s, s.Addr()), quick())
	ctx := within(t, 10*time.Second)
	rdb.Ping(ctx)
	answer := rdb.Do(ctx, "no-such-command").Err()
	if err := rdb.Process(attempt.After(ctx, answer), redis.NewIntCmd(ctx, "incr", "n")); err != answer {
		t.Errorf("%v, not %v", err, answer)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	lost := &typedError{error: errors.New("lost")}
	if err := rdb.Process(attempt.After(over, lost), redis.NewStringCmd(ctx, "get", "n")); !errors.Is(err, lost) {
		t.Errorf("%v, not %v", err, lost)
	}
	if n := s.Admin().Exists(ctx, "n").Val(); n != 0 {
		t.Error("it was sent")
	}
	if n := h.Stats().Retries; n != 0 {
		t.Errorf("%d retries", n)
	}
}

func TestAbandonedIsUnknownForWritesOnly(t *testing.T) {
	h := retry.NewHook(retry.Default())
	ctx := context.Background()
	if err := attempt.InternalsOf(h).Abandoned(ctx, redis.NewIntCmd(ctx, "incr", "n"), context.Canceled); !errors.Is(err, retry.ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := attempt.InternalsOf(h).Abandoned(ctx, redis.NewStringCmd(ctx, "get", "n"), context.Canceled); err != context.Canceled {
		t.Error(err)
	}
	if n := h.Stats().UnknownOutcomes; n != 1 {
		t.Errorf("%d are counted", n)
	}
}

func TestMarkedKnowsTheMarks(t *testing.T) {
	ctx := context.Background()
	for _, m := range []context.Context{retry.Never(ctx), retry.Bound(ctx), retry.Idempotent(attempt.With(ctx, attempt.First))} {
		if !attempt.Marked(m) {
			t.Error("a mark is not seen")
		}
	}
	if attempt.Marked(ctx) || attempt.Marked(attempt.With(ctx, attempt.First)) {
		t.Error("a mark is seen that is none")
	}
}
