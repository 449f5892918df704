package managed

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/callsite"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// lease is the record of one leased connection. The caller's Conn points to it; it points back only
// for a short time, so that a dropped Conn can be collected.
type lease struct {
	core     *core
	id       uint64
	conn     *redis.Conn
	tracked  *conntrack.Conn
	node     *conntrack.Node
	unit     *unit
	ctx      context.Context // of the Acquire
	label    string
	start    time.Time
	callers  callsite.Stack
	profiled bool // it is in the pprof profile

	plain     bool // conn has no hook for pipelines
	pipelines sync.Once

	state    atomic.Uint32
	inFlight atomic.Int32
	reported atomic.Bool
	settled  atomic.Bool // the connection was returned
	orphan   atomic.Bool // its Conn was collected, and the lease is still to be reclaimed

	// Of leaseList:
	prev, next *lease
	young      *Conn // the caller's, until it is watched
	grown      bool  // it already existed when the timer last ran
	watched    bool  // the runtime reports when it is dropped
}

const (
	held uint32 = iota
	released
	discarded
	dropped // the Conn was collected
)

// Begin implements conntrack.Holder: a command is about to run on the lease.
func (l *lease) Begin(ctx context.Context) (conntrack.Watch, error) {
	var w conntrack.Watch
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
func (l *lease) interruptAfter(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { l.tracked.Interrupt(ctx.Err()) })
}

// stopped stops an interruption. One that has begun is not still to come when the
// connection belongs to somebody else.
func (l *lease) stopped(stop func() bool, ctx context.Context) {
	if stop != nil && !stop() {
		l.tracked.Interrupt(ctx.Err())
	}
}

// done ends what Begin began.
func (l *lease) done() {
	if l.inFlight.Add(-1) == 0 {
		if l.orphan.Load() {
			go l.reclaim() // it logs
		}
		l.settle()
	}
}

func (l *lease) usable(ctx context.Context) error {
	if l.state.Load() != held {
		return ErrReleased
	}
	if err := ctx.Err(); err != nil {
		return note(err, "lifeguard/managed: not sent")
	}
	if err := l.ctx.Err(); err != nil {
		return note(err, "lifeguard/managed: not sent, the ctx of the lease has ended")
	}
	return nil
}

// End implements conntrack.Holder.
func (l *lease) End(ctx context.Context, w conntrack.Watch, err error) error {
	l.stopped(w.Command, ctx)
	l.stopped(w.Lease, l.ctx)
	l.done()
	l.Seen(err)
	if err != nil && errors.Is(err, redis.ErrClosed) && l.state.Load() != held {
		return ErrReleased
	}
	if err != nil && retry.OutcomeOf(err) != retry.Answered {
		err = attempt.Ended(l.ctx, attempt.Ended(ctx, err))
	}
	return err
}

// Seen implements hooks.Holder: a refusal by the node is evidence about the node, even though
// nothing is repeated here.
func (l *lease) Seen(err error) {
	if err == nil || err == redis.Nil {
		return
	}
	reason := retry.Refusal(err)
	if reason == retry.ReasonReadOnly {
		l.unit.keep.ReadOnly()
	}
	if (reason == retry.ReasonReadOnly || reason == retry.ReasonMoved) && l.core.redirected != nil {
		l.core.redirected(l.unit, err)
	}
}

// leaseList holds the leases of one node, the oldest first.
type leaseList struct {
	core        *core
	mu          sync.Mutex
	first, last *lease
	n           int
	timer       *time.Timer // runs only while leases are held
	ticking     bool
	growth      *time.Timer // runs only while there are young leases
	growing     bool
}

func (ll *leaseList) add(l *lease, c *Conn) {
	ll.mu.Lock()
	defer ll.mu.Unlock()
	if l.prev = ll.last; l.prev != nil {
		l.prev.next = l
	} else {
		ll.first = l
	}
	ll.last = l
	ll.n++
	ll.watch(ll.core.set.leakThreshold)
	l.young = c
	ll.grow(youth)
}

func (ll *leaseList) remove(l *lease) {
	ll.mu.Lock()
	defer ll.mu.Unlock()
	if l.prev != nil {
		l.prev.next = l.next
	} else {
		ll.first = l.next
	}
	if l.next != nil {
		l.next.prev = l.prev
	} else {
		ll.last = l.prev
	}
	l.prev, l.next, l.young = nil, nil, nil
	ll.n--
}

// oldest returns up to n leases, those held for the longest, and the total number of leases.
func (ll *leaseList) oldest(n int) (leases []*lease, all int) {
	ll.mu.Lock()
	defer ll.mu.Unlock()
	leases = make([]*lease, 0, min(n, ll.n))
	for l := ll.first; l != nil && len(leases) < n; l = l.next {
		leases = append(leases, l)
	}
	return leases, ll.n
}

// len returns how many leases are held.
func (ll *leaseList) len() int {
	ll.mu.Lock()
	defer ll.mu.Unlock()
	return ll.n
}

// overdue returns how many leases are held for longer than the leak threshold.
func (ll *leaseList) overdue() (n int) {
	threshold := ll.core.set.leakThreshold
	if threshold <= 0 {
		return 0
	}
	now := ll.core.tracker.Now()
	ll.mu.Lock()
	defer ll.mu.Unlock()
	for l := ll.first; l != nil && now.Sub(l.start) >= threshold; l = l.next {
		n++ // the rest are younger
	}
	return n
}

// closed releases the leases of a client that was closed.
func (ll *leaseList) closed() {
	ll.mu.Lock()
	for _, t := range []*time.Timer{ll.timer, ll.growth} {
		if t != nil {
			t.Stop()
		}
	}
	ll.mu.Unlock()
	leases, _ := ll.oldest(math.MaxInt)
	for _, l := range leases {
		l.end(released)
	}
}

// infos describes up to n leases of the node, the oldest first.
func (ll *leaseList) infos(n int) []LeaseInfo {
	now := ll.core.tracker.Now()
	leases, _ := ll.oldest(n)
	out := make([]LeaseInfo, len(leases))
	for i, l := range leases {
		out[i] = l.info(now)
	}
	return out
}

type labelKey struct{}

// WithLabel names the leases that are acquired with the returned ctx, for Leases, leak reports and
// exhaustion errors.
func WithLabel(ctx context.Context, label string) context.Context {
	return context.WithValue(ctx, labelKey{}, label)
}
