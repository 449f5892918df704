package lease

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/callsite"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// ErrReleased is the error of commands on a lease that has ended.
var ErrReleased = errors.New("lifeguard/managed: the lease was released: acquire a new one")

// Lease is the record of one leased connection. Its owner, a managed.Conn, points to it; it points
// back only for a short time, so that a dropped owner can be collected. The exported fields are set
// by Take and Open, and not changed after that.
type Lease struct {
	ID      uint64 // unique in the process
	Label   string
	Start   time.Time
	Conn    *redis.Conn
	Tracked *conntrack.Conn

	pool     *Pool
	ctx      context.Context // of the Acquire
	callers  callsite.Stack
	profiled bool // it is in the pprof profile

	plain     bool // Conn has no hook for pipelines
	pipelines sync.Once

	state    atomic.Uint32
	inFlight atomic.Int32
	reported atomic.Bool
	settled  atomic.Bool // the connection was returned
	orphan   atomic.Bool // its owner was collected, and the lease is still to be reclaimed

	// Of the list of the pool:
	prev, next   *Lease
	owner        any  // until it has a finalizer
	second       bool // the next run of setFinalizers is its second one
	hasFinalizer bool
}

const (
	held uint32 = iota
	released
	discarded
	dropped // the owner was collected
)

var lastID atomic.Uint64

// New returns a lease for the ctx of an Acquire, which has no connection yet: next come Take or
// TakeNow, and Open.
func (p *Pool) New(ctx context.Context) *Lease { return &Lease{pool: p, ctx: ctx} }

// Open makes a lease that has a connection a held one, of that owner. The site of the lease is skip
// calls above the caller of Open.
func (l *Lease) Open(owner any, label string, skip int) {
	c := l.pool.Client
	l.ID = lastID.Add(1)
	l.Start = l.Tracked.Taken()
	l.Label = label
	if l.callers.Keep(skip+3, c.Stacks, &c.leaky) {
		l.profiled = true
		profile.Add(l, skip+1)
	}
	l.pool.Node.Enter(hooks.PoolMain)
	l.Tracked.SetLeased(true)
	l.pool.add(l, owner)
	if c.Tracker.Observed() {
		c.Tracker.Emit(l.event(hooks.Acquired))
	}
}

// Client returns the client that the lease is of.
func (l *Lease) Client() *Client { return l.pool.Client }

// Ctx returns the ctx of the Acquire.
func (l *Lease) Ctx() context.Context { return l.ctx }

// Held reports whether the lease has not ended.
func (l *Lease) Held() bool { return l.state.Load() == held }

// For returns how long the lease is held.
func (l *Lease) For() time.Duration { return l.pool.Client.Tracker.Now().Sub(l.Start) }

// Reported reports whether the lease was reported as held for too long.
func (l *Lease) Reported() bool { return l.reported.Load() }

// Running reports whether a command runs on the lease.
func (l *Lease) Running() bool { return l.inFlight.Load() > 0 }

// Callers returns the call stack of the Acquire.
func (l *Lease) Callers() *callsite.Stack { return &l.callers }

// Site returns file and line of the Acquire.
func (l *Lease) Site() string {
	site, _ := l.callers.Resolve()
	return site
}

// Begin implements conntrack.Holder: a command is about to run on the lease.
func (l *Lease) Begin(ctx context.Context) (conntrack.Interruptions, error) {
	w := conntrack.Interruptions{Written: l.Tracked.Written()}
	l.inFlight.Add(1)
	if err := l.usable(ctx); err != nil {
		l.done()
		return w, err
	}
	if ctx.Done() != nil {
		w.Command = l.interruptAfter(ctx)
	}
	if l.ctx != ctx && l.ctx.Done() != nil {
		w.Lease = l.interruptAfter(l.ctx)
	}
	return w, nil
}

// interruptAfter interrupts the connection when ctx ends, until it is told to stop.
func (l *Lease) interruptAfter(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { l.Tracked.Interrupt(ctx.Err()) })
}

// stopped stops an interruption. One that has begun is not still to come when the
// connection belongs to somebody else.
func (l *Lease) stopped(stop func() bool, ctx context.Context) {
	if stop != nil && !stop() {
		l.Tracked.Interrupt(ctx.Err())
	}
}

// done ends what Begin began.
func (l *Lease) done() {
	if l.inFlight.Add(-1) == 0 {
		if l.orphan.Load() {
			go l.reclaim() // it logs
		}
		l.settle()
	}
}

func (l *Lease) usable(ctx context.Context) error {
	if !l.Held() {
		return ErrReleased
	}
	if err := ctx.Err(); err != nil {
		return errtext.Note(err, "lifeguard/managed: not sent")
	}
	if err := l.ctx.Err(); err != nil {
		return errtext.Note(err, "lifeguard/managed: not sent, the ctx of the lease has ended")
	}
	return nil
}

// End implements conntrack.Holder.
func (l *Lease) End(ctx context.Context, w conntrack.Interruptions, err error) error {
	l.stopped(w.Command, ctx)
	l.stopped(w.Lease, l.ctx)
	l.done()
	l.Seen(err)
	if err != nil && errors.Is(err, redis.ErrClosed) && !l.Held() {
		return ErrReleased
	}
	if err != nil && retry.OutcomeOf(err) != retry.Answered {
		err = attempt.Ended(l.ctx, attempt.Ended(ctx, err))
	}
	return err
}

// Panicked implements conntrack.Holder. What of the command was written, and what of its reply was
// read, is unknown: Release closes the connection.
func (l *Lease) Panicked(w conntrack.Interruptions) {
	for _, stop := range []func() bool{w.Command, w.Lease} {
		if stop != nil {
			stop() // where that is too late, the connection is interrupted already or about to be
		}
	}
	l.Tracked.Evict(hooks.ReasonError)
	l.done()
}

// Wrote implements conntrack.Holder.
func (l *Lease) Wrote(w conntrack.Interruptions) bool { return l.Tracked.Written() != w.Written }

// Seen implements conntrack.Holder: a refusal by the node is evidence about the node, even though
// nothing is repeated here.
func (l *Lease) Seen(err error) {
	if err == nil || err == redis.Nil {
		return
	}
	if reason := retry.Refusal(err); reason != "" {
		l.pool.Refused(reason, err)
	}
}
