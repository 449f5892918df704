package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// doneWithin bounds how long upkeep may take, far beyond what it needs.
const doneWithin = 15 * time.Second

// until waits for a condition, and fails with what was waited for.
func until(ctx context.Context, what string, is func() bool) error {
	for began := time.Now(); !is(); {
		if time.Since(began) > doneWithin {
			return fmt.Errorf("%s: not within %v", what, doneWithin)
		}
		if !sleep(ctx, 2*time.Millisecond) {
			return nil
		}
	}
	return nil
}

// open makes a client open n connections, which are idle afterwards.
func open(ctx context.Context, n int, get func(context.Context) (release func(), err error)) error {
	var all []func()
	defer func() {
		for _, release := range all {
			release()
		}
	}()
	for range n {
		release, err := get(ctx)
		if err != nil {
			return err
		}
		all = append(all, release)
	}
	return nil
}

func lease(c *managed.Client) func(context.Context) (func(), error) {
	return func(ctx context.Context) (func(), error) {
		conn, err := c.Acquire(ctx)
		if err != nil {
			return nil, err
		}
		return conn.Release, nil
	}
}

// showIdle leaves a pool alone after a burst.
func showIdle(ctx context.Context, d *demo, budget time.Duration) error {
	const size, least = 20, 2
	idle := max(50*time.Millisecond, min(budget/4, 5*time.Second))
	c, err := d.newClient(d.proxy, func(o *redis.Options) { o.PoolSize, o.MinIdleConns = size, least }, managed.WithMaxIdle(idle))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := open(ctx, size, lease(c)); err != nil {
		return stopped(ctx, err)
	}
	began := time.Now()
	d.sayf("A burst has opened %d connections. Nobody calls any more, and the idle time is %v:", len(c.Conns()), ms(idle))
	// One more may be kept while the pool is maintained.
	if err := until(ctx, "the pool shrinks", func() bool { return len(c.Conns()) <= least+1 && c.CloseReasons()[hooks.ReasonIdle] > 0 }); err != nil || ctx.Err() != nil {
		if err != nil {
			err = fmt.Errorf("%w: %d connections are open, endings %v", err, len(c.Conns()), c.CloseReasons())
		}
		return err
	}
	d.sayf("%d are left after %v (MinIdleConns: %d); %d were closed (reason: idle).", len(c.Conns()), ms(time.Since(began)), least, c.CloseReasons()[hooks.ReasonIdle])
	d.note("1 idle pool: it shrank from %d connections to %d, with nobody calling", size, len(c.Conns()))
	return nil
}

// showAge gives the connections of the client a maximum age while they are in use.
func showAge(ctx context.Context, d *demo, budget time.Duration) error {
	age := max(50*time.Millisecond, min(budget/3, 5*time.Second))
	before, failed := d.client.CloseReasons()[hooks.ReasonAge], d.load.failed.Load()
	began := time.Now()
	old := map[uint64]bool{}
	for _, c := range d.client.Conns() {
		old[c.ID] = true
	}
	d.client.SetMaxAge(age)
	defer d.client.SetMaxAge(0)
	d.sayf("%d connections are open and in use. From now on none may be older than %v:", len(old), ms(age))
	err := until(ctx, "old connections are closed", func() bool {
		for _, c := range d.client.Conns() {
			if old[c.ID] {
				return false
			}
		}
		return true
	})
	if err != nil || ctx.Err() != nil {
		return err
	}
	if n := d.load.failed.Load() - failed; n > 0 {
		return fmt.Errorf("%d commands failed; the first: %w", n, d.load.firstError())
	}
	d.sayf("All %d have been replaced after %v, each while it was idle (reason: age); 0 commands have failed.", len(old), ms(time.Since(began)))
	d.note("maximum age: %d connections replaced under load, 0 failed commands", d.client.CloseReasons()[hooks.ReasonAge]-before)
	return nil
}

// showHeartbeat leaves a bare client and a managed one alone, behind something that
// closes idle connections.
func showHeartbeat(ctx context.Context, d *demo, budget time.Duration) error {
	const size = 3
	silence := max(700*time.Millisecond, min(budget/3, 5*time.Second))
	var proxies [2]*proxy
	for i := range proxies {
		p, err := startProxy(d.server.dial, nil)
		if err != nil {
			return err
		}
		defer p.close()
		proxies[i] = p
	}
	bare := redis.NewClient(d.options(proxies[0]))
	defer bare.Close()
	man, err := d.newClient(proxies[1], func(*redis.Options) {}, managed.WithHeartbeat(silence/8))
	if err != nil {
		return err
	}
	defer man.Close()
	err = errors.Join(open(ctx, size, lease(man)), open(ctx, size, func(ctx context.Context) (func(), error) {
		conn := bare.Conn()
		return func() { _ = conn.Close() }, conn.Ping(ctx).Err()
	}))
	if err != nil {
		return stopped(ctx, err)
	}
	d.sayf("A load balancer closes connections that are idle for %v. Two clients have %d idle connections each; nobody calls:", ms(silence), size)
	var cut [2]int
	var wg sync.WaitGroup
	for i, p := range proxies {
		wg.Go(func() { cut[i] = p.cutSilent(ctx, silence, silence*3/2) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	if cut[1] > 0 {
		return fmt.Errorf("%d connections with a heartbeat of %v were idle for %v", cut[1], silence/8, silence)
	}
	d.sayf("%d of the bare client's are cut. None of the managed client's is: each gets a PING after %v of silence.", cut[0], ms(silence/8))
	d.note("heartbeat: %d of %d idle connections of the bare client were cut, 0 of %d of the managed one", cut[0], size, size)
	return nil
}
