package managed

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/lease"
)

// ErrReleased is returned by commands on a lease that was released.
var ErrReleased = lease.ErrReleased

// Conn is a lease: a connection of the pool that nobody else uses until it is released. All
// commands of redis.Conn work on it.
//
// Commands on one lease run one after another; Release and Discard may be called
// from any goroutine and any number of times. Keep the Conn itself, not the
// redis.Conn inside: when it becomes unreachable without Release, its connection
// is closed and that is reported.
type Conn struct {
	*redis.Conn
	lease *lease.Lease
	ctx   context.Context
}

// Release gives the connection back to the pool. It is safe to call it several
// times and from any goroutine; calls after the first do nothing. A command in
// flight is left to finish.
//
// What ran on the lease decides what happens to the connection: an open MULTI or watched keys are
// undone (one round trip); after SELECT, AUTH, CLIENT TRACKING, SUBSCRIBE and the like, or after a
// network error, it is closed; otherwise it is used again.
func (c *Conn) Release() { c.lease.Release(c) }

// Discard closes the connection instead of returning it to the pool. A command in flight fails.
// Like Release it can be called any number of times.
func (c *Conn) Discard() { c.lease.Discard(c) }

// Close is Release under the usual name for connections. It returns nil.
func (c *Conn) Close() error {
	c.lease.Release(c)
	return nil
}

// Info describes the connection of the lease.
func (c *Conn) Info() hooks.ConnInfo { return c.lease.Tracked.Info() }

// Context returns the ctx of the Acquire, marked with this lease: an Acquire with it on a full pool
// fails at once with ErrSelfDeadlock instead of waiting for itself. Inside AcquireFunc use it for
// everything.
func (c *Conn) Context() context.Context {
	if c.ctx == nil {
		marked.Store(true)
		return context.WithValue(c.lease.Ctx(), heldKey{c.lease.Client()}, c.lease)
	}
	return c.ctx
}

// Pipeline is redis.Conn's, bound to the lease.
func (c *Conn) Pipeline() redis.Pipeliner {
	return c.lease.Pipeline(c)
}

// TxPipeline is redis.Conn's, bound to the lease.
func (c *Conn) TxPipeline() redis.Pipeliner {
	return c.lease.TxPipeline(c)
}

// Pipelined is redis.Conn's, bound to the lease.
func (c *Conn) Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	return c.Pipeline().Pipelined(ctx, fn)
}

// TxPipelined is redis.Conn's, bound to the lease.
func (c *Conn) TxPipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	return c.TxPipeline().Pipelined(ctx, fn)
}
