package managed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/slotmap"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// many is the common part of clients of several nodes: it has a unit for each node.
type many struct {
	core  *core
	retry *retry.Hook
	own   *handle
	like  *redis.Options

	users conntrack.UserHooks // the user's hooks

	client redis.UniversalClient
	slots  *slotmap.Map // nil for a ring
	reload func()
	calls  atomic.Int64           // commands in progress
	master atomic.Pointer[string] // with Sentinels: its address at the last check
}

func newMany(like *redis.Options, opts []Option, more ...retry.Option) (*many, error) {
	m := &many{like: like, own: &handle{}}
	core, err := newCore(opts, like, true)
	if err != nil {
		return nil, err
	}
	m.core = core
	m.retry = core.retryHook(like, m.repeats, more...)
	attempt.InternalsOf(m.retry).SetFacts(core.tracker.Cut(), func() int { return len(core.units()) })
	core.calls = m.calls.Load
	core.takenOver = m.takenOver
	core.redirected = m.redirected
	return m, nil
}

// node makes the client of one node. go-redis calls it at the first use of a node.
func (m *many) node(opt *redis.Options, make func(*redis.Options) *redis.Client, setup chan struct{}) *redis.Client {
	u := &unit{core: m.core, retry: m.retry, make: make, inner: true, setup: setup, around: &m.users}
	if err := u.build(*opt); err != nil {
		panic(err) // as redis.NewClient does
	}
	if n := m.core.set.blockingPool; n > 0 {
		if err := u.addBlockingPool(*opt, n); err != nil {
			panic(err)
		}
	}
	return u.rdb
}

// setUp is called when a cluster has set up the client of a node. With RouteByLatency, go-redis sends
// PINGs meanwhile: a data race (newClusterNode and NewClusterClient, osscluster.go), but for the dial,
// which waits.
func (m *many) setUp(node *redis.Client) {
	if u, err := m.unit(node); err == nil && u.setup != nil {
		close(u.setup)
	}
}

// attach adds the client that go-redis made.
func (m *many) attach(rdb redis.UniversalClient, reload func()) error {
	m.client, m.reload = rdb, reload
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		m.slots = slotmap.New(m.core.ctx, cluster, m.core.closed.Load)
	}
	m.core.closer, m.core.insideClosed = rdb.Close, m.insideClosed
	rdb.AddHook(&outer{m})
	err := m.core.watch(m.retry.Stats)
	if err != nil {
		_ = m.core.close()
	}
	return err
}

// stale asks for a new slot map when a failure says that the old one may be wrong. go-redis itself
// does that once a minute, and on MOVED. It loads one map at a time, 200 ms apart.
func (m *many) stale(r retry.Reason) {
	switch r {
	case retry.ReasonDial, retry.ReasonLost, retry.ReasonReadOnly, retry.ReasonClusterDown, retry.ReasonMasterDown, retry.ReasonMoved:
		if m.reload != nil {
			m.reload()
		}
	}
}

// addHook adds a user's hook to the client of several nodes.
func (m *many) addHook(h redis.Hook) {
	m.users.Add(h)
	m.client.AddHook(conntrack.DialOnly(h)) // makes go-redis call outer again
}

// outer is the outermost hook of a client of several nodes.
type outer struct{ m *many }

func (o *outer) DialHook(redis.DialHook) redis.DialHook { return nil }

func (o *outer) ProcessHook(send redis.ProcessHook) redis.ProcessHook {
	m := o.m
	next := func(ctx context.Context, cmd redis.Cmder) error {
		if err := m.slots.Await(ctx); err != nil {
			return err
		}
		return send(ctx, cmd)
	}
	run := func(ctx context.Context, cmd redis.Cmder) error {
		m.calls.Add(1)
		defer m.calls.Add(-1)
		if m.core.draining.Load() {
			return ErrShutdown
		}
		err := m.retry.Process(ctx, cmd, next)
		if err != nil && err != redis.Nil {
			err = m.failed(err)
			m.blame(err, (*conntrack.Node).CallFailed)
		}
		return err
	}
	users := m.users.Process(func(ctx context.Context, cmd redis.Cmder) error {
		err := run(ctx, cmd)
		if err != nil {
			cmd.SetErr(err)
		}
		return err
	})
	return func(ctx context.Context, cmd redis.Cmder) error {
		ctx, skip := conntrack.SkipsUserHooks(ctx)
		if users == nil || skip {
			return run(ctx, cmd)
		}
		return users(attempt.Single(ctx), cmd)
	}
}

func (o *outer) ProcessPipelineHook(send redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	m := o.m
	next := func(ctx context.Context, cmds []redis.Cmder) error {
		if err := m.slots.Await(ctx); err != nil {
			return command.SetErrs(cmds, err)
		}
		return send(ctx, cmds)
	}
	run := func(ctx context.Context, cmds []redis.Cmder) error {
		m.calls.Add(1)
		defer m.calls.Add(-1)
		if m.core.draining.Load() {
			return command.SetErrs(cmds, ErrShutdown)
		}
		err := m.retry.Pipeline(ctx, cmds, next)
		if err == nil {
			return nil
		}
		for _, cmd := range cmds {
			if e := cmd.Err(); e != nil && e != redis.Nil {
				cmd.SetErr(m.failed(e))
			}
		}
		err = m.failed(err)
		m.blame(err, (*conntrack.Node).CallFailed)
		return err
	}
	if users := m.users.Pipeline(run); users != nil {
		return users
	}
	return run
}

// failed turns an error into the one for the caller.
func (m *many) failed(err error) error {
	err = attempt.Reveal(err)
	switch {
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, context.Canceled), errors.Is(err, ErrShutdown):
		// It says nothing about the map, and loading the map would need a connection, too.
	case retry.OutcomeOf(err) != retry.Answered:
		m.stale(retry.ReasonDial)
	default:
		m.stale(retry.Refusal(err))
	}
	return err
}

// repeats is called when a call is tried again.
func (m *many) repeats(a retry.Attempt) {
	m.stale(a.Reason)
	if a.Number == 1 {
		m.blame(a.Err, (*conntrack.Node).CallWaits)
	}
}

// blame calls count for the node whose connection err comes from, if it is of one.
func (m *many) blame(err error, count func(*conntrack.Node)) {
	var failed *hooks.ConnError
	if !errors.As(err, &failed) {
		return
	}
	if u, err := m.at(failed.Node); err == nil {
		count(u.node)
	}
}

// unit returns the unit of a node's client.
func (m *many) unit(rdb *redis.Client) (*unit, error) {
	for _, u := range m.core.units() {
		if u.rdb == rdb {
			return u, nil
		}
	}
	return nil, errors.New("lifeguard/managed: this node's client is not managed: it was not made by NewClient of the options")
}

// at returns the unit of an address.
func (m *many) at(addr string) (*unit, error) {
	for _, u := range slices.Backward(m.core.units()) { // the newest one, if the node left and came back
		if u.node.Addr() == addr && u.main() {
			return u, nil
		}
	}
	return nil, fmt.Errorf("lifeguard/managed: no node at %s is known to the client", addr)
}

// AcquireNode leases a connection to the node at addr, as ConnInfo.Node names it.
// The node must be known to the client.
func (m *many) AcquireNode(ctx context.Context, addr string) (*Conn, error) {
	u, err := m.at(addr)
	if err != nil {
		return nil, err
	}
	return u.acquire(ctx, m.own, u.rdb, false)
}

// CloseGracefully closes the client gracefully; see Client.CloseGracefully.
func (m *many) CloseGracefully(ctx context.Context) error { return m.core.drain(ctx, nil) }

// warm opens n connections on each of the units.
func (m *many) warm(ctx context.Context, units []*unit, n int) (int, error) {
	got := 0
	var first error
	for _, u := range units {
		k, err := u.warm(ctx, u.rdb, n)
		got += k
		if err != nil && first == nil {
			first = err
		}
	}
	return got, first
}
