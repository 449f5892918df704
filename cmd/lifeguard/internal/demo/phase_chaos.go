package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/retry"
)

// tally counts what happened to the INCRs of one client. Each goroutine has its own counter and
// knows what must be in it, so that every call is accounted for.
type tally struct {
	mu       sync.Mutex
	calls    int // made
	ok       int // reported as done
	executed int // by the server
	twice    int // executed more often than called
	unknown  int // errors that say that the outcome is unknown
	applied  int // of these, had been executed
	other    int // all other errors
	silent   int // of these, had been executed
	missing  int // reported as done and not executed
}

func (t *tally) add(o *tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls += o.calls
	t.ok += o.ok
	t.executed += o.executed
	t.twice += o.twice
	t.unknown += o.unknown
	t.applied += o.applied
	t.other += o.other
	t.silent += o.silent
	t.missing += o.missing
}

// One in lossOneIn requests and replies is lost while each client counts with
// counters goroutines.
const counters, lossOneIn = 8, 40

// showChaos counts with the bare client and with the managed one, at the same time.
func showChaos(ctx context.Context, d *demo, budget time.Duration) error {
	d.sayf("A bare go-redis client and a managed one count, %d goroutines each; one in %d requests and replies is lost.", counters, lossOneIn)
	a, b, err := d.countBoth(ctx, budget*8/10)
	if err != nil || ctx.Err() != nil {
		return err
	}
	d.screen.printf("%s", sideBySide(a, b))
	d.note("INCR with losses: the bare client counted %d of %d calls twice, the managed one %d of %d", a.twice, a.calls, b.twice, b.calls)
	return nil
}

// countBoth counts for a while with both clients through a proxy that loses requests and replies
// together with their connection. If the managed client breaks its promise, that is an error.
func (d *demo) countBoth(ctx context.Context, lasts time.Duration) (a, b *tally, err error) {
	a, b = &tally{}, &tally{}
	bad, err := startProxy(d.server.dial, func() bool { return rand.IntN(lossOneIn) == 0 })
	if err != nil {
		return a, b, err
	}
	defer bad.close()
	bare := redis.NewClient(d.options(bad))
	defer func() { _ = bare.Close() }()
	man, err := d.newClient(bad, func(*redis.Options) {})
	if err != nil {
		return a, b, err
	}
	defer func() { _ = man.Close() }()
	judge := redis.NewClient(&d.server.opt) // straight to the server, to see what it has counted
	defer func() { _ = judge.Close() }()

	end := time.Now().Add(max(lasts, 100*time.Millisecond))
	var wg sync.WaitGroup
	var faults errorOnce
	for i := range counters {
		for name, side := range map[string]struct {
			c redis.Cmdable
			t *tally
		}{"bare": {bare, a}, "managed": {man, b}} {
			wg.Go(func() {
				t, err := count(ctx, side.c, judge, fmt.Sprintf("%scounter:%s:%d", d.prefix, name, i), end)
				faults.set(err)
				side.t.add(t)
			})
		}
	}
	wg.Wait()
	if faults.err != nil || ctx.Err() != nil {
		return a, b, faults.err
	}
	if b.twice > 0 || b.silent > 0 || b.missing > 0 {
		return a, b, fmt.Errorf("the managed client counted %d twice, %d in silence, lost %d", b.twice, b.silent, b.missing)
	}
	return a, b, nil
}

// count increments key until end, and books after each call what the server did.
func count(ctx context.Context, c, judge redis.Cmdable, key string, end time.Time) (t *tally, err error) {
	ctx, stop := context.WithoutCancel(ctx), ctx
	t = &tally{}
	if err := judge.Del(ctx, key).Err(); err != nil { // of an earlier round
		return t, fmt.Errorf("deleting the counter of an earlier round: %w", err)
	}
	last := 0 // what the server has counted so far
	for time.Now().Before(end) && stop.Err() == nil {
		answer, failed := c.Incr(ctx, key).Result()
		now := int(answer)
		if failed != nil {
			if now, err = judge.Get(ctx, key).Int(); err != nil && !errors.Is(err, redis.Nil) {
				return t, fmt.Errorf("asking the server what it has counted: %w", err)
			}
		}
		t.book(now-last, failed)
		last = now
		time.Sleep(rand.N(time.Millisecond))
	}
	return t, judge.Expire(ctx, key, keyTTL).Err()
}

// book records one call that the server has executed n times.
func (t *tally) book(n int, failed error) {
	t.calls++
	t.executed += n
	t.twice += max(n-1, 0)
	done := min(max(n, 0), 1)
	switch {
	case failed == nil:
		t.ok++
		t.missing += 1 - done
	case errors.Is(failed, retry.ErrUnknownOutcome):
		t.unknown++
		t.applied += done
	default:
		t.other++
		t.silent += done
	}
}

func sideBySide(bare, managed *tally) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, f func(*tally) int) {
		fmt.Fprintf(w, "%s\t%d\t%d\t\n", name, f(bare), f(managed))
	}
	fmt.Fprintf(w, "\tbare\tmanaged\t\n")
	row("calls of INCR", func(t *tally) int { return t.calls })
	row("executed by the server", func(t *tally) int { return t.executed })
	row("executed twice", func(t *tally) int { return t.twice })
	row("reported as done", func(t *tally) int { return t.ok })
	row("errors: outcome unknown, and saying so", func(t *tally) int { return t.unknown })
	row("of these, executed", func(t *tally) int { return t.applied })
	row("other errors", func(t *tally) int { return t.other })
	row("of these, executed", func(t *tally) int { return t.silent })
	_ = w.Flush()
	return indent(strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n"))
}

// errorOnce keeps the first error.
type errorOnce struct {
	mu  sync.Mutex
	err error
}

func (e *errorOnce) set(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil {
		e.err = err
	}
}
