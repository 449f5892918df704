package upkeep

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

// Config configures a Keeper.
type Config struct {
	Context   context.Context // when it ends, the Keeper does nothing any more
	Tracker   *conntrack.Tracker
	Logger    *slog.Logger
	Detection Detection
	Jitter    float64 // of the maximum age, see conntrack.Tracker.SetMaxAge
	// Nodes returns those that were passed to Keeper.Add and are still in use.
	Nodes func() []*Node
}

// Keeper maintains the connections of one client, on all its nodes. It is safe for concurrent use.
type Keeper struct {
	ctx       context.Context // see Config for these six
	tracker   *conntrack.Tracker
	log       *slog.Logger
	detection Detection
	jitter    float64
	nodes     func() []*Node
	maxIdle   atomic.Int64 // ns, 0: none
	heartbeat atomic.Int64 // ns, 0: none, negative: automatic
	asked     atomic.Int64 // when somebody last wanted the servers' client counts, on the tracker's clock

	atCheck   atomic.Bool // a Node's AtCheck is running
	roomAsked atomic.Bool
}

// never is a time that never comes.
const never = time.Duration(1<<63 - 1)

// New makes a Keeper.
func New(cfg Config) *Keeper {
	k := &Keeper{ctx: cfg.Context, tracker: cfg.Tracker, log: cfg.Logger, detection: cfg.Detection, jitter: cfg.Jitter,
		nodes: cfg.Nodes}
	k.tracker.OnConnLimit(k.makeRoom)
	return k
}

// Add starts to maintain a node; afterwards, Config.Nodes is to return it. Its exported fields must
// not change from now on.
func (k *Keeper) Add(n *Node) {
	n.k = k
	n.visiting, n.querying = make(turn, 1), make(turn, 1)
	n.main.pool, n.pipeline.pool = hooks.PoolMain, hooks.PoolPipeline
	n.schedule.check = n.Check
	for _, other := range k.nodes() {
		if other.Inner && other.Tracked.Len() == 0 {
			other.schedule.within(unusedPause) // it may have left without ever being used
		}
	}
	n.Tracked.SetUpkeep(conntrack.Upkeep{Used: n.used, Due: n.wake, Failed: n.failed})
	if n.Tracked.Len() > 0 {
		n.used()
	}
}

// wake makes all nodes check their connections now. It never blocks.
func (k *Keeper) wake() {
	for _, n := range k.nodes() {
		n.wake()
	}
}

// SetMaxAge sets the age at which connections are closed. 0 or negative: none.
func (k *Keeper) SetMaxAge(d time.Duration) {
	k.tracker.SetMaxAge(d, k.jitter)
	k.wake()
}

// SetMaxIdle sets the period over which the demand decides how many connections are kept. 0 or
// negative: all are kept, which is the default.
func (k *Keeper) SetMaxIdle(d time.Duration) {
	k.maxIdle.Store(int64(max(d, 0)))
	k.wake()
}

// SetHeartbeat sets the idle time after which a connection gets a PING. 0: none, which is the
// default. Negative: derived from the server's timeout.
func (k *Keeper) SetHeartbeat(d time.Duration) {
	k.heartbeat.Store(int64(d))
	k.wake()
}

// Reset closes all connections except those of pub/sub, gracefully: idle ones now, those in use
// when they are returned. It returns how many will be closed. ctx bounds how long it waits for the
// idle ones; the rest are closed later.
func (k *Keeper) Reset(ctx context.Context) int {
	n := 0
	k.tracker.Range(func(conn *conntrack.Conn) bool {
		if !conn.View().PubSub {
			conn.Evict(hooks.ReasonReset)
			n++
		}
		return true
	})
	k.each(func(n *Node) { n.sweep(ctx) })
	k.wake()
	return n
}

// EvictIdle closes the connections that are idle now and returns how many it closed.
// ctx bounds it.
func (k *Keeper) EvictIdle(ctx context.Context) int {
	before := k.tracker.CloseReasons()[hooks.ReasonReset]
	k.each(func(n *Node) { n.evictIdle(ctx) })
	return int(k.tracker.CloseReasons()[hooks.ReasonReset] - before)
}

// each calls f for all nodes concurrently: no node waits for another's server.
func (k *Keeper) each(f func(*Node)) {
	var all sync.WaitGroup
	for _, n := range k.nodes() {
		all.Go(func() { f(n) })
	}
	all.Wait()
}

// WantClients declares that somebody wants to know how many clients the servers have and accept.
// The servers are then queried now and then, until nobody has wanted it for two minutes. It never
// blocks.
func (k *Keeper) WantClients() {
	now := k.tracker.Elapsed()
	k.asked.Store(max(int64(now), 1))
	for _, n := range k.nodes() {
		if n.clients.due(now) {
			n.wake()
		}
	}
}
