package managed

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/command"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redisopt"
)

// WithBlockingPool gives blocking commands (BLPOP, XREAD BLOCK, WAIT ...) a separate pool of up to
// n connections, so that they do not occupy those that other commands need. Default: none; then a
// warning is logged when they occupy more than half of the pool. It opens nothing before the first
// blocking command. Pipelines, transactions, leases and Watch do not use it. n below 1 is an error.
func WithBlockingPool(n int) Option {
	return func(s *settings) error {
		if n < 1 {
			return bad("WithBlockingPool", n, "must be at least 1")
		}
		s.blockingPool = n
		return nil
	}
}

// blockers handles the blocking commands of one client.
type blockers struct {
	unit   atomic.Pointer[unit] // their separate pool, nil without WithBlockingPool
	of     *unit                // whose pool this is, nil for a main one
	held   atomic.Int64
	warned atomic.Int64 // ns on the tracker's clock
}

// main reports whether the unit is not a pool for blocking commands.
func (u *unit) main() bool { return u.blocking.of == nil }

// warnEvery limits how often the warning about blocking commands is logged.
const warnEvery = 10 * time.Minute

// processBlocking runs a blocking command of the client itself.
func (u *unit) processBlocking(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
	b := &u.blocking
	if own := b.unit.Load(); own != nil {
		u.node.Leave(hooks.PoolMain) // it is counted there already
		defer u.node.Enter(hooks.PoolMain)
		return own.rdb.Process(ctx, cmd)
	}
	held := b.held.Add(1)
	defer b.held.Add(-1)
	if size := u.rdb.Options().PoolSize; 2*held > int64(size) {
		now := int64(u.core.tracker.Elapsed())
		if last := b.warned.Load(); (last == 0 || now-last > int64(warnEvery)) && b.warned.CompareAndSwap(last, max(now, 1)) {
			u.core.set.log.Warn("lifeguard: blocking commands hold more than half of the pool; give them one of their own with WithBlockingPool",
				"blocking", held, "pool_size", size, "node", u.node.Addr())
		}
	}
	if u.inner {
		return next(ctx, cmd)
	}
	return u.retry.Process(ctx, cmd, next)
}

// addBlockingPool gives the unit a second client for its blocking commands.
func (u *unit) addBlockingPool(opt redis.Options, n int) error {
	redisopt.Blocking(&opt, n)
	b := &unit{core: u.core, retry: u.retry, make: u.make, inner: u.inner}
	b.blocking.of = u
	if err := b.build(opt); err != nil {
		return err
	}
	b.hook.Client = nil // otherwise it would come back here
	b.hook.Uncounted = true
	if u.inner {
		b.hook.Process = nil // the hook around the cluster or ring sees its commands, and needs their errors as they are
	}
	u.blocking.unit.Store(b) // maintenance may read u already
	if !u.inner {
		u.core.pollInside() // go-redis's client does not close it
	}
	return nil
}

// addBlockingFailover is addBlockingPool for a server that is found through Sentinels.
func (u *unit) addBlockingFailover(opt redis.FailoverOptions, n int) error {
	redisopt.BlockingFailover(&opt, n)
	like, err := redisopt.OfFailover(&opt)
	if err != nil {
		return err
	}
	u.core.set.buffers.resize(like)
	b := &unit{core: u.core, retry: u.retry}
	b.blocking.of = u
	b.on(u.core.tracker.NewFailoverNode(like, opt.SentinelAddrs...))
	rdb, err := redisopt.Construct(func() *redis.Client { return redis.NewFailoverClient(redisopt.Failover(&opt, like)) })
	if err != nil {
		return err
	}
	b.bind(rdb, 0)
	b.hook.Client = nil
	b.hook.Uncounted = true
	u.blocking.unit.Store(b)
	u.core.pollInside()
	return nil
}

// blockWithin makes h, the hook of a clone with another timeout, use the pool for blocking commands
// with that timeout.
func (u *unit) blockWithin(h *conntrack.Hook, d time.Duration) {
	b := u.blocking.unit.Load()
	if b == nil {
		return
	}
	clone := sync.OnceValue(func() *redis.Client {
		c := b.rdb.WithTimeout(d)
		b.hook.Install(c, nil, nil)
		return c
	})
	h.Client = func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
		if !command.MayBlock(cmd) {
			return u.retry.Process(ctx, cmd, next)
		}
		u.node.Leave(hooks.PoolMain) // it is counted there already
		defer u.node.Enter(hooks.PoolMain)
		return clone().Process(ctx, cmd)
	}
}
