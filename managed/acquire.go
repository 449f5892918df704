package managed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/callsite"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

// ErrSelfDeadlock is returned by an Acquire that could only wait for a lease that its own caller
// holds.
var ErrSelfDeadlock = errors.New("lifeguard/managed: self-deadlock: the pool is full and this caller already holds a lease")

// ErrStreaming is returned by Acquire and Warm if Options.StreamingCredentialsProvider is set:
// go-redis v9.23.0 panics when a Conn is the first to use a connection (its Conn lacks the manager
// of such credentials). Commands, pipelines and transactions with TxPipeline work.
// CredentialsProviderContext has no such limit.
var ErrStreaming = errors.New("lifeguard/managed: no leases with StreamingCredentialsProvider, for go-redis cannot open their connections: use CredentialsProviderContext")

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

var lastLease atomic.Uint64

// acquire leases a connection of rdb, the unit's client or a clone of it. Call it only from the
// public functions: it records its caller's caller as the site of the lease.
func (u *unit) acquire(ctx context.Context, own *handle, rdb *redis.Client, try bool) (*Conn, error) {
	if u.core.closed.Load() || own.closed.Load() {
		return nil, redis.ErrClosed
	}
	if u.core.draining.Load() {
		return nil, ErrShutdown
	}
	mine, _ := ctx.Value(heldKey{u.core}).(*lease)
	nested := mine != nil && mine.state.Load() == held
	wait := ctx
	if d := u.core.set.acquireTimeout; d > 0 {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	start := time.Now()
	l := &lease{core: u.core, node: u.node, unit: u, ctx: ctx}
	var err error
	if try || nested {
		err = u.takeNow(wait, rdb, l)
	} else {
		err = u.takeWaiting(wait, rdb, l)
	}
	if err != nil {
		switch full := u.full(); {
		case u.core.closed.Load():
			return nil, redis.ErrClosed
		case nested && errors.Is(err, conntrack.ErrWouldWait):
			site, _ := mine.callers.Resolve()
			return nil, fmt.Errorf("%w, taken %v ago at %s (PoolSize is %d)", ErrSelfDeadlock,
				mine.since().Round(time.Millisecond), site, u.rdb.Options().PoolSize)
		case errors.Is(err, conntrack.ErrWouldWait):
			return nil, u.exhausted(redis.ErrPoolTimeout, 0)
		case errors.Is(err, redis.ErrPoolTimeout):
			return nil, u.exhausted(err, time.Since(start))
		case full && wait.Err() != nil && errors.Is(err, wait.Err()):
			waited := time.Since(start)
			u.meter.gaveUp(waited)
			return nil, u.exhausted(err, waited)
		case u.gaveUpDialing(wait, err):
			err = u.node.DialError(err)
		}
		return nil, attempt.Ended(wait, err)
	}
	l.id = lastLease.Add(1)
	l.start = l.tracked.Taken()
	if label, ok := ctx.Value(labelKey{}).(string); ok {
		l.label = label
	}
	if l.callers.Keep(4, callsite.Mode(u.core.set.stacks), &u.core.leaky) {
		l.profiled = true
		profile.Add(l, 2)
	}
	l.node.Enter(hooks.PoolMain)
	l.tracked.SetLeased(true)
	conn := &Conn{Conn: l.conn, lease: l}
	u.leases.add(l, conn)
	if u.core.tracker.Observed() {
		u.core.tracker.Emit(l.event(hooks.Acquired))
	}
	if u.core.closed.Load() { // closed meanwhile: its leases have been closed already
		conn.Release()
		return nil, redis.ErrClosed
	}
	return conn, nil
}

// takeWaiting is take, but waits for an unreachable node, as commands do; without a deadline no
// longer than for a slot.
func (u *unit) takeWaiting(ctx context.Context, rdb *redis.Client, l *lease) error {
	var limit context.Context
	for {
		err := u.take(ctx, rdb, l)
		away := awayOf(err)
		if away == nil || ctx.Err() != nil {
			return err
		}
		if limit == nil {
			var cancel context.CancelFunc
			limit, cancel = context.WithTimeout(ctx, u.rdb.Options().PoolTimeout)
			defer cancel()
		}
		if away.Wait(limit) != nil || u.core.closed.Load() {
			return err
		}
	}
}

func awayOf(err error) *conntrack.GateError {
	if err == nil {
		return nil // the common case, without the allocation for errors.As
	}
	var away *conntrack.GateError
	if !errors.As(err, &away) {
		return nil
	}
	return away
}

// take gets a connection for l, waiting for a slot. A connection that turns out to be bad is
// replaced by the next one: nothing of the caller's was sent. Those that had ended before do not
// count as tries, so a pool full of them is not a failure.
func (u *unit) take(ctx context.Context, rdb *redis.Client, l *lease) error {
	if u.rdb.Options().StreamingCredentialsProvider != nil {
		return ErrStreaming
	}
	const tries = 8 // as for the retries of commands
	for failed, ended := 1, 0; ; {
		conn, plain := u.node.Conn(rdb)
		tracked, err := u.node.Acquire(ctx, conn, l)
		if err == nil {
			l.conn, l.tracked, l.plain = conn, tracked, plain
			return nil
		}
		err = conntrack.Reveal(err)
		if ctx.Err() != nil || !replaceable(err) {
			return err
		}
		if _, refused := conntrack.RefusedFor(err); refused && ended < u.rdb.Options().PoolSize {
			ended++
			continue
		}
		if failed == tries {
			return err
		}
		if !attempt.Pause(ctx, rand.N(time.Millisecond<<min(failed, 5))) {
			return ctx.Err()
		}
		failed++
	}
}

// replaceable reports whether an Acquire failed because of the connection it got, so that the next
// one may be good. A new connection that times out is not replaceable: the next one would time out,
// too.
func replaceable(err error) bool {
	if _, refused := conntrack.RefusedFor(err); refused {
		return true
	}
	var ce *hooks.ConnError
	if !errors.As(err, &ce) || ce.Op == conntrack.OpDial {
		return false
	}
	var ne net.Error
	return !ce.Handshake || !ce.Self && !(errors.As(ce.Err, &ne) && ne.Timeout())
}

// takeNow is take without ever waiting for a slot. Where there is room but no idle connection,
// go-redis dials one in the background
// (TestContractACtxWithoutDoneOnceTakesAFreeSlotAndNeverWaits); takeNow waits for that dial only.
func (u *unit) takeNow(ctx context.Context, rdb *redis.Client, l *lease) error {
	const look = 200 * time.Microsecond
	if err := ctx.Err(); err != nil { // NoWait does not check it
		return err
	}
	var timer *time.Timer
	for {
		_, before := u.node.Dials()
		err := u.take(conntrack.NoWait(ctx), rdb, l)
		if !errors.Is(err, conntrack.ErrWouldWait) {
			return err
		}
		for first := true; first || u.node.Dialing() > 0 && u.node.Main().Idle == 0; first = false {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if _, failed := u.node.Dials(); failed > before {
				if f := u.node.LastDialFailure(); f != nil {
					return u.node.DialError(f.Err)
				}
			}
			if away := u.node.Unreachable(); away != nil { // no dial is tried while it is unreachable
				return u.node.DialError(away)
			}
			if u.node.Dialing() == 0 && u.node.Exhausted(u.rdb.Options().PoolSize) {
				return conntrack.ErrWouldWait
			}
			if timer == nil {
				timer = time.NewTimer(look)
				defer timer.Stop()
			} else {
				timer.Reset(look)
			}
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
		}
	}
}
