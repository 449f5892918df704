package demo

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
)

// showAlert fills a pool until its Monitor raises an alert, and empties it again.
func showAlert(ctx context.Context, d *demo, budget time.Duration) error {
	const size = 3
	every := max(10*time.Millisecond, min(budget/20, time.Second))
	alerts := make(chan monitor.Alert, 4)
	c, err := d.newClient(d.proxy, func(o *redis.Options) { o.PoolSize = size }, managed.WithMonitor(monitor.WithInterval(every), monitor.WithoutDefaults(),
		monitor.Threshold{Name: "pool_full", Metric: monitor.PoolUse, Limit: 0.9, Samples: 3}, monitor.WithAlertHandler(func(a monitor.Alert) { alerts <- a })))
	if err != nil {
		return err
	}
	defer c.Close()
	d.sayf("A pool of %d, sampled every %v. The alert is raised when 90 %% are in use in 3 samples in a row:", size, ms(every))
	err = open(managed.WithLabel(ctx, "mail merge"), size, func(ctx context.Context) (func(), error) {
		release, err := lease(c)(ctx)
		if err == nil && len(c.Leases()) == size { // full: wait for the alert before they are released
			err = d.hear(ctx, alerts, true)
		}
		return release, err
	})
	if err != nil {
		return stopped(ctx, err)
	}
	if err := d.hear(ctx, alerts, false); err != nil {
		return stopped(ctx, err)
	}
	d.note("1 alert: it named who held the pool's connections, and said when it was over")
	return nil
}

// hear waits for an alert, and shows it.
func (d *demo) hear(ctx context.Context, alerts <-chan monitor.Alert, active bool) error {
	late := time.NewTimer(doneWithin)
	defer late.Stop()
	select {
	case a := <-alerts:
		if a.Active != active {
			return errors.New("got the alert " + a.String())
		}
		d.quote(shorten(a.String()))
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-late.C:
		return errors.New("no alert came")
	}
}
