package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// acts is what the demo shows by default: the same mistake or fault, first with bare go-redis, then
// with lifeguard.
var acts = []phase{
	{"A connection is never given back", 3, actLeak},
	{"The pool is exhausted", 3, actExhausted},
	{"Replies get lost while 16 goroutines run INCR", 4, actLostReplies},
}

const (
	actPool = 3
	actWait = 200 * time.Millisecond // PoolTimeout
)

// bare is a plain go-redis client with a small pool.
func (d *demo) bare(p *proxy) *redis.Client {
	opt := d.options(p)
	opt.PoolSize, opt.PoolTimeout = actPool, actWait
	return redis.NewClient(opt)
}

// actLeak leaks every connection of a pool, once in each client.
func actLeak(ctx context.Context, d *demo, _ time.Duration) error {
	d.sayf("A handler takes a connection and returns early, without giving it back. It does so %d times; the pool has %d.", actPool, actPool)
	bare := d.bare(d.proxy)
	defer func() { _ = bare.Close() }()
	for range actPool {
		if err := bare.Conn().Ping(ctx).Err(); err != nil {
			return err
		}
	}
	began := time.Now()
	err := bare.Get(ctx, d.prefix+"k").Err()
	if !errors.Is(err, redis.ErrPoolTimeout) {
		return fmt.Errorf("bare go-redis with a lost pool: got %v, want %w", err, redis.ErrPoolTimeout)
	}
	d.before("From then on every call fails, this one after %v:", round(time.Since(began)))
	d.quote(err.Error())

	watch := newWatcher()
	man, err := d.newClient(d.proxy, func(o *redis.Options) { o.PoolSize, o.PoolTimeout = actPool, actWait }, managed.WithEventHandler(watch.event))
	if err != nil {
		return err
	}
	defer func() { _ = man.Close() }()
	for range actPool {
		if err := leakyHandler(ctx, man, d.prefix+"k"); err != nil {
			return err
		}
	}
	began = time.Now()
	var leak hooks.Event
	for deadline := began.Add(foundWithin); ; {
		runtime.GC() // a real program does so by itself, sooner or later
		var ok bool
		if leak, ok = watch.find(ctx, 50*time.Millisecond, func(e hooks.Event) bool { return e.Kind == hooks.Leaked }); ok {
			break
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("no leak was reported within %v", foundWithin)
		}
	}
	d.after("The leak is found, %v after the garbage collector ran, with the line to fix:", round(time.Since(began)))
	d.quote(fmt.Sprintf("%q never released connection %d, acquired by %s", leak.Label, leak.ConnID, shorten(leak.Site)))
	for range 1000 { // the others may need one more collection
		if err = man.Get(ctx, d.prefix+"k").Err(); err == nil || errors.Is(err, redis.Nil) {
			d.sayf("Its connection is closed, its place in the pool is free, and the next call succeeds.")
			return nil
		}
		runtime.GC()
		if !sleep(ctx, time.Millisecond) {
			return ctx.Err()
		}
	}
	return fmt.Errorf("the pool stays exhausted: %w", err)
}

// leakyHandler makes the mistake.
func leakyHandler(ctx context.Context, c *managed.Client, key string) error {
	conn, err := c.Acquire(managed.WithLabel(ctx, "checkout handler"))
	if err != nil {
		return err
	}
	if err := conn.Get(ctx, key).Err(); !errors.Is(err, redis.Nil) {
		return err
	}
	return nil // the mistake: no Release
}

// actExhausted asks a pool for more connections than it has, once in each client.
func actExhausted(ctx context.Context, d *demo, _ time.Duration) error {
	d.sayf("A pool of %d: two jobs hold a connection, one consumer waits in BLPOP. A web request needs a connection, too.", actPool)
	bare := d.bare(d.proxy)
	var conns []*redis.Conn
	for range actPool {
		c := bare.Conn()
		conns = append(conns, c)
		if err := c.Ping(ctx).Err(); err != nil {
			return err
		}
	}
	err := bare.Get(ctx, d.prefix+"k").Err()
	for _, c := range conns {
		_ = c.Close()
	}
	_ = bare.Close()
	if !errors.Is(err, redis.ErrPoolTimeout) {
		return fmt.Errorf("bare go-redis with a full pool: got %v, want %w", err, redis.ErrPoolTimeout)
	}
	d.before("The request fails, and nobody knows why:")
	d.quote(err.Error())

	man, err := d.newClient(d.proxy, func(o *redis.Options) { o.PoolSize, o.PoolTimeout = actPool, actWait },
		managed.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	if err != nil {
		return err
	}
	blocked := make(chan struct{})
	close(blocked)
	defer func() { // Close ends the BLPOP
		_ = man.Close()
		<-blocked
	}()
	for _, label := range []string{"import of orders", "export of invoices"} {
		conn, err := man.Acquire(managed.WithLabel(ctx, label))
		if err != nil {
			return err
		}
		defer conn.Release()
		_ = conn.Get(ctx, d.prefix+"k").Err() // redis.Nil
	}
	blocked = make(chan struct{})
	go func() {
		defer close(blocked)
		man.BLPop(context.WithoutCancel(ctx), time.Minute, d.prefix+"queue")
	}()
	if err := blocking(ctx, man); err != nil {
		return err
	}
	err = man.Get(ctx, d.prefix+"k").Err()
	var full *managed.ExhaustedError
	if !errors.As(err, &full) || len(full.Leases) != 2 || len(full.InFlight) != 1 {
		return fmt.Errorf("got %w, want an *ExhaustedError with 2 leases and 1 command in flight", err)
	}
	d.after("The same error, and it names everybody who has a connection:")
	d.quote(shorten(err.Error()))
	return nil
}

// actLostReplies counts with both clients while replies are lost.
func actLostReplies(ctx context.Context, d *demo, budget time.Duration) error {
	d.sayf("Half of the goroutines use bare go-redis, half lifeguard. One in %d requests and replies is lost with its connection.", lossOneIn)
	bare, man, err := d.countBoth(ctx, budget*9/10)
	if err != nil || ctx.Err() != nil {
		return err
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\tgo-redis\tlifeguard\t\n")
	for _, row := range []struct {
		name string
		of   func(*tally) int
	}{
		{"calls", func(t *tally) int { return t.calls }},
		{"executed twice", func(t *tally) int { return t.twice }},
		{"outcome unknown", func(t *tally) int { return t.unknown }},
		{"other errors", func(t *tally) int { return t.other }},
	} {
		fmt.Fprintf(w, "%s\t%d\t%d\t\n", row.name, row.of(bare), row.of(man))
	}
	_ = w.Flush()
	d.screen.printf("%s", indent(strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")))
	d.before("%s counted too often, and every one was reported as a success.", plural(bare.twice, "increment was", "increments were"))
	d.after("No increment was counted twice. Where nobody can know, the error says \"outcome unknown\".")
	return nil
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// whatNext prints the end of the three acts.
func (d *demo) whatNext() {
	d.screen.title("Change two lines")
	d.screen.printf("%s", indent([]string{
		`+  "github.com/lifeguard-redis/lifeguard/managed"`,
		`-  rdb := redis.NewClient(opt)`,
		`+  rdb := managed.NewClient(opt)`,
	}))
	d.screen.title("Where to look next")
	for _, next := range [][2]string{
		{"lifeguard demo --all", "7 more situations"},
		{"lifeguard demo --http :8080", "all of them, with the live page"},
		{"lifeguard doctor -u redis://..", "what is wrong with a server of yours"},
		{"docs/GUIDE.md", "leases, retries, clusters, monitoring"},
		{"docs/RUNBOOK.md", "errors by their text"},
	} {
		if d.screen.width() < 72 {
			d.screen.printf("  %s\n%s", next[0], wrapAt(next[1], "      ", "      ", d.screen.width()))
			continue
		}
		d.screen.printf("  %-32s%s\n", next[0], next[1])
	}
}

// before and after say what happens without and with lifeguard.
func (d *demo) before(format string, args ...any) { d.wrap("  go-redis:  ", format, args...) }
func (d *demo) after(format string, args ...any)  { d.wrap("  lifeguard: ", format, args...) }

// round rounds a duration for a reader.
func round(d time.Duration) time.Duration {
	switch {
	case d >= time.Second:
		return d.Round(100 * time.Millisecond)
	case d >= 10*time.Millisecond:
		return d.Round(10 * time.Millisecond)
	}
	return max(d.Round(time.Millisecond), time.Millisecond)
}
