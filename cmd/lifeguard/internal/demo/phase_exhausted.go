package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// showExhausted asks a small pool for more connections than it has.
func showExhausted(ctx context.Context, d *demo, budget time.Duration) error {
	const size = 3
	wait := max(20*time.Millisecond, min(budget/4, 300*time.Millisecond))
	c, err := d.newClient(d.proxy, func(o *redis.Options) { o.PoolSize, o.PoolTimeout = size, wait })
	if err != nil {
		return err
	}
	blocked := make(chan struct{})
	defer func() { // Close ends the BLPOP
		_ = c.Close()
		<-blocked
	}()

	d.sayf("A pool of %d: two leases are held and one command blocks. A fourth caller waits %v at most:", size, wait)
	one, err := c.Acquire(managed.WithLabel(ctx, "import of orders"))
	if err != nil {
		close(blocked)
		return err
	}
	defer one.Release()
	_ = one.Get(ctx, d.prefix+"orders").Err() // redis.Nil
	two, err := c.Acquire(managed.WithLabel(ctx, "export of invoices"))
	if err != nil {
		close(blocked)
		return err
	}
	defer two.Release()
	go func() {
		defer close(blocked)
		c.BLPop(context.WithoutCancel(ctx), time.Minute, d.prefix+"queue")
	}()
	if err := blocking(ctx, c); err != nil {
		return err
	}

	_, err = c.Acquire(ctx)
	var full *managed.ExhaustedError
	switch {
	case !errors.As(err, &full):
		return fmt.Errorf("got %v, want an *ExhaustedError", err)
	case !errors.Is(err, redis.ErrPoolTimeout):
		return fmt.Errorf("%w is not redis.ErrPoolTimeout", err)
	case len(full.Leases) != 2 || len(full.InFlight) != 1:
		return fmt.Errorf("%w: want 2 leases and 1 command in flight", err)
	}
	d.quote(shorten(err.Error()))

	began := time.Now()
	_, err = c.TryAcquire(ctx)
	if !errors.As(err, &full) {
		return fmt.Errorf("got %v from TryAcquire, want an *ExhaustedError", err)
	}
	d.sayf("TryAcquire does not wait: the same answer after %v.", time.Since(began).Round(time.Microsecond))

	began = time.Now()
	_, err = c.Acquire(two.Context())
	if !errors.Is(err, managed.ErrSelfDeadlock) {
		return fmt.Errorf("a holder got %v from Acquire, want %w", err, managed.ErrSelfDeadlock)
	}
	d.sayf("Whoever holds a lease and asks for one more would wait for itself. After %v:", time.Since(began).Round(time.Microsecond))
	d.quote(shorten(err.Error()))
	d.note("1 exhausted pool: it named the holders of all %d of its connections", size)
	return nil
}

// blocking waits until the BLPOP is on its way.
func blocking(ctx context.Context, c *managed.Client) error {
	for range 1000 {
		for _, i := range c.Conns() {
			if i.State == hooks.StateBusy && strings.EqualFold(i.LastCommand, "blpop") {
				return nil
			}
		}
		if !sleep(ctx, 2*time.Millisecond) {
			return ctx.Err()
		}
	}
	return errors.New("no BLPOP was sent within 2 s")
}
