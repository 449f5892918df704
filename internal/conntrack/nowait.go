package conntrack

import (
	"context"
	"sync/atomic"
)

// noWait is a ctx that lets a command take a free slot of the pool but never
// wait for one: go-redis asks for Done once before it tries the free slot, and
// again only where it would wait (TestContractACtxWithoutDoneOnceTakesAFreeSlotAndNeverWaits).
type noWait struct {
	context.Context
	asked atomic.Bool
}

var closedChan = func() chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()

func (c *noWait) Done() <-chan struct{} {
	if c.asked.Swap(true) {
		return closedChan
	}
	return nil
}

func (c *noWait) Err() error {
	if c.asked.Load() {
		return ErrWouldWait
	}
	return nil
}

// originalCtx returns the ctx that NoWait, or a boundCtx, was given. A handshake runs with the ctx of
// the visit that needed the connection, and a hook, an OnConnect or a credentials provider of the user must not
// see a ctx that looks as if it had ended.
func originalCtx(ctx context.Context) context.Context {
	if b, ok := ctx.(*boundCtx); ok {
		ctx = b.Context
	}
	if h, ok := ctx.(*noWait); ok {
		return h.Context
	}
	return ctx
}
