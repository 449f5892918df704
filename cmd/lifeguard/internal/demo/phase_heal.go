package demo

import (
	"context"
	"fmt"
	"time"
)

// showHealing cuts every connection of the client, again and again, under load.
func showHealing(ctx context.Context, d *demo, budget time.Duration) error {
	const times = 3
	failed, broken := d.load.failed.Load(), d.load.broken.Load()
	before := d.load.commands.Load()
	cut := 0
	for i := range times {
		n := d.proxy.cutAll()
		cut += n
		began, done := time.Now(), d.load.commands.Load()
		for d.load.commands.Load() < done+workers { // until everybody is served again
			if time.Since(began) > 10*time.Second {
				return fmt.Errorf("only %d commands succeeded within 10 s of a cut", d.load.commands.Load()-done)
			}
			if !sleep(ctx, time.Millisecond) {
				return nil
			}
		}
		d.sayf("All %d connections cut at once: everybody is served again after %v, %d commands have failed.",
			n, ms(time.Since(began)), d.load.failed.Load()-failed)
		if i < times-1 && !sleep(ctx, budget/(times+1)) {
			return nil
		}
	}
	if n := d.load.failed.Load() - failed; n > 0 {
		return fmt.Errorf("%d commands failed; the first: %w", n, d.load.firstError())
	}
	d.sayf("%d commands succeeded meanwhile. Leases lost in the middle of their work: %d (a lease is one connection).",
		d.load.commands.Load()-before, d.load.broken.Load()-broken)
	d.note("%d connections cut: 0 failed commands", cut)
	return nil
}
