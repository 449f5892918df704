package managed

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/lease"
)

// ErrSelfDeadlock is returned by an Acquire that could only wait for a lease that its own caller
// holds.
var ErrSelfDeadlock = errors.New("lifeguard/managed: self-deadlock: the pool is full and this caller already holds a lease")

// ErrStreaming is returned by Acquire and Warm if Options.StreamingCredentialsProvider is set:
// go-redis v9.23.0 panics when a Conn is the first to use a connection (its Conn lacks the manager
// of such credentials). Commands, pipelines and transactions with TxPipeline work.
// CredentialsProviderContext has no such limit.
var ErrStreaming = errors.New("lifeguard/managed: no leases with StreamingCredentialsProvider, because go-redis cannot open their connections: use CredentialsProviderContext")

// Acquire leases a connection: it is taken out of the pool for this caller alone until Release. It
// waits for a free slot like a command does, at most for Options.PoolTimeout or WithAcquireTimeout.
// Taking an idle connection costs no network traffic, unless it has been idle for longer than
// WithValidateAfter.
//
// The lease belongs to ctx: when ctx ends, a command in flight on the lease is
// interrupted, its connection is discarded, and further commands fail. A ctx
// given to a single command interrupts that command in the same way. To bound
// only the wait for a connection, use WithAcquireTimeout.
//
// Errors: *ExhaustedError (errors.Is redis.ErrPoolTimeout) if no slot became free, ErrSelfDeadlock,
// redis.ErrClosed, the error of ctx, or the error of the dial.
func (c *Client) Acquire(ctx context.Context) (*Conn, error) {
	return c.unit.acquire(ctx, c.own, c.Client, false)
}

// TryAcquire is Acquire without waiting for a free slot: if the pool is full it returns an
// *ExhaustedError at once. It may dial if there is room.
func (c *Client) TryAcquire(ctx context.Context) (*Conn, error) {
	return c.unit.acquire(ctx, c.own, c.Client, true)
}

// AcquireFunc runs fn with a lease and releases it afterwards, also when fn panics.
// (*Conn).Context() returns ctx marked with the lease: an Acquire with it on a full pool fails at
// once with ErrSelfDeadlock. It returns the error of the Acquire or of fn.
func (c *Client) AcquireFunc(ctx context.Context, fn func(*Conn) error) error {
	conn, err := c.unit.acquire(ctx, c.own, c.Client, false)
	if err != nil {
		return err
	}
	return conn.run(fn)
}

// run is the part of AcquireFunc after the Acquire.
func (c *Conn) run(fn func(*Conn) error) error {
	defer c.Release()
	c.ctx = c.Context()
	return fn(c)
}

// acquire leases a connection of rdb, the unit's client or a clone of it. Call it only from the
// public functions: it records its caller's caller as the site of the lease.
func (u *unit) acquire(ctx context.Context, own *handle, rdb *redis.Client, try bool) (*Conn, error) {
	if u.core.closed.Load() || own.closed.Load() {
		return nil, redis.ErrClosed
	}
	if u.core.draining.Load() {
		return nil, ErrShutdown
	}
	if u.rdb.Options().StreamingCredentialsProvider != nil {
		return nil, ErrStreaming
	}
	mine, label := u.core.marks(ctx)
	nested := mine != nil && mine.Held()
	wait := ctx
	if d := u.core.set.acquireTimeout; d > 0 {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	start := u.core.tracker.Elapsed()
	l := u.leases.New(ctx)
	runtime.Callers(3, l.Callers().Innermost())
	take := l.Take
	if try || nested {
		take = l.TakeNow
	}
	if err := take(wait, rdb); err != nil {
		switch full := u.full(); {
		case u.core.closed.Load():
			return nil, redis.ErrClosed
		case nested && errors.Is(err, conntrack.ErrWouldWait):
			return nil, fmt.Errorf("%w, taken %v ago at %s (PoolSize is %d)", ErrSelfDeadlock,
				mine.For().Round(time.Millisecond), mine.Site(), u.rdb.Options().PoolSize)
		case errors.Is(err, conntrack.ErrWouldWait):
			return nil, u.exhausted(redis.ErrPoolTimeout, 0)
		case isPoolTimeout(err):
			return nil, u.exhausted(err, u.core.tracker.Elapsed()-start)
		case full && wait.Err() != nil && errors.Is(err, wait.Err()):
			waited := u.core.tracker.Elapsed() - start
			u.pool.GaveUp(waited)
			return nil, u.exhausted(err, waited)
		case u.gaveUpDialing(wait, err):
			err = u.node.DialError(err)
		}
		return nil, attempt.InternalsOf(u.retry).Early(attempt.Ended(wait, err))
	}
	conn := &Conn{Conn: l.Conn, lease: l}
	l.Open(conn, label, 2)
	if u.core.closed.Load() { // closed meanwhile: its leases have been closed already
		conn.Release()
		return nil, redis.ErrClosed
	}
	return conn, nil
}

// marked is set when the first ctx is marked with a label or a lease. Before that, no ctx need be
// searched for marks, which takes time and sometimes allocates.
var marked atomic.Bool

type labelKey struct{}

// heldKey marks a ctx with a lease of one client.
type heldKey struct{ client *lease.Client }

// marks returns the lease of this client and the label that ctx is marked with.
func (c *core) marks(ctx context.Context) (mine *lease.Lease, label string) {
	if marked.Load() {
		mine, _ = ctx.Value(heldKey{&c.leases}).(*lease.Lease)
		label, _ = ctx.Value(labelKey{}).(string)
	}
	return mine, label
}

// WithLabel names the leases that are acquired with the returned ctx, for Leases, leak reports and
// exhaustion errors.
func WithLabel(ctx context.Context, label string) context.Context {
	marked.Store(true)
	return context.WithValue(ctx, labelKey{}, label)
}
