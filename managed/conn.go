package managed

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// ErrReleased is returned by commands on a lease that was given back.
var ErrReleased = errors.New("lifeguard/managed: the lease was released: acquire a new one")

// Conn is a lease: a connection of the pool that nobody else uses until it is released. All
// commands of redis.Conn work on it.
//
// Commands on one lease run one after another; Release and Discard may be called
// from any goroutine and any number of times. Keep the Conn itself, not the
// redis.Conn inside: when it becomes unreachable without Release, its connection
// is closed and that is reported.
type Conn struct {
	*redis.Conn
	lease *lease
	ctx   context.Context
}

// Release gives the connection back to the pool. It is safe to call it several
// times and from any goroutine; calls after the first do nothing. A command in
// flight is left to finish.
//
// What ran on the lease decides what happens to the connection: an open MULTI or watched keys are
// undone (one round trip); after SELECT, AUTH, CLIENT TRACKING, SUBSCRIBE and the like, or after a
// network error, it is closed; otherwise it is used again.
func (c *Conn) Release() { c.finish(released) }

// Discard closes the connection instead of returning it to the pool. A command in flight fails.
// Like Release it can be called any number of times.
func (c *Conn) Discard() { c.finish(discarded) }

// Close is Release under the usual name for connections. It returns nil.
func (c *Conn) Close() error {
	c.finish(released)
	return nil
}

func (c *Conn) finish(how uint32) {
	if c.lease.end(how) && c.lease.watched {
		runtime.SetFinalizer(c, nil)
	}
}

// Info describes the connection of the lease.
func (c *Conn) Info() hooks.ConnInfo { return c.lease.tracked.Info() }

// Context returns the ctx of the Acquire, marked with this lease: an Acquire with it on a full pool
// fails at once with ErrSelfDeadlock instead of waiting for itself. Inside AcquireFunc use it for
// everything.
func (c *Conn) Context() context.Context {
	if c.ctx == nil {
		return context.WithValue(c.lease.ctx, heldKey{c.lease.core}, c.lease)
	}
	return c.ctx
}

// heldKey marks a ctx with a lease of one client.
type heldKey struct{ core *core }

// end ends the lease, once; it reports whether this call did it.
func (l *lease) end(how uint32) bool {
	if !l.state.CompareAndSwap(held, how) {
		return false
	}
	l.unit.leases.remove(l)
	l.unit.meter.Hold.Record(l.since())
	if l.profiled {
		profile.Remove(l)
	}
	if how != released && l.inFlight.Load() > 0 {
		l.tracked.Interrupt(ErrReleased)
	}
	l.settle()
	return true
}

// settle returns the connection once the lease has ended and no command runs on it: closing
// go-redis's Conn during a command would be a data race.
func (l *lease) settle() {
	how := l.state.Load()
	if how == held || l.inFlight.Load() > 0 || !l.settled.CompareAndSwap(false, true) {
		return
	}
	dirty, undoable := l.tracked.HasSessionState()
	reason := hooks.Reason("")
	switch {
	case how == discarded:
		reason = hooks.ReasonDiscarded
	case how == dropped:
		reason = hooks.ReasonLeak
	case dirty && !undoable:
		reason = hooks.ReasonSessionState
	case dirty:
		if err := conntrack.Undo(l.conn, l.tracked); err != nil {
			reason = hooks.ReasonSessionState
		}
	case l.tracked.Evicting():
		reason = l.tracked.Info().Closing
	}
	if reason != "" {
		conntrack.Discard(l.conn, l.tracked, reason)
	}
	l.tracked.SetLeased(false)
	_ = l.conn.Close()
	l.node.Leave(hooks.PoolMain)
	l.ended(how)
}

// ended reports the end of a lease to the event handler.
func (l *lease) ended(how uint32) {
	if how == dropped {
		l.core.tracker.Emit(l.event(hooks.Reclaimed))
		return
	}
	if l.reported.Load() {
		l.tell(slog.LevelInfo, hooks.Reclaimed, "lifeguard: a lease that was held too long was released")
	}
	if l.core.tracker.Observed() {
		l.core.tracker.Emit(l.event(hooks.Released))
	}
}

// Pipeline is redis.Conn's, bound to the lease.
func (c *Conn) Pipeline() redis.Pipeliner {
	c.lease.seePipelines()
	return &pipeliner{c.Conn.Pipeline(), c}
}

// TxPipeline is redis.Conn's, bound to the lease.
func (c *Conn) TxPipeline() redis.Pipeliner {
	c.lease.seePipelines()
	return &pipeliner{c.Conn.TxPipeline(), c}
}

// seePipelines passes pipelines on the Conn to the lease.
func (l *lease) seePipelines() {
	if l.plain {
		l.pipelines.Do(func() { l.node.LeasePipelines(l.conn, l) })
	}
}

// Pipelined is redis.Conn's, bound to the lease.
func (c *Conn) Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	return c.Pipeline().Pipelined(ctx, fn)
}

// TxPipelined is redis.Conn's, bound to the lease.
func (c *Conn) TxPipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	return c.TxPipeline().Pipelined(ctx, fn)
}

// pipeliner is a pipeline of a lease: its Exec respects the lease and its ctx.
type pipeliner struct {
	redis.Pipeliner
	conn *Conn // keeps the lease alive
}

func (p *pipeliner) Exec(ctx context.Context) ([]redis.Cmder, error) {
	ctx = retry.Bound(ctx) // nothing is repeated on a lease
	if !p.conn.lease.plain {
		ctx = conntrack.Leased(ctx, p.conn.lease)
	}
	return p.Pipeliner.Exec(ctx)
}

func (p *pipeliner) Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	if err := fn(p); err != nil {
		return nil, err
	}
	return p.Exec(ctx)
}

func (p *pipeliner) TxPipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	return p.Pipelined(ctx, fn)
}

func (p *pipeliner) Pipeline() redis.Pipeliner   { return p }
func (p *pipeliner) TxPipeline() redis.Pipeliner { return p }

// since returns how long ago t was on the tracker's clock.
func (l *lease) since() time.Duration { return l.core.tracker.Now().Sub(l.start) }
