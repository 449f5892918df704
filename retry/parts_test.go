package retry_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// replyError is an error reply of a server.
type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}

func TestTheOutcomeOfEachError(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	read := &net.OpError{Op: "read", Err: syscall.ECONNRESET}
	for _, c := range []struct {
		err  error
		want retry.Outcome
	}{
		{nil, retry.Answered},
		{redis.Nil, retry.Answered},
		{redis.TxFailedErr, retry.Answered},
		{replyError("WRONGTYPE x"), retry.Answered},
		{fmt.Errorf("x: %w", replyError("LOADING x")), retry.Answered},
		{dial, retry.NotSent},
		{fmt.Errorf("x: %w", dial), retry.NotSent},
		{redis.ErrPoolTimeout, retry.NotSent},
		{redis.ErrPoolExhausted, retry.NotSent},
		{redis.ErrClosed, retry.NotSent},
		{errors.New(retry.TextBadConn + ": EOF"), retry.NotSent},
		{fmt.Errorf(retry.TextBadConn+": %w", replyError("READONLY x")), retry.NotSent},
		{replyError(retry.TextBadConn), retry.Answered},
		{replyError(retry.TextShardsDown), retry.Answered},
		{&net.OpError{Op: "dial", Err: replyError("READONLY x")}, retry.NotSent},
		{&typedError{true, replyError("READONLY x")}, retry.NotSent},
		{&typedError{true, redis.ErrPoolTimeout}, retry.NotSent},
		{&retry.BreakerOpenError{Cause: io.EOF}, retry.NotSent},
		{&typedError{true, read}, retry.NotSent},
		{&opaque{&typedError{true, read}}, retry.NotSent},
		{&gateError{}, retry.NotSent},
		{&typedError{false, read}, retry.Unknown},
		{&opaque{read}, retry.Unknown},
		{read, retry.Unknown},
		{&net.OpError{Op: "write", Err: syscall.EPIPE}, retry.Unknown},
		{io.EOF, retry.Unknown},
		{io.ErrUnexpectedEOF, retry.Unknown},
		{os.ErrDeadlineExceeded, retry.Unknown},
		{net.ErrClosed, retry.Unknown},
		{context.Canceled, retry.NotSent}, // see contract_context_test.go
		{context.DeadlineExceeded, retry.NotSent},
		{tls.RecordHeaderError{}, retry.Unknown},
		{errors.New("of the caller's own"), retry.NotSent},
		{&retry.UnknownOutcomeError{Command: "incr", Attempts: 1, Cause: dial}, retry.Unknown},
	} {
		if got := retry.OutcomeOf(c.err); got != c.want {
			t.Errorf("%T %v: %v, want %v", c.err, c.err, got, c.want)
		}
	}
}

func TestGoRedisStillHasTheTextsThatAreRecognised(t *testing.T) {
	ctx := within(t, 10*time.Second)
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{}, MaxRetries: -1})
	defer ring.Close()
	if err := ring.Get(ctx, "k").Err(); err == nil || err.Error() != retry.TextShardsDown {
		t.Errorf("ring: %v", err)
	}
	cluster := redis.NewClusterClient(&redis.ClusterOptions{ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) { return nil, nil }})
	defer cluster.Close()
	if err := cluster.Get(ctx, "k").Err(); err == nil || err.Error() != retry.TextNoNodes {
		t.Errorf("cluster: %v", err)
	}
	s := redistest.Start(t)
	rdb := redis.NewClient(s.Options())
	defer rdb.Close()
	cached := redis.NewClient(&redis.Options{Addr: s.Addr(), ClientSideCacheConfig: &redis.ClientSideCacheConfig{MaxEntries: 10}})
	defer cached.Close()
	if err := cached.Do(ctx, "select", 1).Err(); err == nil || !strings.HasSuffix(err.Error(), retry.TextCache) {
		t.Errorf("client-side cache: %v", err)
	}
	if err := rdb.Process(ctx, redis.NewIntCmd(ctx, "hgetall", "nothing")); err == nil || !strings.HasPrefix(err.Error(), retry.TextParse) {
		t.Errorf("parse: %v", err)
	}
}

func TestFullJitterStaysBelowItsLimitAndGrows(t *testing.T) {
	b := retry.FullJitter(10*time.Millisecond, 80*time.Millisecond)
	for i, limit := range []time.Duration{10, 10, 20, 40, 80, 80, 80} {
		var top time.Duration
		for range 2000 {
			d := b(i)
			if d < 0 || d > limit*time.Millisecond {
				t.Fatalf("retry %d waits %v", i, d)
			}
			top = max(top, d)
		}
		if top < limit*time.Millisecond/2 {
			t.Errorf("retry %d waits %v at most", i, top)
		}
	}
	for _, b := range []retry.Backoff{retry.FullJitter(-1, -1), retry.FullJitter(0, time.Hour)} {
		if d := b(1000000); d != 0 {
			t.Errorf("%v", d)
		}
	}
	if d := retry.FullJitter(time.Hour, 1<<63-1)(1 << 30); d < 0 {
		t.Errorf("overflow: %v", d)
	}
	if d := retry.DefaultBackoff(100); d > 512*time.Millisecond {
		t.Errorf("%v", d)
	}
}

// failingHook is a hook in front of something on which every GET fails. It has no
// client, which would start goroutines outside of a synctest bubble.
func failingHook(p retry.Policy, err error) (get func(context.Context) error, h *retry.Hook) {
	h = retry.NewHook(p)
	run := h.ProcessHook(func(context.Context, redis.Cmder) error { return err })
	return func(ctx context.Context) error { return run(ctx, redis.NewStringCmd(ctx, "get", "k")) }, h
}

func TestTheBudgetAllowsAShareOfCallsAndAReservePerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retry.Default()
		p.Backoff = func(int) time.Duration { return 0 }
		p.MaxAttempts = 2
		p.Breaker.After = -1
		get, h := failingHook(p, io.EOF)
		ctx := context.Background()
		for range 1000 {
			get(ctx)
		}
		if n := h.Stats().Retries; n != 200+10 {
			t.Errorf("%d retries in 1000 calls at once, want 210", n)
		}
		time.Sleep(time.Minute) // the reserve does not pile up
		for range 5 {
			get(ctx)
		}
		if n := h.Stats().Retries; n != 215 {
			t.Errorf("%d retries", n)
		}
		time.Sleep(100 * time.Millisecond)
		before := h.Stats().Retries
		for range 100 {
			get(ctx)
		}
		if n := h.Stats().Retries - before; n < 20+5 || n > 20+10+1 {
			t.Errorf("%d retries", n)
		}
	})
}

func TestWaitingWithoutADeadlineEndsByTheBreakerOrAfterUnreachableLimit(t *testing.T) {
	for _, off := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			p := retry.Default()
			if off {
				p.Breaker.After = -1
			}
			get, h := failingHook(p, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED})
			start := time.Now()
			err := get(context.Background())
			d := time.Since(start)
			want := retry.UnreachableLimit
			if !off {
				want = retry.DefaultBreakerAfter
			}
			if d < want || d > want+time.Second {
				t.Errorf("breaker off %v: waited %v, want %v", off, d, want)
			}
			if errors.Is(err, retry.ErrBreakerOpen) == off {
				t.Errorf("breaker off %v: %v", off, err)
			}
			if h.Stats().Retries < 5 || !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%v, %+v", err, h.Stats())
			}
		})
	}
}

func TestABreakerLetsOneProbeThroughAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := retry.Default()
		p.MaxAttempts = 1
		get, h := failingHook(p, io.EOF)
		ctx := context.Background()
		for range 10 { // ten failures in a second do not open it
			get(ctx)
			time.Sleep(100 * time.Millisecond)
		}
		if n := h.Stats().BreakerOpened; n != 0 {
			t.Errorf("opened after a second")
		}
		time.Sleep(5 * time.Second)
		get(ctx)
		if n := h.Stats().BreakerOpened; n != 1 {
			t.Errorf("opened %d times after 6 s", n)
		}
		refused := 0
		for range 100 { // ten seconds: one probe in each
			if errors.Is(get(ctx), retry.ErrBreakerOpen) {
				refused++
			}
			time.Sleep(100 * time.Millisecond)
		}
		if refused < 88 || refused > 93 {
			t.Errorf("%d of 100 refused", refused)
		}
	})
}

func TestErrorsHoldNoArguments(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	var told []string
	p := quick()
	p.OnRetry = func(a retry.Attempt) { told = append(told, fmt.Sprintf("%+v", a)) }
	rdb, _ := attach(t, bare(s, f.proxy.Addr()), p)
	ctx := within(t, 5*time.Second)
	f.reply("acl", 1, redistest.CutBefore)
	told = append(told, fmt.Sprint(rdb.Do(ctx, "acl", "hidden-sub", "hidden-arg").Err()))
	f.reply("foo", 1, redistest.CutBefore)
	told = append(told, fmt.Sprint(rdb.Do(ctx, "foo", "hidden-sub", "hidden-arg").Err()))
	f.reply("set", 1, redistest.CutBefore)
	told = append(told, fmt.Sprint(rdb.Set(ctx, "hidden-key", "hidden-value", 0).Err()))
	if all := strings.Join(told, "\n"); strings.Contains(all, "hidden") || !strings.Contains(all, "acl: outcome unknown") {
		t.Error(all)
	}
}

// tooOld is the error of a connection that was closed instead of being used.
type tooOld struct{ error }

func (tooOld) Unsent() bool  { return true }
func (tooOld) Evicted() bool { return true }

func TestAPoolOfConnectionsThatAreTooOldCostsNoWait(t *testing.T) {
	h := retry.NewHook(retry.Default())
	left := 90
	next := func(context.Context, redis.Cmder) error {
		if left--; left >= 0 {
			return tooOld{errors.New("closed for its age")}
		}
		return nil
	}
	ctx := within(t, 5*time.Second)
	began := time.Now()
	if err := h.Process(ctx, redis.NewStatusCmd(ctx, "set", "k", "v"), next); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("%v for 90 of them", d)
	}
}

func TestConnectionsThatAreTooOldFromTheirFirstMomentAreNotDialedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := retry.NewHook(retry.Default())
		tries := 0
		began := time.Now()
		err := h.Process(t.Context(), redis.NewStatusCmd(t.Context(), "set", "k", "v"), func(context.Context, redis.Cmder) error {
			tries++
			return tooOld{errors.New("closed for its age")}
		})
		if err == nil || time.Since(began) > 2*retry.UnreachableLimit || tries > 1000 {
			t.Errorf("%v after %v and %d attempts", err, time.Since(began), tries)
		}
	})
}
