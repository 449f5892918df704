package retry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/retry"
)

func TestAnIncrWithALostReplyCountsOnceAndSaysSo(t *testing.T) {
	s := redistest.Start(t)
	for _, loss := range []redistest.Action{redistest.CutBefore, redistest.HalfThenCut, redistest.Drop} {
		t.Run(loss.String(), func(t *testing.T) {
			f := newFaults(t, s.Addr())
			rdb, h := attach(t, bare(s, f.proxy.Addr()), quick())
			ctx := within(t, 5*time.Second)
			key := redistest.UniqueKey(t, "secret")
			f.reply("incr", 1, loss)
			err := rdb.Incr(ctx, key).Err()
			if !errors.Is(err, retry.ErrUnknownOutcome) || retry.OutcomeOf(err) != retry.Unknown {
				t.Fatalf("error is %v", err)
			}
			var u *retry.UnknownOutcomeError
			if !errors.As(err, &u) || u.Command != "incr" || u.Attempts != 1 || u.Cause == nil {
				t.Errorf("details: %+v", u)
			}
			if strings.Contains(err.Error(), key) {
				t.Errorf("the key is in %q", err)
			}
			if n := f.sent(); n != 1 {
				t.Errorf("sent %d times", n)
			}
			if v := s.Admin().Get(ctx, key).Val(); v != "1" {
				t.Errorf("counter is %q", v)
			}
			if st := h.Stats(); st.UnknownOutcomes != 1 || st.Retries != 0 || st.Calls != 1 {
				t.Errorf("stats: %+v", st)
			}
		})
	}
}

func TestWithoutTheHookGoRedisCountsTwice(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	opt := bare(s, f.proxy.Addr())
	opt.MaxRetries = 3
	rdb := redis.NewClient(opt)
	defer rdb.Close()
	f.reply("incr", 2, redistest.CutBefore)
	n, err := rdb.Incr(within(t, 5*time.Second), "k").Result()
	if err != nil || n != 3 {
		t.Errorf("INCR gave %d, %v: go-redis no longer repeats an INCR whose reply is lost", n, err)
	}
	if _, err := retry.Attach(rdb, quick()); err == nil || !strings.Contains(err.Error(), "MaxRetries of the client is 3") {
		t.Errorf("Attach: %v", err)
	}
}

func TestReadsAndIdempotentWritesAreRepeatedUntilTheyWork(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	var told []retry.Attempt
	p := quick()
	p.OnRetry = func(a retry.Attempt) { told = append(told, a); panic("a bad callback") }
	rdb, h := attach(t, bare(s, f.proxy.Addr()), p)
	ctx := within(t, 10*time.Second)
	f.reply("set", 2, redistest.CutBefore)
	if err := rdb.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	f.reply("get", 3, redistest.CutBefore)
	if v, err := rdb.Get(ctx, "k").Result(); err != nil || v != "v" {
		t.Fatalf("%q, %v", v, err)
	}
	f.reply("get", 1, redistest.CutBefore)
	if err := rdb.Get(ctx, "absent").Err(); err != redis.Nil {
		t.Errorf("absent: %v", err)
	}
	if st := h.Stats(); st.Retries != 6 || st.RetriesByReason[retry.ReasonLost] != 6 || st.Attempts() != 9 || st.UnknownOutcomes != 0 {
		t.Errorf("stats: %+v", st)
	}
	if len(told) != 6 || told[0].Command != "set" || told[0].Number != 1 || told[1].Number != 2 || told[0].Reason != retry.ReasonLost ||
		told[0].Outcome != retry.Unknown || told[0].Safety != retry.IdempotentWrite || told[2].Safety != retry.ReadOnly || told[0].Err == nil {
		t.Errorf("told: %+v", told)
	}
}

func TestAfterTheLastAttemptAReadHasItsErrorAndAWriteAnUnknownOutcome(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	rdb, _ := attach(t, bare(s, f.proxy.Addr()), quick())
	ctx := within(t, 10*time.Second)
	f.reply("get", 99, redistest.CutBefore)
	if err := rdb.Get(ctx, "k").Err(); err != io.EOF || f.sent() != retry.DefaultMaxAttempts {
		t.Errorf("read: %v after %d", err, f.sent())
	}
	f.reply("set", 99, redistest.CutBefore)
	err := rdb.Set(ctx, "k", "v", 0).Err()
	var u *retry.UnknownOutcomeError
	if !errors.As(err, &u) || u.Attempts != retry.DefaultMaxAttempts || !errors.Is(err, io.EOF) {
		t.Errorf("write: %v", err)
	}
}

func TestAWriteThatMayHaveHappenedSaysSoWhateverCameLater(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	rdb, _ := attach(t, bare(s, f.proxy.Addr()), quick())
	rdb.Ping(within(t, time.Second))
	p := f.proxy
	f.reply("set", 1, redistest.CutBefore)
	p.RefuseNew(true) // the second attempt cannot be sent at all
	err := rdb.Set(within(t, 300*time.Millisecond), "k", "v", 0).Err()
	if !errors.Is(err, retry.ErrUnknownOutcome) {
		t.Errorf("%v", err)
	}
	p.RefuseNew(false)
	// The same with an answer: an id that was taken by the first attempt.
	f.reply("xadd", 1, redistest.CutBefore)
	err = rdb.XAdd(within(t, time.Second), &redis.XAddArgs{Stream: "s", ID: "5-1", Values: []string{"f", "v"}}).Err()
	if !errors.Is(err, retry.ErrUnknownOutcome) || s.Admin().XLen(context.Background(), "s").Val() != 1 {
		t.Errorf("xadd: %v", err)
	}
}

func TestNoRepeatWritesRepeatsReadsAndWhatWasNotSent(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	p := quick()
	p.NoRepeatWrites = true
	rdb, _ := attach(t, bare(s, f.proxy.Addr()), p)
	ctx := within(t, 5*time.Second)
	f.reply("get", 1, redistest.CutBefore)
	if err := rdb.Get(ctx, "k").Err(); err != redis.Nil {
		t.Errorf("get: %v", err)
	}
	f.reply("set", 1, redistest.CutBefore)
	if err := rdb.Set(ctx, "k", "v", 0).Err(); !errors.Is(err, retry.ErrUnknownOutcome) || f.sent() != 1 {
		t.Errorf("set: %v, sent %d", err, f.sent())
	}
}

func TestMarksOnTheContextDecideForOneCall(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	rdb, _ := attach(t, bare(s, f.proxy.Addr()), quick())
	ctx := within(t, 10*time.Second)
	f.reply("incr", 1, redistest.CutBefore)
	if n, err := rdb.Incr(retry.Idempotent(ctx), "a").Result(); err != nil || n != 2 {
		t.Errorf("Idempotent: %d, %v", n, err)
	}
	f.reply("get", 1, redistest.CutBefore)
	if err := rdb.Get(retry.Never(ctx), "a").Err(); err != io.EOF {
		t.Errorf("Never: %v", err)
	}
	f.reply("get", 1, redistest.CutBefore)
	if err := rdb.Get(retry.Bound(ctx), "a").Err(); err != io.EOF {
		t.Errorf("Bound: %v", err)
	}
	f.reply("get", 1, redistest.CutBefore)
	if err := rdb.Get(retry.Never(retry.Idempotent(ctx)), "a").Err(); err != io.EOF {
		t.Errorf("Never wins: %v", err)
	}
	f.reply("multi", 1, redistest.CutBefore)
	if err := rdb.Do(retry.Idempotent(ctx), "MULTI").Err(); !errors.Is(err, retry.ErrUnknownOutcome) || f.sent() != 1 {
		t.Errorf("MULTI: %v", err)
	}
}

func TestAnUnreachableServerIsWaitedForWithoutUsingAttempts(t *testing.T) {
	s := redistest.Start(t)
	p := quick()
	p.MaxAttempts = 2
	rdb, h := attach(t, bare(s, s.Addr()), p)
	ctx := within(t, 10*time.Second)
	if err := rdb.Set(ctx, "before", 1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	var wg sync.WaitGroup
	var failed atomic.Int32
	const callers = 16
	for range callers {
		wg.Go(func() {
			if err := rdb.Incr(ctx, "n").Err(); err != nil && !errors.Is(err, retry.ErrUnknownOutcome) {
				t.Errorf("%v", err)
				failed.Add(1)
			} else if err != nil {
				failed.Add(1)
			}
		})
	}
	redistest.Eventually(t, "callers wait", 5*time.Second, func() bool { return h.Stats().RetriesByReason[retry.ReasonDial] > 3*callers })
	s.Restart()
	wg.Wait()
	n, _ := s.Admin().Get(ctx, "n").Int()
	if n != callers-int(failed.Load()) {
		t.Errorf("%d calls, %d failed, counter %d", callers, failed.Load(), n)
	}
}

func TestAWaitThatDoesNotFitIsNotBegun(t *testing.T) {
	s := redistest.Start(t)
	p := quick()
	p.Backoff = func(int) time.Duration { return time.Hour }
	rdb, _ := attach(t, bare(s, s.Addr()), p)
	s.Kill()
	start := time.Now()
	err := rdb.Get(within(t, 30*time.Second), "k").Err()
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "dial" || retry.OutcomeOf(err) != retry.NotSent {
		t.Errorf("%v", err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestTheDeadlineEndsTheWaitForAServerThatStaysUnreachable(t *testing.T) {
	s := redistest.Start(t)
	rdb, _ := attach(t, bare(s, s.Addr()), quick())
	s.Kill()
	start := time.Now()
	err := rdb.Incr(within(t, 300*time.Millisecond), "k").Err()
	if retry.OutcomeOf(err) != retry.NotSent || errors.Is(err, retry.ErrUnknownOutcome) {
		t.Errorf("%v", err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := quick()
	p.Backoff = func(int) time.Duration { return time.Minute }
	p.OnRetry = func(retry.Attempt) { cancel() }
	rdb, _ = attach(t, bare(s, s.Addr()), p)
	err = rdb.Incr(ctx, "k").Err()
	var op *net.OpError
	if !errors.Is(err, context.Canceled) || !errors.As(err, &op) || errors.Is(err, retry.ErrUnknownOutcome) {
		t.Errorf("cancelled: %v", err)
	}
	if err := rdb.Incr(ctx, "k").Err(); err != context.Canceled {
		t.Errorf("begun with a ctx that has ended: %v", err)
	}
}

func TestThePoolIsWaitedForOnce(t *testing.T) {
	s := redistest.Start(t)
	opt := bare(s, s.Addr())
	opt.PoolSize, opt.PoolTimeout = 1, 200*time.Millisecond
	rdb, h := attach(t, opt, quick())
	conn := rdb.Conn()
	defer conn.Close()
	ctx := within(t, 5*time.Second)
	if err := conn.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	err := rdb.Get(ctx, "k").Err()
	if !errors.Is(err, redis.ErrPoolTimeout) || retry.OutcomeOf(err) != retry.NotSent {
		t.Errorf("%v", err)
	}
	if d := redistest.Took(start); d > 390*time.Millisecond {
		t.Errorf("took %v, PoolTimeout is 200ms", d)
	}
	if n := h.Stats().Retries; n != 0 {
		t.Errorf("%d retries", n)
	}
}

func TestWhatTheServerRefusesForNowIsAskedAgainEvenIfUnsafe(t *testing.T) {
	ctx := within(t, 20*time.Second)
	t.Run("READONLY", func(t *testing.T) {
		s := redistest.Start(t)
		p := quick()
		var once sync.Once
		p.OnRetry = func(a retry.Attempt) {
			if a.Reason != retry.ReasonReadOnly || a.Outcome != retry.Answered {
				t.Errorf("%+v", a)
			}
			once.Do(func() { s.Admin().Do(ctx, "replicaof", "no", "one") })
		}
		rdb, _ := attach(t, bare(s, s.Addr()), p)
		if err := s.Admin().Do(ctx, "replicaof", "127.0.0.1", "1").Err(); err != nil {
			t.Fatal(err)
		}
		if n, err := rdb.Incr(ctx, "k").Result(); err != nil || n != 1 {
			t.Errorf("%d, %v", n, err)
		}
		s.Admin().Do(ctx, "replicaof", "127.0.0.1", "1")
		once = sync.Once{}
		// A script that writes is refused before it runs; one that returns the same
		// code by itself has run, and so has its write.
		if n, err := rdb.Eval(ctx, "return redis.call('incr', KEYS[1])", []string{"k"}).Int(); err == nil || n != 0 {
			t.Logf("script: %d, %v", n, err)
		}
		s.Admin().Do(ctx, "replicaof", "no", "one")
		s.Admin().Del(ctx, "k")
		err := rdb.Eval(ctx, "redis.call('incr', KEYS[1]) return redis.error_reply('LOADING by myself')", []string{"k"}).Err()
		if v := s.Admin().Get(ctx, "k").Val(); v != "1" || err == nil {
			t.Errorf("the script has run %s times, %v", v, err)
		}
	})
	t.Run("LOADING", func(t *testing.T) {
		s := redistest.Start(t, "--enable-debug-command", "yes")
		p := quick()
		p.MaxAttempts = 2 // it does not count
		rdb, h := attach(t, bare(s, s.Addr()), p)
		pipe := s.Admin().Pipeline()
		for i := range 4000 {
			pipe.Set(ctx, fmt.Sprint("filler:", i), strings.Repeat("x", 500), 0)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		s.Admin().ConfigSet(ctx, "key-load-delay", "200") // µs per key
		s.Admin().ConfigSet(ctx, "loading-process-events-interval-bytes", "1024")
		if err := rdb.Ping(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		reloaded := make(chan error, 1)
		go func() { reloaded <- s.Admin().Do(ctx, "debug", "reload").Err() }()
		for {
			n, err := rdb.Incr(ctx, "k").Result()
			if err != nil {
				t.Fatal(err)
			}
			if h.Stats().RetriesByReason[retry.ReasonLoading] > 0 {
				if v := s.Admin().Get(ctx, "k").Val(); v != fmt.Sprint(n) {
					t.Errorf("INCR said %d, the server %s", n, v)
				}
				break
			}
			if ctx.Err() != nil {
				t.Fatal("never LOADING")
			}
		}
		<-reloaded
	})
	t.Run("max number of clients", func(t *testing.T) {
		s := redistest.Start(t, "--maxclients", "12")
		var open []net.Conn
		for {
			c, err := net.Dial("tcp", s.Addr())
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, c)
			if s.NumClients(t) >= 11 {
				break
			}
			if len(open) > 30 {
				t.Fatal("cannot fill the server")
			}
		}
		for range 2 {
			c, _ := net.Dial("tcp", s.Addr())
			open = append(open, c)
		}
		p := quick()
		p.Backoff = func(int) time.Duration { return 100 * time.Millisecond }
		p.OnRetry = func(a retry.Attempt) {
			for _, c := range open {
				c.Close()
			}
		}
		rdb, h := attach(t, bare(s, s.Addr()), p)
		if n, err := rdb.Incr(ctx, "k").Result(); err != nil || n != 1 {
			t.Errorf("%d, %v", n, err)
		}
		t.Logf("%+v", h.Stats())
	})
}

func TestAFailedHandshakeIsNoUnknownOutcome(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	ctx := within(t, 5*time.Second)
	for _, word := range []string{"hello", "setinfo", "maint_notifications", "select"} {
		opt := bare(s, f.proxy.Addr())
		opt.MaintNotificationsConfig = nil // the default sends CLIENT MAINT_NOTIFICATIONS
		if word == "select" {
			opt.DB = 3
		}
		rdb, h := attach(t, opt, quick())
		f.reply(word, 1, redistest.CutBefore)
		key := redistest.UniqueKey(t, word)
		if n, err := rdb.Incr(ctx, key).Result(); err != nil || n != 1 {
			t.Errorf("%s: %d, %v", word, n, err)
		}
		if st := h.Stats(); f.sent() != 2 || st.Calls != 1 || st.UnknownOutcomes != 0 || st.RetriesByReason[retry.ReasonDial] != 1 {
			t.Errorf("%s: sent %d, %+v", word, f.sent(), st)
		}
	}
}

func TestSequencesOnOneConnectionAreNotRepeated(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	rdb, _ := attach(t, bare(s, f.proxy.Addr()), quick())
	ctx := within(t, 10*time.Second)

	conn := rdb.Conn()
	conn.Select(ctx, 3)
	f.reply("incr", 1, redistest.CutBefore)
	if err := conn.Incr(ctx, "n").Err(); !errors.Is(err, retry.ErrUnknownOutcome) || f.sent() != 1 {
		t.Errorf("INCR on a Conn: %v, sent %d", err, f.sent())
	}
	err := conn.Incr(ctx, "n").Err()
	if !strings.HasPrefix(err.Error(), retry.TextBadConn) || errors.Is(err, retry.ErrUnknownOutcome) || retry.OutcomeOf(err) != retry.NotSent {
		t.Errorf("after that: %v", err)
	}
	conn.Close()

	conn = rdb.Conn()
	conn.Select(ctx, 3)
	f.reply("get", 1, redistest.CutBefore)
	if err := conn.Get(ctx, "n").Err(); err != io.EOF || f.sent() != 1 {
		t.Errorf("GET on a Conn: %v, sent %d", err, f.sent())
	}
	conn.Close()

	for _, unsafe := range []bool{true, false} {
		runs := 0
		f.reply("exec", 1, redistest.CutBefore)
		err := rdb.Watch(ctx, func(tx *redis.Tx) error {
			runs++
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
				if unsafe {
					p.Incr(ctx, "w")
				} else {
					p.Set(ctx, "w", 1, 0)
				}
				return nil
			})
			return err
		}, "w")
		if !errors.Is(err, retry.ErrUnknownOutcome) || f.sent() != 1 || runs != 1 || s.Admin().Get(ctx, "w").Val() != "1" {
			t.Errorf("WATCH: %v, sent %d, w is %q", err, f.sent(), s.Admin().Get(ctx, "w").Val())
		}
	}
	f.reply("watch", 1, redistest.CutBefore)
	if err := rdb.Watch(ctx, func(*redis.Tx) error { t.Error("run without WATCH"); return nil }, "w"); err == nil || f.sent() != 1 {
		t.Errorf("a lost WATCH: %v, sent %d", err, f.sent())
	}
}

func TestWhatMustNotBeRepeatedByItsKindIsNot(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	rdb, _ := attach(t, bare(s, f.proxy.Addr()), quick())
	ctx := within(t, 5*time.Second)
	s.Admin().Set(ctx, "k", "value", 0)
	var out bytes.Buffer
	f.reply("get", 1, redistest.HalfThenCut)
	cmd := redis.NewRawWriteToCmd(ctx, &out, "get", "k")
	if err := rdb.Process(ctx, cmd); err == nil || f.sent() != 1 {
		t.Errorf("RawWriteTo: %v, sent %d", err, f.sent())
	}
	if err := rdb.Set(ctx, "k", func() {}, 0).Err(); err == nil || errors.Is(err, retry.ErrUnknownOutcome) {
		t.Errorf("an argument that cannot be sent: %v", err)
	}
	if err := rdb.Process(ctx, redis.NewIntCmd(ctx, "hgetall", "nothing")); err == nil || errors.Is(err, retry.ErrUnknownOutcome) {
		t.Errorf("a reply that cannot be parsed: %v", err)
	}
}

func TestABreakerOpensAfterItsTimeAndOneProbeClosesIt(t *testing.T) {
	s := redistest.Start(t)
	p := quick()
	p.Breaker = retry.BreakerPolicy{After: 300 * time.Millisecond, Probe: 100 * time.Millisecond}
	var logged bytes.Buffer
	rdb, h := attach(t, bare(s, s.Addr()), p, retry.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))), retry.WithNode("it"))
	ctx := within(t, 20*time.Second)
	if err := rdb.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	start := time.Now()
	err := rdb.Incr(ctx, "k").Err()
	if !errors.Is(err, retry.ErrBreakerOpen) && !errors.Is(err, retry.ErrUnknownOutcome) {
		t.Fatalf("%v", err)
	}
	err = rdb.Incr(ctx, "k").Err()
	var open *retry.BreakerOpenError
	if !errors.As(err, &open) || open.Since.Before(start) || open.Cause == nil || open.Node != "it" || retry.OutcomeOf(err) != retry.NotSent {
		t.Fatalf("%v", err)
	}
	var op *net.OpError
	if !errors.As(err, &op) {
		t.Errorf("the cause is not in %v", err)
	}
	if d := time.Since(start); d < 300*time.Millisecond || d > 5*time.Second {
		t.Errorf("opened after %v", d)
	}
	if _, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); p.Get(ctx, "l"); return nil }); !errors.Is(err, retry.ErrBreakerOpen) {
		t.Logf("pipeline: %v", err) // it may have been the probe
	}
	s.Restart()
	redistest.Eventually(t, "the breaker closes", 5*time.Second, func() bool { return rdb.Ping(ctx).Err() == nil })
	if n, err := rdb.Incr(ctx, "k").Result(); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
	if st := h.Stats(); st.BreakerOpened == 0 || st.BreakerClosed != 1 || st.BreakerRefusals == 0 {
		t.Errorf("%+v", st)
	}
	if !strings.Contains(logged.String(), "breaker opened") {
		t.Errorf("log: %s", logged.String())
	}
}

func TestApplicationErrorsDoNotOpenTheBreaker(t *testing.T) {
	s := redistest.Start(t)
	opt := bare(s, s.Addr())
	opt.PoolSize, opt.PoolTimeout = 1, time.Millisecond
	p := quick()
	p.Breaker = retry.BreakerPolicy{After: time.Nanosecond}
	rdb, h := attach(t, opt, p)
	ctx := within(t, 10*time.Second)
	rdb.LPush(ctx, "list", "x")
	for range 20 {
		rdb.Incr(ctx, "list")
		rdb.Get(ctx, "absent")
	}
	conn := rdb.Conn()
	conn.Ping(ctx)
	for range 5 {
		if err := rdb.Ping(ctx).Err(); !errors.Is(err, redis.ErrPoolTimeout) {
			t.Fatal(err)
		}
	}
	conn.Close()
	if st := h.Stats(); st.BreakerOpened != 0 {
		t.Errorf("%+v", st)
	}
	if err := rdb.Ping(ctx).Err(); err != nil {
		t.Error(err)
	}
}

func TestASpentBudgetReturnsTheFirstError(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	p := quick()
	p.Budget = retry.NewBudget(0, 2)
	rdb, h := attach(t, bare(s, f.proxy.Addr()), p)
	ctx := within(t, 10*time.Second)
	f.reply("get", 1000, redistest.CutBefore)
	for range 3 {
		rdb.Get(ctx, "k")
	}
	st := h.Stats()
	if st.BudgetRefusals == 0 || st.Retries > 3 {
		t.Errorf("%+v", st)
	}
}

func TestEachAttemptHasItsOwnLimit(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr())
	opt := bare(s, proxy.Addr())
	opt.ContextTimeoutEnabled = true
	opt.ReadTimeout = time.Minute
	p := quick()
	p.PerAttempt = 200 * time.Millisecond
	p.OnRetry = func(retry.Attempt) { proxy.Stall(false) }
	rdb, _ := attach(t, opt, p)
	ctx := within(t, 10*time.Second)
	if err := rdb.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	proxy.Stall(true)
	if err := rdb.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Error(err)
	}
}

// A hook below ours that fails first with the given errors.
type failing struct {
	mu   sync.Mutex
	errs []error
}

func (f *failing) DialHook(next redis.DialHook) redis.DialHook { return next }
func (f *failing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (f *failing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		f.mu.Lock()
		if len(f.errs) > 0 {
			err := f.errs[0]
			f.errs = f.errs[1:]
			f.mu.Unlock()
			return err
		}
		f.mu.Unlock()
		return next(ctx, cmd)
	}
}

type typedError struct {
	unsent bool
	error
}

func (e *typedError) Unsent() bool  { return e.unsent }
func (e *typedError) Unwrap() error { return e.error }

type gateError struct{ open chan struct{} }

func (e *gateError) Error() string { return "the node is unreachable" }
func (e *gateError) Wait(ctx context.Context, _ time.Duration) error {
	select {
	case <-e.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestErrorsThatKnowMoreAreAsked(t *testing.T) {
	s := redistest.Start(t)
	ctx := within(t, 10*time.Second)
	gate := &gateError{make(chan struct{})}
	for name, c := range map[string]struct {
		errs []error
		want int64
	}{
		"unsent":            {[]error{fmt.Errorf("x: %w", &typedError{true, io.EOF}), &typedError{true, io.EOF}}, 1},
		"sent":              {[]error{&typedError{false, errors.New("odd")}}, 0},
		"hidden and unsent": {[]error{&opaque{&typedError{true, io.EOF}}}, 1},
		"hidden":            {[]error{&opaque{io.EOF}}, 0},
		"gate":              {[]error{&typedError{true, gate}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := quick()
			p.Backoff = func(int) time.Duration { return time.Millisecond }
			if name == "gate" {
				p.Backoff = func(int) time.Duration { return time.Hour }
				p.OnRetry = func(retry.Attempt) { time.AfterFunc(20*time.Millisecond, func() { close(gate.open) }) }
			}
			rdb, _ := attach(t, bare(s, s.Addr()), p)
			rdb.AddHook(&failing{errs: c.errs})
			key := redistest.UniqueKey(t, "k")
			n, err := rdb.Incr(ctx, key).Result()
			if n != c.want || (err != nil) != (c.want == 0) || err != nil && !errors.Is(err, retry.ErrUnknownOutcome) {
				t.Errorf("%d, %v", n, err)
			}
			var o *opaque
			if errors.As(err, &o) {
				t.Errorf("the hidden error is seen: %v", err)
			}
		})
	}
	t.Run("a gate that stays shut", func(t *testing.T) {
		rdb, _ := attach(t, bare(s, s.Addr()), quick())
		shut := &gateError{make(chan struct{})}
		rdb.AddHook(&failing{errs: []error{shut, shut, shut}})
		start := time.Now()
		err := rdb.Incr(within(t, 100*time.Millisecond), "k").Err()
		if !errors.Is(err, error(shut)) || time.Since(start) > 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestAnInvalidPolicyIsNamedByValidateAttachAndEveryCommand(t *testing.T) {
	p := retry.Policy{PerAttempt: -time.Second}
	want := "PerAttempt is -1s"
	if err := p.Validate(); err == nil || !strings.Contains(err.Error(), want) {
		t.Error(err)
	}
	rdb := redis.NewClient(&redis.Options{MaxRetries: -1})
	defer rdb.Close()
	if _, err := retry.Attach(rdb, p); err == nil || !strings.Contains(err.Error(), want) {
		t.Error(err)
	}
	rdb.AddHook(retry.NewHook(p))
	if err := rdb.Ping(context.Background()).Err(); err == nil || !strings.Contains(err.Error(), want) {
		t.Error(err)
	}
	if err := (retry.Policy{Breaker: retry.BreakerPolicy{Probe: -1}}).Validate(); err == nil || !strings.Contains(err.Error(), "Breaker.Probe") {
		t.Error(err)
	}
	if err := retry.Default().Validate(); err != nil {
		t.Error(err)
	}
}
