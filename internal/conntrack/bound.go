package conntrack

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// boundCtx is the ctx of a call that must not outlive it, not even during a handshake: when it, or
// one derived from it, ends, so does the connection that is being opened, which nobody else knows
// yet. Other calls wait for their handshakes, within ReadTimeout, as with go-redis: if every call
// with a short ctx ended its own, a slow server would get new connections all the time and never
// keep one. Bound calls seldom need a handshake: they look for an idle connection first.
type boundCtx struct{ context.Context }

type boundKey struct{}

func (b *boundCtx) Value(key any) any {
	if key == any(boundKey{}) {
		return true
	}
	return b.Context.Value(key)
}

// Bound makes ctx a bound one.
func Bound(ctx context.Context) context.Context { return &boundCtx{ctx} }

// of returns the ctx to go on with for a visit that takes a lease: b with ctx in it if the call is
// bound, else ctx itself.
func (b *boundCtx) of(v *visit, ctx context.Context) context.Context {
	if !v.bound {
		return ctx
	}
	b.Context = ctx
	return b
}

// bind is called for the commands on a Conn. If the command begins a handshake, a visit tells the
// connection below whose it is, and passes a bound ctx to it. Where that fails, so does the handshake.
func (in *installed) bind(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) {
	if args := cmd.Args(); len(args) == 0 || args[0] != "hello" {
		return
	}
	bound, turn := ctx.Value(boundKey{}) != nil, in.turnOf(ctx)
	if !bound && turn == in.Node.first {
		return
	}
	v := newVisit(visitBound)
	defer v.done()
	v.turn = turn
	if next(context.Background(), v.cmd) == nil && v.conn != nil && bound {
		v.conn.bind(originalCtx(ctx))
	}
}

// turnOf returns the first handshake that one with ctx may be, or has to wait for; nil for none.
func (in *installed) turnOf(ctx context.Context) *firstHandshake {
	if ctx.Value(txKey{}) != nil {
		return nil
	}
	return in.first
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
