package conntrack

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// boundCtx is the ctx of a call that must not outlive it, not even during a handshake: when it
// ends, so does the connection that is being opened, which nobody else knows yet. Other calls wait
// for their handshakes, within ReadTimeout, as with go-redis: if every call with a short ctx ended
// its own, a slow server would get new connections all the time and never keep one.
type boundCtx struct{ context.Context }

// of returns the ctx to go on with for a visit that takes a lease: b with ctx in it if the call is
// bound, else ctx itself.
func (b *boundCtx) of(v *visit, ctx context.Context) context.Context {
	if !v.bound {
		return ctx
	}
	b.Context = ctx
	return b
}

// bind is called for the commands on a Conn. If ctx is a bound one and the command begins a
// handshake, the connection below is told, by a visit. Where that fails, so does the handshake.
func bind(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) {
	b, ok := ctx.(*boundCtx)
	if !ok || cmd.Name() != "hello" {
		return
	}
	v := newVisit(visitBound)
	defer v.done()
	if next(context.Background(), v.cmd) == nil && v.conn != nil {
		v.conn.bind(unhurried(b))
	}
}

// binding is what ends a handshake together with a ctx.
type binding struct {
	ctx  context.Context
	stop func() bool
}

func (c *Conn) bind(ctx context.Context) {
	if ctx.Done() == nil || c.out.Load() > 0 {
		return
	}
	c.bound.Store(&binding{ctx, context.AfterFunc(ctx, func() { c.Interrupt(ctx.Err()) })})
}

// unbind is called when the handshake is over. It reports false if ctx has ended it.
func (c *Conn) unbind() bool {
	b := c.bound.Swap(nil)
	if b == nil || b.stop() {
		return true
	}
	c.Interrupt(b.ctx.Err()) // at the latest now
	return false
}

// boundTo returns the channel that ends the handshake, nil for none.
func (c *Conn) boundTo() <-chan struct{} {
	if b := c.bound.Load(); b != nil {
		return b.ctx.Done()
	}
	return nil
}
