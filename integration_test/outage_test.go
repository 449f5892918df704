package integration_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// watching is a user's hook: it sees each attempt.
type watching struct {
	attempts atomic.Int64
	seen     func(cmd redis.Cmder, err error)
}

func (w *watching) DialHook(next redis.DialHook) redis.DialHook { return next }
func (w *watching) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		switch cmd.Name() {
		case "hello", "client", "ping": // handshakes pass the hooks; a visit is a ping to those of the client inside
			return next(ctx, cmd)
		}
		w.attempts.Add(1)
		err := next(ctx, cmd)
		// One that was found dead before anything was written to it was not used.
		if n, ok := ctx.Value(perCall{}).(*atomic.Int64); ok && (err == nil || retry.OutcomeOf(err) != retry.NotSent) {
			n.Add(1)
		}
		if w.seen != nil {
			w.seen(cmd, err)
		}
		return err
	}
}
func (w *watching) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// perCall counts how often one call was sent.
type perCall struct{}

func counted(ctx context.Context) (context.Context, *atomic.Int64) {
	n := new(atomic.Int64)
	return context.WithValue(ctx, perCall{}, n), n
}

func TestAPoolTimeoutIsWaitedForOnce(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize, opt.PipelinePoolSize, opt.PoolTimeout = 1, -1, 300*time.Millisecond
	rdb := guarded(t, opt)
	ctx := upTo(t, 20*time.Second)
	lease, err := rdb.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	for name, call := range map[string]func() error{
		"GET":  func() error { return rdb.Get(ctx, "k").Err() },
		"INCR": func() error { return rdb.Incr(ctx, "k").Err() },
		"pipeline": func() error {
			_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); return nil })
			return err
		},
		"Acquire": func() error { _, err := rdb.Acquire(ctx); return err },
	} {
		start := time.Now()
		err := call()
		took := time.Since(start)
		if !errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, retry.ErrUnknownOutcome) || retry.OutcomeOf(err) != retry.NotSent {
			t.Errorf("%s: %v", name, err)
		}
		if took < 290*time.Millisecond || redistest.Took(start) > 1100*time.Millisecond {
			t.Errorf("%s with a PoolTimeout of 300 ms failed after %v", name, took)
		}
		t.Logf("%s: failed after %v", name, took)
	}
	if n := rdb.RetryStats().Retries; n != 0 {
		t.Errorf("%d retries", n)
	}
}

func TestAWaitThatDoesNotFitIntoTheDeadlineIsNotBegun(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr())
	p := retry.Default()
	p.Backoff = func(int) time.Duration { return time.Hour }
	rdb := guarded(t, behind(s, proxy), managed.WithRetry(p))
	if err := rdb.Ping(upTo(t, 5*time.Second)).Err(); err != nil {
		t.Fatal(err)
	}
	proxy.OnReply(func(int, []byte) redistest.Action { return redistest.CutBefore })
	start := time.Now()
	err := rdb.Get(upTo(t, 20*time.Second), "k").Err()
	if took := time.Since(start); err == nil || took > 5*time.Second || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after %v: %v", took, err)
	}
}

// The server is down for 2 s: shorter than the breaker's 5. Nobody gets an error,
// and nothing is used up: neither attempts nor budget.
func TestAShortOutageIsWaitedForAtTheGate(t *testing.T) {
	s := redistest.Start(t)
	p := retry.Default()
	p.MaxAttempts, p.Budget = 2, retry.NewBudget(0, 0)
	rdb := guarded(t, s.Options(), managed.WithRetry(p))
	if err := rdb.Ping(upTo(t, 5*time.Second)).Err(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	var wg sync.WaitGroup
	var failed few
	for g := range callers {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			key := fmt.Sprint("k", g)
			switch g % 4 {
			case 0:
				failed.add(rdb.Set(ctx, key, 1, 0).Err())
			case 1:
				failed.add(rdb.Incr(ctx, key).Err()) // not sent, so it may be tried again
			case 2:
				_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, key); p.Get(ctx, key); return nil })
				failed.add(err)
			case 3:
				_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, key); return nil })
				failed.add(err)
			}
		})
	}
	time.Sleep(2 * time.Second)
	s.Restart()
	back := time.Now()
	wg.Wait()
	failed.none(t, "calls during an outage of 2 s", callers)
	st := rdb.RetryStats()
	if st.BreakerOpened != 0 || st.BudgetRefusals != 0 {
		t.Errorf("%+v", st)
	}
	t.Logf("all %d done %v after the server's return; %+v", callers, time.Since(back), st)
}

// With no deadline at all the breaker is the limit; then every call fails at once
// with the cause, and one call at a time looks whether the server is back.
func TestTheBreakerOpensAfterItsTimeAndClosesByOneProbe(t *testing.T) {
	s := redistest.Start(t)
	journal := &journal{}
	p := retry.Default()
	p.Breaker = retry.BreakerPolicy{After: time.Second, Probe: 200 * time.Millisecond}
	rdb := guarded(t, s.Options(), managed.WithRetry(p), journal.option())
	watch := &watching{}
	rdb.Client.AddHook(watch) // inside of ours: it sees attempts
	if err := rdb.Ping(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	start := time.Now()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			err := rdb.Get(context.Background(), "k").Err()
			var open *retry.BreakerOpenError
			if took := time.Since(start); !errors.Is(err, retry.ErrBreakerOpen) || !errors.As(err, &open) || took < 900*time.Millisecond || took > 5*time.Second {
				t.Errorf("after %v: %v", took, err)
			} else if open.Since.Before(start) || open.Cause == nil {
				t.Errorf("%+v", open)
			}
		})
	}
	wg.Wait()
	opened := time.Since(start)
	before := watch.attempts.Load()
	refused := 0
	var slowest time.Duration
	for until := time.Now().Add(time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		at := time.Now()
		if err := rdb.Get(context.Background(), "k").Err(); !errors.Is(err, retry.ErrBreakerOpen) {
			t.Fatalf("while open: %v", err)
		}
		slowest = max(slowest, time.Since(at))
		refused++
	}
	probes := watch.attempts.Load() - before
	if probes > 8 {
		t.Errorf("%d probes in 1 s, one each 200 ms was said", probes)
	}
	s.Restart()
	back := time.Now()
	redistest.Eventually(t, "a call succeeds", 10*time.Second, func() bool { return rdb.Incr(context.Background(), "k").Err() == nil })
	took := time.Since(back)
	st := rdb.RetryStats()
	if st.BreakerClosed != 1 || st.BreakerOpened < 1 {
		t.Errorf("%+v", st)
	}
	if journal.count("unreachable: ") != 1 || journal.count("reachable again after") != 1 {
		t.Errorf("the log says:\n%s", journal.text())
	}
	t.Logf("16 calls without a deadline ended by %v; while open %d refused, the slowest after %v, %d probes in 1 s; closed %v after the return", opened, refused, slowest, probes, took)
}

// All connections of the pool are dead. A call gets one of them, and not its
// siblings: it is sent twice at most. With a ReadTimeout below the second that it
// takes to detect half-open ones, it may get more of them.
func TestTheRetryNeverLandsOnASiblingOfTheDeadConnection(t *testing.T) {
	const conns = 12
	for name, c := range map[string]struct {
		limit time.Duration // ReadTimeout
		most  int64         // times that one call is sent
		fault func(*redistest.Server, *redistest.Proxy)
	}{
		"killed by the server": {0, 2, func(s *redistest.Server, _ *redistest.Proxy) { s.KillClients(t) }},
		"reset":                {0, 2, func(_ *redistest.Server, p *redistest.Proxy) { p.CutAll() }},
		"half-open":            {0, 2, func(_ *redistest.Server, p *redistest.Proxy) { p.StallExisting() }},
		"half-open, with a ReadTimeout of 300 ms": {300 * time.Millisecond, 8, func(_ *redistest.Server, p *redistest.Proxy) { p.StallExisting() }},
		"half-open, with a ReadTimeout of 1 s":    {time.Second, 8, func(_ *redistest.Server, p *redistest.Proxy) { p.StallExisting() }},
	} {
		for _, at := range []int{1, conns} {
			t.Run(fmt.Sprintf("%s, %d at once", name, at), func(t *testing.T) {
				s := redistest.Start(t)
				proxy := redistest.NewProxy(t, s.Addr())
				opt := behind(s, proxy)
				opt.PoolSize, opt.ReadTimeout = conns, c.limit
				rdb := guarded(t, opt)
				rdb.Client.AddHook(&watching{})
				ctx := upTo(t, 60*time.Second)
				fill(t, rdb, conns)
				c.fault(s, proxy)
				var most, failed atomic.Int64
				var wg sync.WaitGroup
				start := time.Now()
				for range at {
					wg.Go(func() {
						for range conns / at {
							ctx, n := counted(ctx)
							if err := rdb.Get(ctx, "k").Err(); err != nil && err != redis.Nil {
								failed.Add(1)
								t.Errorf("GET: %v", err)
							}
							for old := most.Load(); n.Load() > old && !most.CompareAndSwap(old, n.Load()); old = most.Load() {
							}
						}
					})
				}
				wg.Wait()
				took := time.Since(start)
				if most.Load() > c.most {
					t.Errorf("a call was sent %d times", most.Load())
				}
				t.Logf("%d calls on %d dead connections: %v in all, a call was sent %d times at most", conns, conns, took, most.Load())
			})
		}
	}
}

// fill opens n connections and leaves them idle.
func fill(t *testing.T, rdb *managed.Client, n int) {
	t.Helper()
	ctx := upTo(t, 20*time.Second)
	var leases []*managed.Conn
	for range n {
		l, err := rdb.Acquire(ctx)
		if err != nil {
			t.Fatal(err)
		}
		leases = append(leases, l)
	}
	for _, l := range leases {
		l.Release()
	}
}
