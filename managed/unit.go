package managed

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
	"github.com/lifeguard-redis/lifeguard/internal/lease"
	"github.com/lifeguard-redis/lifeguard/internal/redisopt"
	"github.com/lifeguard-redis/lifeguard/internal/source"
	"github.com/lifeguard-redis/lifeguard/internal/standin"
	"github.com/lifeguard-redis/lifeguard/internal/upkeep"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// unit is a go-redis client of one server with everything that belongs to it.
type unit struct {
	core  *core
	rdb   *redis.Client
	node  *conntrack.Node
	keep  upkeep.Node // its maintenance
	hook  *conntrack.Hook
	retry *retry.Hook
	make  func(*redis.Options) *redis.Client // nil: redis.NewClient
	made  *redis.Client                      // what make returned: its hooks run inside ours
	inner bool                               // a node of a cluster or ring: an outer hook repeats
	setup chan struct{}                      // closed when its cluster has set it up; nil: it needs none

	users  *conntrack.UserHooks // hooks of the user, around calls of the client; nil for a node of a cluster or ring
	around *conntrack.UserHooks // of a node: the hooks of the whole client, around commands on leases

	leases   lease.Pool
	pool     source.Pool
	blocking blockers

	wasMaster bool // according to other nodes of the cluster, when it was last unresponsive
}

// newUnit makes a unit from a user's options, which it does not change.
func (c *core) newUnit(opt *redis.Options) (*unit, error) {
	u := &unit{core: c, users: &conntrack.UserHooks{}}
	u.retry = c.retryHook(opt, u.repeating)
	if err := u.build(*opt); err != nil {
		return nil, err
	}
	c.insideClosed = u.insideClosed
	if n := c.set.blockingPool; n > 0 {
		if err := u.addBlockingPool(*opt, n); err != nil {
			_ = u.rdb.Close()
			return nil, err
		}
	}
	return u, nil
}

// build makes the go-redis client. go-redis's own handling of age, idle time and retries is
// disabled: it is done here.
func (u *unit) build(opt redis.Options) error {
	minIdle := opt.MinIdleConns
	redisopt.DisableOwn(&opt)
	u.core.set.buffers.resize(&opt)
	u.on(u.core.tracker.NewNode(&opt))
	u.node.DialAfter(u.setup)
	if u.inner {
		u.node.NoWaiting()
	}
	make := u.make
	if make == nil {
		make = redis.NewClient
	}
	rdb, err := redisopt.Construct(func() *redis.Client { return make(&opt) })
	if err != nil {
		return err
	}
	if u.make != nil {
		// It may have hooks, and ours must be outside of them. A clone shares its pools and has none.
		u.made = rdb
		rdb = u.made.WithTimeout(u.made.Options().ReadTimeout)
		rdb.Options().WriteTimeout = u.made.Options().WriteTimeout
	}
	u.bind(rdb, minIdle)
	return nil
}

// on sets the unit's node, before anything is dialed.
func (u *unit) on(node *conntrack.Node) {
	u.node = node
	u.leases.Client, u.leases.Node, u.leases.Refused = &u.core.leases, node, u.leaseRefused
	node.OnDialTook(u.pool.Dial.Record)
}

// bind completes the unit with its client.
func (u *unit) bind(rdb *redis.Client, minIdle int) {
	u.rdb = rdb
	u.hook = &conntrack.Hook{Node: u.node, Inner: u.inner, Failed: u.failed, Took: u.pool.Took}
	p := &u.pool
	p.Client, p.Tracker, p.Node, p.Leases, p.Upkeep, p.Blocking = rdb, u.core.tracker, u.node, &u.leases, &u.keep, !u.main()
	p.Breaker, u.hook.Kept = attempt.InternalsOf(u.retry), attempt.InternalsOf(u.retry).Kept
	u.hook.Install(rdb, u.users, u.around)
	if u.made != nil {
		u.made.AddHook(conntrack.DialOnly(u.hook)) // the pools dial by its hooks
		rdb.AddHook(conntrack.Unvisited(standin.ForNode(u.made)))
	}
	if u.inner {
		u.hook.Client, u.hook.Process = u.processInner, processAlone
		node := u.retry.Node(u.node.Addr())
		p.Breaker = attempt.InternalsOf(node)
		rdb.AddHook(conntrack.Unvisited(node))
	} else {
		u.hook.Process, u.hook.Pipeline = attempt.InternalsOf(u.retry).Conn, attempt.InternalsOf(u.retry).Pipeline
		u.hook.Client = func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
			if command.MayBlock(cmd) {
				return u.processBlocking(ctx, cmd, next)
			}
			return u.retry.Process(ctx, cmd, next)
		}
	}
	u.node.Bind(rdb)
	k := &u.keep
	k.Tracked, k.MinIdle, k.Inner, k.Blocking = u.node, minIdle, u.inner, !u.main()
	k.Leases, k.MaxClients, k.Dropped, k.AtCheck = u.leases.Len, u.fits, u.dropped, u.core.atCheck
	if takenOver := u.core.takenOver; u.inner && takenOver != nil {
		k.Unanswered = func() { takenOver(u) }
	}
	u.core.add(u)
}

// dropped is called when the node has left the cluster.
func (u *unit) dropped() {
	if b := u.blocking.unit.Load(); b != nil {
		_ = b.rdb.Close() // go-redis does not know of it
		b.keep.Stop()
		b.node.Close()
		u.core.remove(b)
	}
	u.core.remove(u)
}

// tablePatience is how long a cluster waits for a connection on which to ask a node for the command
// table.
const tablePatience = 20 * time.Millisecond

// processInner runs a command on a node of a cluster or ring.
func (u *unit) processInner(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
	if command.MayBlock(cmd) {
		return u.processBlocking(ctx, cmd, next)
	}
	if u.asksUnresponsive(cmd) {
		return errNoAnswer{}
	}
	if ctx.Done() == nil && strings.EqualFold(cmd.Name(), "command") {
		// go-redis asks for the command table without the ctx of the command that it is about to
		// send; without an answer it sends the command anyway (cmdsInfo, osscluster.go).
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, tablePatience)
		defer cancel()
	}
	return next(ctx, cmd)
}

// processAlone runs a command of a Conn or a transaction on such a node. go-redis does not repeat a
// transaction, whatever it returns; but it does repeat its WATCH.
func processAlone(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
	if cmd.Name() != "watch" {
		ctx = attempt.With(ctx, attempt.Alone)
	}
	return next(ctx, cmd)
}

// failed turns the error of a call of that duration into the one for the caller.
func (u *unit) failed(ctx context.Context, err error, after time.Duration) error {
	switch {
	case isPoolTimeout(err):
		return u.noneFree(err, u.rdb.Options().PoolTimeout)
	case u.gaveUpQueueing(ctx, err):
		u.pool.GaveUp(after)
		return u.noneFree(err, after)
	case u.gaveUpDialing(ctx, err):
		return u.node.DialError(err)
	case retry.Refusal(err) == retry.ReasonReadOnly:
		u.keep.ReadOnly()
	}
	return err
}

// isPoolTimeout reports whether err is that of the client's own pool. The user's Dialer, OnConnect and
// the like may use other clients, and return theirs.
func isPoolTimeout(err error) bool {
	var other interface{ Unsent() bool }
	return errors.Is(err, redis.ErrPoolTimeout) && !errors.As(err, &other)
}

// gaveUpQueueing reports whether err says that the caller's ctx ended while it waited
// for a connection of the pool to become free, as opposed to one being dialed.
func (u *unit) gaveUpQueueing(ctx context.Context, err error) bool {
	var ce *hooks.ConnError
	cause := ctx.Err()
	if cause != nil && ctx.Value(attempt.RefusedKey{}) != nil && u.node.Unreachable() != nil {
		return false // it waits for the node
	}
	return cause != nil && errors.Is(err, cause) && retry.OutcomeOf(err) == retry.NotSent && !errors.As(attempt.Reveal(err), &ce) && u.full()
}

// gaveUpDialing reports whether err is nothing but the end of the caller's ctx, which came while
// connections were being dialed. To a cluster or ring it must stay what it is.
func (u *unit) gaveUpDialing(ctx context.Context, err error) bool {
	return errtext.Same(err, ctx.Err()) && !u.inner && u.node.Dialing() > 0
}

// noneFree makes the error of a caller that got no connection.
func (u *unit) noneFree(err error, waited time.Duration) error {
	err = u.exhausted(err, waited)
	if u.inner {
		err = conntrack.Hide(err) // a cluster would wait again and again
	}
	return err
}

// full reports whether every slot of the main pool is taken, or more callers want one than there
// are. Pipelines that find none in their own pool use the main pool, too.
func (u *unit) full() bool {
	opt := u.rdb.Options()
	n := u.node.Main()
	if n.Idle == 0 && n.InUse >= opt.PoolSize {
		return true
	}
	want := u.node.InFlight(hooks.PoolMain)
	if more := u.node.InFlight(hooks.PoolPipeline) - redisopt.PipelinePoolSize(opt); more > 0 {
		want += more
	}
	return want > opt.PoolSize
}

// hasIdle reports whether a pipeline finds an idle connection.
func (u *unit) hasIdle() bool {
	return u.node.Pipeline().Idle > 0 || u.pipelinesInMain() && u.node.Main().Idle > 0
}

// pipelinesInMain reports whether pipelines have no pool of their own.
func (u *unit) pipelinesInMain() bool { return redisopt.PipelinePoolSize(u.rdb.Options()) == 0 }

// hasRoom reports whether a pipeline finds a slot at once.
func (u *unit) hasRoom() bool {
	opt := u.rdb.Options()
	if size := redisopt.PipelinePoolSize(opt); size > 0 {
		return u.node.Pipeline().InUse < size
	}
	return u.node.Main().InUse < opt.PoolSize
}

// leaseRefused is called when the node refused a command of a lease.
func (u *unit) leaseRefused(reason retry.Reason, err error) {
	if reason == retry.ReasonReadOnly {
		u.keep.ReadOnly()
	}
	if (reason == retry.ReasonReadOnly || reason == retry.ReasonMoved) && u.core.redirected != nil {
		u.core.redirected(u, err)
	}
}

// repeating is called for each repetition.
func (u *unit) repeating(a retry.Attempt) {
	if a.Reason == retry.ReasonReadOnly {
		u.keep.ReadOnly() // the next attempt must get a new connection
	}
	if a.Number == 1 && a.Reason == retry.ReasonDial && a.Wait > 0 {
		u.node.CallWaits() // of a master that Sentinels name; calls to others wait at the gate, which counts them
	}
}

// close closes the clients.
func (u *unit) close() error {
	u.node.Close()
	err := u.rdb.Close()
	if b := u.blocking.unit.Load(); b != nil {
		if e := b.close(); err == nil {
			err = e
		}
	}
	return err
}
