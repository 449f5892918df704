package managed

import (
	"context"
	"iter"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// Watch is redis.Client's, with the retries of a command until fn is called: it waits for an
// unreachable server, and failures are retried. Once fn has been called, Watch repeats nothing, as in
// go-redis: call it again, for example after redis.TxFailedErr. CloseGracefully waits for it.
func (c *Client) Watch(ctx context.Context, fn func(*redis.Tx) error, keys ...string) error {
	c.unit.node.Enter(hooks.PoolMain)
	defer c.unit.node.Leave(hooks.PoolMain)
	if c.core.draining.Load() {
		return ErrShutdown
	}
	return watch(ctx, c.unit.retry, c.users, c.Client.Watch, fn, keys)
}

// Watch is redis.ClusterClient's; see Client.Watch.
func (c *ClusterClient) Watch(ctx context.Context, fn func(*redis.Tx) error, keys ...string) error {
	return c.many.watch(ctx, c.ClusterClient.Watch, fn, keys)
}

// Watch is redis.Ring's; see Client.Watch.
func (r *Ring) Watch(ctx context.Context, fn func(*redis.Tx) error, keys ...string) error {
	return r.many.watch(ctx, r.Ring.Watch, fn, keys)
}

type watchFunc = func(ctx context.Context, fn func(*redis.Tx) error, keys ...string) error

func (m *many) watch(ctx context.Context, do watchFunc, fn func(*redis.Tx) error, keys []string) error {
	m.calls.Add(1)
	defer m.calls.Add(-1)
	if m.core.draining.Load() {
		return ErrShutdown
	}
	counted := func(ctx context.Context, fn func(*redis.Tx) error, keys ...string) error {
		if m.core.closed.Load() {
			return redis.ErrClosed // a closed cluster client of go-redis returns nil
		}
		err := m.slots.Await(ctx)
		if err == nil {
			err = do(ctx, fn, keys...)
		}
		if err != nil && err != redis.Nil {
			if real := m.failed(err); !conntrack.IsEarly(err) {
				err = real
			}
		}
		return err
	}
	return watch(ctx, m.retry, nil, counted, fn, keys) // go-redis runs no hooks of a cluster around a WATCH
}

// watch runs a transaction with do. WATCH changes nothing beyond its connection, so it is repeated
// until fn is entered. Hooks of users run around the WATCH as a whole.
func watch(ctx context.Context, r *retry.Hook, users *conntrack.UserHooks, do watchFunc, fn func(*redis.Tx) error, keys []string) error {
	entered := false
	var around *watchHooks
	run := func(tx *redis.Tx) error {
		entered = true
		if len(keys) == 0 {
			conntrack.Watching(ctx, tx)
		}
		if err := around.end(nil); err != nil {
			return err
		}
		return fn(tx)
	}
	if len(keys) == 0 {
		return attempt.Reveal(do(ctx, run)) // nothing is sent before fn
	}
	args := make([]any, 1, len(keys)+1)
	args[0] = "watch"
	for _, k := range keys {
		args = append(args, k)
	}
	cmd := redis.NewStatusCmd(ctx, args...)
	ctxOf := conntrack.WatchContext
	if users.Any() {
		var err error
		if around, err = beginWatch(ctx, cmd, users); around == nil {
			return err
		}
		defer around.stop()
		ctx = around.ctx
		ctxOf = func(ctx context.Context) context.Context {
			return conntrack.WithoutUserHooks(conntrack.WatchContext(ctx), &around.over)
		}
	}
	var result error
	err := r.Process(attempt.With(ctx, attempt.Harmless), cmd, func(ctx context.Context, _ redis.Cmder) error {
		result = do(ctxOf(ctx), run, keys...)
		switch {
		case entered:
			result = attempt.Reveal(result)
			return nil
		case result == nil:
			return errSentRound{}
		}
		return result
	})
	if entered {
		return result
	}
	return around.end(err)
}

// errSentRound is the error of a WATCH that was redirected until go-redis gave up, while its slot
// moves: the node that is taking over the slot replies MOVED, because go-redis sends no ASKING
// ahead of a WATCH. ClusterClient.Watch then returns nil without having run its function.
type errSentRound struct{}

func (errSentRound) Error() string {
	return "TRYAGAIN the slot of the watched keys is moving, and each node sent the WATCH to another one"
}
func (errSentRound) RedisError() {}

var _ redis.Error = errSentRound{}

// watchHooks holds the hooks of users around a WATCH that is tried several times, and after which fn
// runs before the call is over. The hooks wait, as a coroutine, until its result is known.
type watchHooks struct {
	ctx    context.Context // the ctx that the hooks went on with
	err    error           // of the WATCH
	result error           // the error that the hooks returned for it
	over   atomic.Bool     // the hooks see what follows as separate calls
	next   func() (struct{}, bool)
	stop   func()
}

// beginWatch runs the hooks up to the WATCH. w is nil if they did not go on to it.
func beginWatch(ctx context.Context, cmd redis.Cmder, users *conntrack.UserHooks) (w *watchHooks, err error) {
	w = &watchHooks{}
	w.next, w.stop = iter.Pull(func(yield func(struct{}) bool) {
		watch := func(ctx context.Context, _ redis.Cmder) error {
			w.ctx = conntrack.KeepCall(ctx)
			if !yield(struct{}{}) {
				return context.Canceled // it panics
			}
			cmd.SetErr(w.err)
			return w.err
		}
		chain := users.Process(watch)
		if chain == nil {
			chain = watch
		}
		w.result = chain(conntrack.WithCall(ctx), cmd)
	})
	if _, reached := w.next(); !reached {
		return nil, w.result
	}
	return w, nil
}

// end passes the result of the WATCH to the hooks, and returns the error that they return. A nil
// watchHooks has no hooks.
func (w *watchHooks) end(err error) error {
	if w == nil {
		return err
	}
	w.err = err
	w.over.Store(true)
	for _, again := w.next(); again; _, again = w.next() {
	}
	return w.result
}
