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
}

// Keeper maintains the connections of one client, on all its nodes. It is safe for concurrent use.
type Keeper struct {
	ctx       context.Context // see Config for these five
	tracker   *conntrack.Tracker
	log       *slog.Logger
	detection Detection
	jitter    float64
	maxIdle   atomic.Int64 // ns, 0: none
	heartbeat atomic.Int64 // ns, 0: none, negative: automatic
	asked     atomic.Int64 // when somebody last wanted the servers' client counts, on the tracker's clock

	mu    sync.Mutex
	nodes map[*conntrack.Node]*Node

	around    atomic.Pointer[func()]
	looking   atomic.Bool // around is running
	roomAsked atomic.Bool
}

// never is a time that never comes.
const never = time.Duration(1<<63 - 1)

// New makes a Keeper without nodes.
func New(cfg Config) *Keeper {
	k := &Keeper{ctx: cfg.Context, tracker: cfg.Tracker, log: cfg.Logger, detection: cfg.Detection, jitter: cfg.Jitter,
		nodes: map[*conntrack.Node]*Node{}}
	k.tracker.OnDial(func(conn *conntrack.Conn) { k.used(conn.Node()) })
	k.tracker.OnUse(k.used)
	k.tracker.OnConnLimit(k.makeRoom)
	k.tracker.OnFailure(k.failed)
	return k
}

// Add starts to maintain a node. Its exported fields must not change from now on.
func (k *Keeper) Add(n *Node) {
	n.k = k
	n.visiting, n.inquiring = make(turn, 1), make(turn, 1)
	n.main.pool, n.pipeline.pool = hooks.PoolMain, hooks.PoolPipeline
	n.schedule.look = n.Look
	k.mu.Lock()
	for _, other := range k.nodes {
		if other.Inner && other.Tracked.Len() == 0 {
			other.schedule.within(leftPause) // it may have left without ever being used
		}
	}
	k.nodes[n.Tracked] = n
	k.mu.Unlock()
	if k.ctx.Err() != nil {
		n.schedule.stop()
	}
}

// Drop forgets a node, and closes it.
func (k *Keeper) Drop(n *Node) {
	n.schedule.stop()
	k.mu.Lock()
	delete(k.nodes, n.Tracked)
	k.mu.Unlock()
	n.Tracked.Close()
}

func (k *Keeper) list() []*Node {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([]*Node, 0, len(k.nodes))
	for _, n := range k.nodes {
		all = append(all, n)
	}
	return all
}

// of returns the Node of t, nil if it does not belong to this client.
func (k *Keeper) of(t *conntrack.Node) *Node {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.nodes[t]
}

// Wake makes all nodes check their connections now. It never blocks.
func (k *Keeper) Wake() {
	for _, n := range k.list() {
		n.wake()
	}
}

// used is called when a node is used again, for the first time, or no longer; nil: something has
// changed for all nodes. It may be called under go-redis's locks.
func (k *Keeper) used(t *conntrack.Node) {
	if t == nil {
		k.Wake()
	} else if n := k.of(t); n != nil {
		n.schedule.within(n.soon())
	}
}

// SetMaxAge sets the age at which connections are closed. 0 or negative: none.
func (k *Keeper) SetMaxAge(d time.Duration) {
	k.tracker.SetMaxAge(d, k.jitter)
	k.Wake()
}

// SetMaxIdle sets the period over which the demand decides how many connections are kept. 0 or
// negative: all are kept, which is the default.
func (k *Keeper) SetMaxIdle(d time.Duration) {
	k.maxIdle.Store(int64(max(d, 0)))
	k.Wake()
}

// SetHeartbeat sets the idle time after which a connection gets a PING. 0: none, which is the
// default. Negative: derived from the server's timeout.
func (k *Keeper) SetHeartbeat(d time.Duration) {
	k.heartbeat.Store(int64(d))
	k.Wake()
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
	k.Wake()
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
	for _, n := range k.list() {
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
	for _, n := range k.list() {
		if n.clients.due(now) {
			n.wake()
		}
	}
}

// Close ends all schedules: no further checks are made.
func (k *Keeper) Close() {
	for _, n := range k.list() {
		n.schedule.stop()
	}
}

// Around sets a function that is called with each check of a node, by one goroutine at a time. It
// may block.
func (k *Keeper) Around(f func()) { k.around.Store(&f) }

// lookAround calls the function set by Around, unless it is running.
func (k *Keeper) lookAround() {
	f := k.around.Load()
	if f == nil || !k.looking.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer k.looking.Store(false)
		(*f)()
	}()
}
