package managed

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/callsite"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/lease"
	"github.com/lifeguard-redis/lifeguard/internal/standin"
	"github.com/lifeguard-redis/lifeguard/internal/upkeep"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// core is what all handles and clones of one client share, whatever kind of client it is. Client,
// ClusterClient and Ring embed it for their common methods.
type core struct {
	set          settings
	tracker      *conntrack.Tracker
	keeper       *upkeep.Keeper
	closer       func() error       // closes go-redis's client
	insideClosed func() bool        // whether that one is closed
	calls        func() int64       // commands in progress outside of nodes, nil for none
	takenOver    func(*unit)        // handles an unresponsive node of a cluster, nil elsewhere
	redirected   func(*unit, error) // handles a lease's MOVED, nil elsewhere
	atCheck      func()             // called with each check of a node, nil elsewhere
	used         atomic.Bool        // the first node has been used
	polling      atomic.Bool        // see pollInside
	warned       atomic.Bool        // it was logged that the pools do not fit into the limit
	draining     atomic.Bool        // CloseGracefully was called
	closed       atomic.Bool
	batchers     sync.Map // go-redis's AutoPipeliners, made by Batched

	standIns struct { // made by Instrument
		sync.Mutex
		all []*standin.StandIn
	}

	warnedServer atomic.Bool // it was logged that they do not fit into the server
	leases       lease.Client

	monitor *monitor.Monitor
	retries func() retry.Stats

	ctx  context.Context // ends when the client is closed
	stop context.CancelFunc

	mu  sync.Mutex
	all []*unit
}

// newCore makes the core of a client, before its go-redis client exists. several: the client has
// several nodes, and go-redis repeats commands regardless of its options.
func newCore(opts []Option, opt *redis.Options, several bool) (*core, error) {
	c := &core{set: defaults()}
	for _, o := range opts {
		if o == nil {
			return nil, errors.New("lifeguard/managed: a nil Option was given")
		}
		if err := o(&c.set); err != nil {
			return nil, err
		}
	}
	c.set.fill(opt)
	c.tracker = conntrack.NewTracker(conntrack.Config{OnEvent: c.set.onEvent, Logger: c.set.log, Now: c.set.now, Wall: c.set.wall,
		ConnLimit: c.set.connLimit, Opaque: several})
	c.tracker.SetValidateAfter(c.set.validateAfter)
	c.leases.Tracker, c.leases.Threshold, c.leases.Stacks = c.tracker, c.set.leakThreshold, callsite.Mode(c.set.stacks)
	c.leases.Closed, c.leases.Log.Logger = c.closed.Load, c.set.log
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.keeper = upkeep.New(upkeep.Config{Context: c.ctx, Tracker: c.tracker, Logger: c.set.log, Jitter: c.set.maxAgeJitter,
		Detection: upkeep.Detection(c.set.detection), Nodes: c.maintained})
	c.keeper.SetMaxAge(c.set.maxAge)
	c.keeper.SetMaxIdle(c.set.maxIdle)
	c.keeper.SetHeartbeat(c.set.heartbeat)
	return c, nil
}

// add adds a unit and starts its maintenance.
func (c *core) add(u *unit) {
	c.keeper.Add(&u.keep)
	c.mu.Lock()
	c.all = append(c.all, u)
	c.mu.Unlock()
	if c.ctx.Err() != nil {
		u.keep.Stop() // close may have missed it
	}
	c.used.Store(true)
	c.warnOfLimit()
}

// remove removes a unit.
func (c *core) remove(u *unit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = slices.DeleteFunc(c.all, func(x *unit) bool { return x == u })
}

// units returns the units of all nodes, in the order in which they were added, including the pools
// for blocking commands.
func (c *core) units() []*unit {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.all)
}

// maintained returns the nodes of all units.
func (c *core) maintained() []*upkeep.Node {
	units := c.units()
	nodes := make([]*upkeep.Node, len(units))
	for i, u := range units {
		nodes[i] = &u.keep
	}
	return nodes
}

// close closes everything at once.
func (c *core) close() error {
	c.closed.Store(true)
	if c.monitor != nil {
		_ = c.monitor.Close()
	}
	c.tracker.Shut()
	c.stop()
	for _, u := range c.units() {
		u.keep.Stop()
		u.node.Close() // ends its dials, and the waits for others' handshakes
	}
	c.tracker.CloseSentinels()
	err := c.closer()
	for _, u := range c.units() {
		u.leases.Close()
		if !u.main() {
			_ = u.rdb.Close() // in a cluster or ring nobody else does
		}
	}
	c.tracker.CloseAll()
	c.closeStandIns()
	c.leases.Log.Close()
	return err
}

// Conns describes every open connection of all nodes, the oldest first: those of the main and
// pipeline pools and those of pub/sub.
func (c *core) Conns() []hooks.ConnInfo { return c.tracker.Conns() }

// Leases describes the leases that are held on all nodes, the oldest first.
func (c *core) Leases() []LeaseInfo {
	var out []LeaseInfo
	for _, u := range c.units() {
		out = append(out, u.leaseInfos(math.MaxInt)...)
	}
	slices.SortFunc(out, func(a, b LeaseInfo) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// CloseReasons counts the connections closed since the client was made, by reason.
func (c *core) CloseReasons() map[hooks.Reason]uint64 { return c.tracker.CloseReasons() }

// RetryStats counts the commands that were sent again, by reason.
func (c *core) RetryStats() retry.Stats { return c.retries() }

// PoolMonitor returns the client's Monitor: register callbacks for Stats and Alerts with it, or
// pass it to an exporter or the live page. It is closed with the client.
func (c *core) PoolMonitor() *monitor.Monitor { return c.monitor }

// Stats returns the current numbers, of each node and of all; see monitor.Monitor.Stats.
func (c *core) Stats() monitor.Stats { return c.monitor.Stats() }

// SetMaxAge changes the maximum age of connections at run time, on all nodes, for open connections
// too; see WithMaxAge. 0 or negative: none. Effective at once.
func (c *core) SetMaxAge(d time.Duration) { c.keeper.SetMaxAge(d) }

// SetMaxIdle changes the period over which the demand decides how many connections are kept, on all
// nodes; see WithMaxIdle. 0 or negative: all are kept. Effective at once.
func (c *core) SetMaxIdle(d time.Duration) { c.keeper.SetMaxIdle(d) }

// SetHeartbeat changes the idle time after which a connection gets a PING, on all nodes; see
// WithHeartbeat. 0: none. Negative: automatic. Effective at once.
func (c *core) SetHeartbeat(d time.Duration) { c.keeper.SetHeartbeat(d) }

// Reset closes all connections, on all nodes, gracefully: idle ones now, those in use when they are
// returned. Pub/sub connections stay open. It returns how many will be closed. ctx bounds how long
// it waits for the idle ones; the rest are closed later.
func (c *core) Reset(ctx context.Context) int { return c.keeper.Reset(ctx) }

// EvictIdle closes the connections that are idle now, on all nodes, and returns how many
// it closed. go-redis opens new ones up to MinIdleConns. ctx bounds it.
func (c *core) EvictIdle(ctx context.Context) int { return c.keeper.EvictIdle(ctx) }
