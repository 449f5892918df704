package browser_test

import (
	"context"
	"math"
	"time"

	"github.com/lifeguard-redis/lifeguard/managed"
)

// shop is one of many who make commands, and now and then take a lease; the more the
// tide is in.
func shop(ctx context.Context, rdb *managed.Client, i int, began time.Time) {
	for ctx.Err() == nil {
		tide := 0.5 + 0.5*math.Sin(time.Since(began).Seconds()/11)
		if float64(i) > 8+32*tide {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		switch {
		case i%4 == 0:
			_ = rdb.AcquireFunc(managed.WithLabel(ctx, "checkout"), checkout)
		default:
			_ = rdb.Get(ctx, "cart").Err()
			_ = rdb.Set(ctx, "cart", "full", time.Minute).Err()
		}
		time.Sleep(time.Duration(1+i%7) * time.Millisecond)
	}
}

func checkout(c *managed.Conn) error {
	ctx := c.Context()
	if err := c.Do(ctx, "watch", "stock").Err(); err != nil {
		return err
	}
	time.Sleep(150 * time.Millisecond)
	return c.Get(ctx, "stock").Err()
}

// leak takes more and more leases that it gives back only at the end.
func leak(ctx context.Context, rdb *managed.Client, began time.Time) {
	time.Sleep(time.Until(began.Add(45 * time.Second)))
	for range 22 {
		c, err := rdb.Acquire(managed.WithLabel(ctx, "nightly export"))
		if err != nil {
			continue
		}
		defer c.Release()
		_ = c.HGetAll(ctx, "invoices").Err()
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Second):
		}
	}
	<-ctx.Done()
}
