package demo

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// foundWithin bounds how long a leak may stay unnoticed, after its threshold.
const foundWithin = 5 * time.Second

// showHeld keeps a lease for longer than the leak threshold.
func showHeld(ctx context.Context, d *demo, budget time.Duration) error {
	const label = "nightly report"
	d.sayf("A job leases a connection and does not give it back. Leak threshold: %v.", d.leak)
	conn, err := takeAndForget(managed.WithLabel(ctx, label), d)
	if err != nil {
		return err
	}
	defer conn.Release()
	e, err := d.watch.await(ctx, hooks.Leaked, label, d.leak+foundWithin)
	if err != nil {
		return err
	}
	d.screen.printf("  Found: %q holds connection %d for %v. It was taken here:\n%s", e.Label, e.ConnID, ms(e.Took), stackOf(e.Stack))
	if !sleep(ctx, budget/5) {
		return nil
	}
	conn.Release()
	if e, err = d.watch.await(ctx, hooks.Reclaimed, label, foundWithin); err != nil {
		return err
	}
	d.sayf("It came back after all, after %v: said once more.", ms(e.Took))
	d.note("1 lease held too long: reported with its stack, once, and once more when it came back")
	return nil
}

// takeAndForget is the function named in the stack of the leak.
func takeAndForget(ctx context.Context, d *demo) (*managed.Conn, error) {
	conn, err := d.client.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	return conn, conn.Set(ctx, d.prefix+"report", "half done", keyTTL).Err()
}

// showDropped drops the last reference to a lease.
func showDropped(ctx context.Context, d *demo, _ time.Duration) error {
	const label = "forgetful handler"
	d.sayf("A function returns early and forgets the lease: nobody has it any more.")
	if err := takeAndDrop(managed.WithLabel(ctx, label), d); err != nil {
		return err
	}
	var e hooks.Event
	for deadline := time.Now().Add(foundWithin); ; {
		runtime.GC()
		var err error
		if e, err = d.watch.await(ctx, hooks.Leaked, label, 50*time.Millisecond); err == nil {
			break
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
	}
	d.screen.printf("  The garbage collector found it after %v. It was taken here:\n%s", ms(e.Took), stackOf(e.Stack))
	if _, err := d.watch.await(ctx, hooks.Reclaimed, label, foundWithin); err != nil {
		return err
	}
	closed, err := d.watch.closed(ctx, e.ConnID, foundWithin)
	if err != nil {
		return err
	}
	if closed.Reason != hooks.ReasonLeak {
		return fmt.Errorf("connection %d was closed for %q, want %q", e.ConnID, closed.Reason, hooks.ReasonLeak)
	}
	d.sayf("Connection %d is closed (reason: %s), its place in the pool is free again.", closed.ConnID, closed.Reason)
	d.note("1 lease dropped: found by the garbage collector, reported with its stack, its place taken back")
	return nil
}

// takeAndDrop is the function named in the stack of the leak.
func takeAndDrop(ctx context.Context, d *demo) error {
	conn, err := d.client.Acquire(ctx)
	if err != nil {
		return err
	}
	return conn.Get(ctx, d.prefix+"report").Err() // no Release: the mistake
}
