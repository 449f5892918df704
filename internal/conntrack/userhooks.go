package conntrack

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// UserHooks are the hooks that the user of a client has added. They run around all the work on a call,
// including repetitions and waits, as go-redis runs them around its own. It is safe for concurrent
// use; a nil one has no hooks.
type UserHooks struct {
	mu   sync.Mutex
	list atomic.Pointer[[]redis.Hook]
}

// Add adds a hook, which runs inside those that were added before.
func (u *UserHooks) Add(h redis.Hook) {
	u.mu.Lock()
	defer u.mu.Unlock()
	list := append(append([]redis.Hook(nil), u.all()...), h)
	u.list.Store(&list)
}

func (u *UserHooks) all() []redis.Hook {
	if u == nil {
		return nil
	}
	if list := u.list.Load(); list != nil {
		return *list
	}
	return nil
}

// Any reports whether there is a hook.
func (u *UserHooks) Any() bool { return u != nil && u.list.Load() != nil }

// Process wraps next with the hooks; nil if there are none.
func (u *UserHooks) Process(next redis.ProcessHook) redis.ProcessHook {
	all, outer := u.all(), redis.ProcessHook(nil)
	for i := len(all) - 1; i >= 0; i-- {
		if h := all[i].ProcessHook(next); h != nil { // go-redis skips those, too
			next, outer = h, h
		}
	}
	return outer
}

// Pipeline does the same for pipelines.
func (u *UserHooks) Pipeline(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	all, outer := u.all(), redis.ProcessPipelineHook(nil)
	for i := len(all) - 1; i >= 0; i-- {
		if h := all[i].ProcessPipelineHook(next); h != nil {
			next, outer = h, h
		}
	}
	return outer
}

// DialOnly returns what go-redis gets of a hook that UserHooks run: its dial hook, because go-redis
// makes the dials.
func DialOnly(h dialHook) redis.Hook { return dialOnly{h} }

// dialHook is the part of redis.Hook for dials.
type dialHook interface {
	DialHook(next redis.DialHook) redis.DialHook
}

type dialOnly struct{ hook dialHook }

func (d dialOnly) DialHook(next redis.DialHook) redis.DialHook { return d.hook.DialHook(next) }

// ProcessHook and ProcessPipelineHook return nil, so go-redis skips them.
func (dialOnly) ProcessHook(redis.ProcessHook) redis.ProcessHook                         { return nil }
func (dialOnly) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook { return nil }

// call is what is known about a call inside the hooks of users, which may have wrapped the ctx that
// carried it.
type call struct {
	attempts atomic.Int32
	holder   Holder // of the lease that a pipeline runs on
	watch    bool   // a WATCH at the start of a transaction
}

type callKey struct{}

// WithCall marks the ctx of a call whose users' hooks run elsewhere.
func WithCall(ctx context.Context) context.Context {
	return context.WithValue(ctx, callKey{}, &call{})
}

// KeepCall returns ctx with the mark of a call: of the call that it belongs to, or a new one if a
// hook has gone on with a ctx of its own.
func KeepCall(ctx context.Context) context.Context {
	if callOf(ctx) == nil {
		return WithCall(ctx)
	}
	return ctx
}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// Carry returns ctx with the values of given, for a hook that was given one ctx and goes on with
// another, which is not made from it. It ends with ctx.
func Carry(ctx, given context.Context) context.Context { return &carried{ctx, given} }

type carried struct {
	context.Context
	given context.Context
}

func (c *carried) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.given.Value(key)
}

// attempted counts an attempt.
func attempted(ctx context.Context) {
	if c := callOf(ctx); c != nil {
		c.attempts.Add(1)
	}
}

// repeated reports whether the call that needs a connection has been tried before: then the
// handshake belongs to a repetition, of which users see nothing.
func repeated(ctx context.Context) bool {
	c := callOf(ctx)
	return c != nil && c.attempts.Load() > 1
}

// partCtx marks a command around which the hooks of users must not run, because they run around
// the larger call that it belongs to.
type partCtx struct {
	context.Context
	over *atomic.Bool
}

// WithoutUserHooks is for a command that is a part of a call. Hooks of users do not run around it, until over
// is true; nil: never.
func WithoutUserHooks(ctx context.Context, over *atomic.Bool) context.Context {
	return &partCtx{ctx, over}
}

// SkipsUserHooks reports whether the mark of WithoutUserHooks is in force, and returns ctx without it.
func SkipsUserHooks(ctx context.Context) (context.Context, bool) {
	if q, ok := ctx.(*partCtx); ok {
		return q.Context, q.over == nil || !q.over.Load()
	}
	return ctx, false
}

// leasedCtx carries the holder of the lease that a pipeline runs on.
type leasedCtx struct {
	context.Context
	holder Holder
}

// Leased is for a pipeline on a Conn that holder has leased: holder is called for it like for a
// command on that Conn.
func Leased(ctx context.Context, holder Holder) context.Context { return &leasedCtx{ctx, holder} }

func leased(ctx context.Context) (context.Context, Holder) {
	if l, ok := ctx.(*leasedCtx); ok {
		return l.Context, l.holder
	}
	return ctx, nil
}
