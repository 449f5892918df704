package batch

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// batcher sends commands of several callers together. While there is nothing to send it has no
// goroutine: the first command starts one, which sends batches until there are none left.
type batcher struct {
	set        Settings
	ctx        context.Context // of every batch
	pipe       func() redis.Pipeliner
	log        *slog.Logger
	adjust     func(timing)  // called with measurements now and then
	stallAfter time.Duration // a batch that takes longer is stalled
	node       Node          // destination of the batches

	stalled atomic.Int32 // batches that take much longer than previous ones

	mu      sync.Mutex
	open    *batch   // accepts more commands
	full    []*batch // waiting to be sent before it
	working int      // goroutines
	idle    []*worker
	last    int           // size of the previous batch
	sent    int           // commands of the batches in progress
	atOnce  int           // maximum number of batches in progress
	typical time.Duration // average duration of batches
	least   time.Duration // shortest duration since adjust was called
	seen    int           // number of batches since then
	carried int           // number of commands in them
	enough  chan struct{} // receives a value when a batch is full, for those who wait for that
}

// timing says how long batches take.
type timing struct{ typical, least time.Duration }

// worker is the reusable state of a goroutine that sends batches. Its flags are guarded by the
// batcher's lock.
type worker struct {
	pipe  redis.Pipeliner
	woken chan struct{} // receives a value when the last caller of a batch has woken up
	slow  bool          // the batch in progress takes too long
	busy  bool          // a batch is in progress
	began time.Time     // when it began
	limit time.Duration // how long it may take

	// watch goes on while batches follow each other: to set and stop it for each of them takes 1
	// to 2 % of the CPU time.
	watch   *time.Timer
	watched bool // it runs
}

func (a *Adaptive) newBatcher(node Node) *batcher {
	return &batcher{set: a.cfg.Settings, ctx: a.ctx, pipe: a.Pipeline, log: a.cfg.Log, adjust: a.adjust, stallAfter: stallAfter, node: node, atOnce: max(a.cfg.Settings.Concurrency, 1), enough: make(chan struct{}, 1)}
}

const (
	stallAfter  = 20 * time.Millisecond
	maxStalled  = 8                      // batches in progress while others are stalled
	adjustEvery = 64                     // batches
	mostAtOnce  = 4                      // batches in progress while they mostly wait for the network
	nearby      = 100 * time.Microsecond // batches that take longer mostly wait, if they also take
	directCost  = 15 * time.Microsecond  // longer for each command than a direct call takes CPU time
)

// add adds a command to the batch that is sent next.
func (b *batcher) add(cmd redis.Cmder) (*batch, int) {
	b.mu.Lock()
	x := b.open
	if x == nil {
		x = &batch{cmds: make([]redis.Cmder, 0, max(b.last, 8)), began: time.Now(), done: make(chan struct{})}
		b.open = x
	}
	i := len(x.cmds)
	x.cmds = append(x.cmds, cmd)
	x.waiting++
	if i+1 >= b.set.Size {
		b.full, b.open = append(b.full, x), nil
		select {
		case b.enough <- struct{}{}:
		default:
		}
	}
	start := b.working == 0 || b.working < b.atOnce && i+1 >= b.worthwhile(i+1)
	if start {
		b.working++
	}
	b.mu.Unlock()
	if start {
		go b.work()
	}
	return x, i
}

// worthwhile returns how many commands make another batch worthwhile beside those in progress, when
// that many wait. The lock is held.
func (b *batcher) worthwhile(waiting int) int {
	if b.set.Concurrency > 0 {
		return max(8, b.last)
	}
	return (b.sent + waiting + b.atOnce - 1) / b.atOnce // an equal share for each batch
}

// withdraw removes a command from a batch that has not been taken yet.
func (b *batcher) withdraw(x *batch, i int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if x.taken {
		return false
	}
	x.cmds[i] = nil
	if x.waiting--; x.waiting == 0 { // nobody waits for it any more
		if x == b.open {
			b.open = nil
		} else {
			b.full = slices.DeleteFunc(b.full, func(y *batch) bool { return x == y })
		}
	}
	return true
}

// work sends batches until there are none left. After each it waits for the callers of that batch to
// wake up, so that those which call again at once are in the next one: otherwise they would form
// two groups, each of which waits for the other.
func (b *batcher) work() {
	w := b.worker()
	for {
		x := b.take(w)
		if x == nil {
			return
		}
		b.send(w, x)
		if x.waiting > 0 {
			<-w.woken
		}
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
	w := &worker{pipe: b.pipe(), woken: make(chan struct{}, 1)}
	w.watch = time.AfterFunc(time.Hour, func() { b.look(w) })
	w.watch.Stop()
	return w
}

// take returns the next batch, nil when the goroutine must end.
func (b *batcher) take(w *worker) *batch {
	if b.set.Delay > 0 {
		b.linger()
	}
	b.awaitConnection()
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.pop()
	if x == nil {
		b.working--
		b.idle = append(b.idle, w)
		b.last = 0
		return nil
	}
	x.woken = w.woken
	return x
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
		x.asleep.Store(int32(x.waiting))
		x.ctx, x.cancel = context.WithCancel(b.ctx)
		b.last = len(x.cmds)
	}
	return x
}

// send sends one batch. Afterwards each command has its result or its error.
func (b *batcher) send(w *worker, x *batch) {
	defer close(x.done)
	defer x.cancel()
	cmds := slices.DeleteFunc(x.cmds, func(c redis.Cmder) bool { return c == nil })
	if len(cmds) == 0 {
		return
	}
	b.begin(w, len(cmds))
	err := b.exec(w, x.ctx, cmds)
	b.end(w, len(cmds), err == nil)
}

func (b *batcher) exec(w *worker, ctx context.Context, cmds []redis.Cmder) (err error) {
	defer func() {
		if p := recover(); p != nil { // of a user's hook; there is no caller that it could reach
			b.log.Error("lifeguard: panic while a batch was sent", "panic", p)
			err = command.SetErrs(cmds, &panicError{p})
			w.pipe = b.pipe()
		}
	}()
	_ = w.pipe.BatchProcess(ctx, cmds...)
	if _, err = w.pipe.Exec(ctx); err != nil && ctx.Err() != nil {
		goOnAlone(cmds)
	}
	return err
}

func (b *batcher) begin(w *worker, size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent += size
	w.busy, w.began, w.limit = true, time.Now(), max(b.stallAfter, 8*b.typical)
	if !w.watched {
		w.watched = true
		w.watch.Reset(b.stallAfter)
	}
}

func (b *batcher) end(w *worker, size int, ok bool) {
	took := time.Since(w.began)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent -= size
	w.busy = false
	if w.slow {
		w.slow = false
		b.stalled.Add(-1)
	}
	if ok {
		b.observe(size, took)
	}
}

// look is called now and then while batches are sent. If one takes too long, calls are sent directly
// until it ends, and another goroutine sends the batches behind it.
func (b *batcher) look(w *worker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.watched = false
	if !w.busy || w.slow {
		return
	}
	if left := w.limit - time.Since(w.began); left > 0 {
		w.watched = true
		w.watch.Reset(min(left, b.stallAfter))
		return
	}
	w.slow = true
	b.stalled.Add(1)
	if (b.open != nil || len(b.full) > 0) && b.working < b.atOnce+maxStalled {
		b.working++
		go b.work()
	}
}

// observe records how long a batch took. The lock is held.
func (b *batcher) observe(size int, took time.Duration) {
	if b.typical == 0 {
		b.typical = took
	}
	b.typical += (took - b.typical) / 8
	if b.seen == 0 || took < b.least {
		b.least = took
	}
	b.carried += size
	if b.seen++; b.seen >= adjustEvery {
		if b.set.Concurrency == 0 {
			b.atOnce = 1
			if b.least >= max(nearby, directCost*time.Duration(b.carried/b.seen)) {
				b.atOnce = mostAtOnce
			}
		}
		b.seen, b.carried = 0, 0
		b.adjust(timing{b.typical, b.least})
	}
}
