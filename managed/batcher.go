package managed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// batcher sends commands of several callers together. It has no goroutine while
// there is nothing to send: the first command starts one, which sends batches
// until none is left.
type batcher struct {
	set  batching
	ctx  context.Context // of every batch
	pipe func() redis.Pipeliner
	log  *slog.Logger
	told func(batcherNews) // of what it observes, now and then
	calm time.Duration     // a batch that takes no longer is not stalled
	unit *unit             // whose pools it sends on

	stalled atomic.Int32 // batches that take much longer than others did

	mu      sync.Mutex
	open    *batch   // still to be filled
	full    []*batch // before it
	working int      // goroutines
	idle    []*worker
	last    int           // size of the batch before
	typical time.Duration // how long batches take, on average
	least   time.Duration // the shortest since the last news
	seen    int           // batches since then
	enough  chan struct{} // has one value when a batch is full, for those who wait for that
}

type batcherNews struct{ typical, least time.Duration }

// batch is closed under its batcher's lock before it is sent.
type batch struct {
	cmds  []redis.Cmder // nil where a caller gave up in time
	left  int           // those that are not nil
	taken bool
	began time.Time
	done  chan struct{}

	ctx    context.Context // from when it is taken
	cancel context.CancelFunc
}

// worker is what a goroutine that sends batches needs, to be used again. Its flags
// are under the batcher's lock.
type worker struct {
	pipe  redis.Pipeliner
	watch *time.Timer
	slow  bool // it takes too long
	busy  bool // a batch is under way
}

const (
	calm         = 20 * time.Millisecond
	maxStalled   = 8                     // batches under way while others stall
	newsEvery    = 64                    // batches
	patientTurns = 4                     // how often a worker lets others run before it takes a small batch
	abandonWait  = 10 * time.Millisecond // for a batch that ends because its caller has given up
	roomEvery    = time.Millisecond      // how often a worker looks whether a connection is free
)

// add puts a command into the batch that is sent next.
func (b *batcher) add(cmd redis.Cmder) (*batch, int) {
	b.mu.Lock()
	x := b.open
	if x == nil {
		x = &batch{cmds: make([]redis.Cmder, 0, max(b.last, 8)), began: time.Now(), done: make(chan struct{})}
		b.open = x
	}
	i := len(x.cmds)
	x.cmds = append(x.cmds, cmd)
	x.left++
	if i+1 >= b.set.size {
		b.full, b.open = append(b.full, x), nil
		select {
		case b.enough <- struct{}{}:
		default:
		}
	}
	start := b.working == 0 || b.working < b.set.concurrency && (i+1 >= max(8, b.last))
	if start {
		b.working++
	}
	b.mu.Unlock()
	if start {
		go b.work()
	}
	return x, i
}

// withdraw takes a command back, if it has not been taken yet.
func (b *batcher) withdraw(x *batch, i int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if x.taken {
		return false
	}
	x.cmds[i] = nil
	if x.left--; x.left == 0 { // nobody waits for it any more
		if x == b.open {
			b.open = nil
		} else {
			b.full = slices.DeleteFunc(b.full, func(y *batch) bool { return x == y })
		}
	}
	return true
}

// work sends batches until there are none.
func (b *batcher) work() {
	w := b.worker()
	for {
		x := b.take(w)
		if x == nil {
			return
		}
		b.send(w, x)
	}
}

func (b *batcher) worker() *worker {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.idle); n > 0 {
		w := b.idle[n-1]
		b.idle = b.idle[:n-1]
		return w
	}
	w := &worker{pipe: b.pipe()}
	w.watch = time.AfterFunc(time.Hour, func() { b.stall(w) })
	w.watch.Stop()
	return w
}

// take waits a little for the callers of the batch before, who are just being
// woken, to come back: else they would go on in two groups, each of which waits
// for the other. It returns nil when the goroutine is to end.
func (b *batcher) take(w *worker) *batch {
	if b.set.delay > 0 {
		b.linger()
	}
	b.awaitConnection()
	before := -1
	for turn := 0; ; turn++ {
		b.mu.Lock()
		n := 0
		if len(b.full) > 0 {
			n = b.set.size
		} else if b.open != nil {
			n = len(b.open.cmds)
		}
		if n >= b.last && n > 0 || turn >= patientTurns && n == before {
			x := b.pop()
			if x == nil {
				b.working--
				b.idle = append(b.idle, w)
				b.last = 0
			}
			b.mu.Unlock()
			return x
		}
		b.mu.Unlock()
		before = n
		runtime.Gosched()
	}
}

// awaitConnection waits until a batch that is sent finds an idle connection. Until then
// its callers can still take their commands back: what has been handed to go-redis
// cannot be. Batches that would wait for a server that is away, or for longer than
// PoolTimeout, are failed instead, unsent, and each caller goes on for itself.
func (b *batcher) awaitConnection() {
	u := b.unit
	if u.hasIdle() && u.node.Away() == nil {
		return
	}
	tick := time.NewTicker(roomEvery)
	defer tick.Stop()
	for limit := u.rdb.Options().PoolTimeout; ; {
		x := b.next()
		if x == nil || u.core.closed.Load() {
			return
		}
		if err := u.node.Away(); err != nil {
			b.fail(u.node.DialError(err))
			continue
		}
		if u.hasIdle() {
			return
		}
		if u.hasRoom() {
			err := u.node.Connect()
			if _, evicted := conntrack.RefusedFor(err); err != nil && !evicted {
				b.fail(err)
				continue
			}
			if u.hasIdle() {
				return
			}
		}
		if time.Since(x.began) >= limit {
			b.fail(u.noneFree(redis.ErrPoolTimeout, limit))
			continue
		}
		<-tick.C
	}
}

// next is the batch that is sent next, nil if there is none.
func (b *batcher) next() *batch {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.full) > 0 {
		return b.full[0]
	}
	return b.open
}

// fail ends the batch that is next with err. Nothing was sent.
func (b *batcher) fail(err error) {
	b.mu.Lock()
	x := b.pop()
	b.mu.Unlock()
	if x == nil {
		return
	}
	for _, cmd := range x.cmds {
		if cmd != nil {
			cmd.SetErr(err)
		}
	}
	x.cancel()
	close(x.done)
}

// linger waits until a batch is full, or its time is over.
func (b *batcher) linger() {
	t := time.NewTimer(b.set.delay)
	defer t.Stop()
	select {
	case <-b.enough:
	case <-t.C:
	}
}

func (b *batcher) pop() *batch {
	var x *batch
	if len(b.full) > 0 {
		x, b.full = b.full[0], b.full[1:]
	} else {
		x, b.open = b.open, nil
	}
	if x != nil {
		x.taken = true
		x.ctx, x.cancel = context.WithCancel(b.ctx)
		b.last = len(x.cmds)
	}
	return x
}

// send sends one batch. Each command has its result, or its error, afterwards.
func (b *batcher) send(w *worker, x *batch) {
	defer close(x.done)
	defer x.cancel()
	cmds := slices.DeleteFunc(x.cmds, func(c redis.Cmder) bool { return c == nil })
	if len(cmds) == 0 {
		return
	}
	began := b.begin(w)
	err := b.exec(w, x.ctx, cmds)
	b.end(w, time.Since(began), err == nil)
}

func (b *batcher) exec(w *worker, ctx context.Context, cmds []redis.Cmder) (err error) {
	defer func() {
		if p := recover(); p != nil { // of a user's hook; there is no caller that it could reach
			b.log.Error("lifeguard: panic while a batch was sent", "panic", p)
			err = &batchError{fmt.Errorf("panic in a hook: %v", p)}
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			w.pipe = b.pipe()
		}
	}()
	_ = w.pipe.BatchProcess(ctx, cmds...)
	if _, err = w.pipe.Exec(ctx); err != nil {
		tellApart(cmds)
		if ctx.Err() != nil {
			goOnAlone(cmds)
		}
	}
	return err
}

func (b *batcher) begin(w *worker) time.Time {
	b.mu.Lock()
	limit := max(b.calm, 8*b.typical)
	w.busy = true
	b.mu.Unlock()
	w.watch.Reset(limit)
	return time.Now()
}

func (b *batcher) end(w *worker, took time.Duration, ok bool) {
	w.watch.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	w.busy = false
	if w.slow {
		w.slow = false
		b.stalled.Add(-1)
	}
	if ok {
		b.observe(took)
	}
}

// stall is called when a batch takes too long: callers go their own way until it
// ends, and what waits behind it is sent by another goroutine.
func (b *batcher) stall(w *worker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !w.busy || w.slow {
		return // it has ended
	}
	w.slow = true
	b.stalled.Add(1)
	if (b.open != nil || len(b.full) > 0) && b.working < b.set.concurrency+maxStalled {
		b.working++
		go b.work()
	}
}

// observe notes how long a batch took. The lock is held.
func (b *batcher) observe(took time.Duration) {
	if b.typical == 0 {
		b.typical = took
	}
	b.typical += (took - b.typical) / 8
	if b.seen == 0 || took < b.least {
		b.least = took
	}
	if b.seen++; b.seen >= newsEvery {
		b.seen = 0
		b.told(batcherNews{b.typical, b.least})
	}
}

// batchError is the error of a command whose batch failed for the sake of
// another one.
type batchError struct{ err error }

func (e *batchError) Error() string {
	return "lifeguard/managed: the batch was ended by another command: " + e.err.Error()
}
func (e *batchError) Unsent() bool { return false }

// giveUp is called when the caller of a command that was taken waits no longer. A batch
// that still waits for a connection ends, unsent; one that was written goes on. It
// reports whether the command has its result.
func (x *batch) giveUp() bool {
	x.cancel()
	patience := time.NewTimer(abandonWait)
	defer patience.Stop()
	select {
	case <-x.done:
		return true
	case <-patience.C:
		return false
	}
}

// errGivenUp is the error of a command whose batch ended, unsent, when one of its callers
// gave up. The others go on by themselves.
type errGivenUp struct{}

func (errGivenUp) Error() string {
	return "lifeguard/managed: the batch was not sent: the ctx of one of its callers ended first"
}
func (errGivenUp) Unsent() bool { return true }

func goOnAlone(cmds []redis.Cmder) {
	for _, cmd := range cmds {
		if err := cmd.Err(); errors.Is(err, context.Canceled) && retry.OutcomeOf(err) == retry.NotSent {
			cmd.SetErr(errGivenUp{})
		}
	}
}

// tellApart finds a reply that could not be read: go-redis gives its error to all
// commands behind it, too, which have not been answered.
func tellApart(cmds []redis.Cmder) {
	guilty := false
	for _, cmd := range cmds {
		err := cmd.Err()
		if err == nil || !strings.HasPrefix(err.Error(), "redis: can't parse") {
			continue
		}
		if guilty {
			cmd.SetErr(&batchError{err})
		}
		guilty = true
	}
}

// unsure: the first attempt may have been carried out, and err is of one that was
// not made.
func unsure(first, err error) bool {
	return retry.OutcomeOf(first) == retry.Unknown && retry.OutcomeOf(err) == retry.NotSent && !errors.Is(err, retry.ErrUnknownOutcome)
}
