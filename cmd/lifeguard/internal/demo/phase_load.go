package demo

import (
	"context"
	"errors"
	"time"
)

// showLoad runs the load, and prints the table of connections once, unless it is on the screen
// anyway.
func showLoad(ctx context.Context, d *demo, budget time.Duration) error {
	if !sleep(ctx, budget*9/10) {
		return nil
	}
	for range 1000 { // a very short demo waits for the first lease
		if d.load.leases.Load() > 0 || !sleep(ctx, 5*time.Millisecond) {
			break
		}
	}
	if !d.screen.live {
		d.screen.printf("%s", indent(d.table()))
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case d.load.leases.Load() == 0:
		return errors.New("no lease was taken")
	case d.load.failed.Load() > 0:
		return d.load.firstError()
	}
	return nil
}
