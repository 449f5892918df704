package conntrack

import (
	"context"
	"errors"
	"math"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// Node is one server as go-redis sees it: one redis.Client with its main and its
// pipeline pool. It is safe for concurrent use.
type Node struct {
	t     *Tracker
	opt   *redis.Options
	addr  string
	base  dialFunc
	gate  *gate
	first *firstHandshake

	hooked   atomic.Bool            // our DialHook is installed
	unborn   atomic.Int64           // stillborn connections that go-redis has
	resolves bool                   // its address is found out at each dial, by Sentinels
	master   atomic.Pointer[string] // the address that was dialed last, then
	watchmen sync.Map               // addresses of its Sentinels -> true
	noWait   bool                   // its callers do not wait for it: another node may take over

	fresh redis.Options // as the user gave them

	pipelineRead int // read buffer of the pipeline pool: how its connections are told apart

	client atomic.Pointer[redis.Client]
	maint  atomic.Pointer[redis.Client] // shares the pools, has no hooks and no Limiter

	sweeping atomic.Int32
	began    atomic.Uint64 // times that maintenance took a slot, for one round trip
	over     atomic.Uint64 // times that it gave it back
	dialing  atomic.Int32
	dials    atomic.Uint64
	opened   atomic.Uint64
	failures atomic.Uint64
	visits   atomic.Uint64 // connections that maintenance has met
	ends     endCounters
	dialTook atomic.Pointer[func(time.Duration)]
	lastDial atomic.Pointer[DialFailure]
	full     full
	health   health

	failedAt atomic.Int64 // when a connection failed last, or the node was made

	tell    atomic.Bool  // the next write is to be told of
	silence atomic.Int64 // ns without traffic after which the server closes a connection, 0 unknown

	conns    sync.Map     // id -> *Conn: those of this node, as in the tracker
	count    atomic.Int64 // of them
	peakOpen peak         // of count, for the monitor
	raw      atomic.Int64 // of them, those whose handshake is not over
	pushes   atomic.Int64 // those over which a push frame has come
	bornAt   atomic.Int64 // when the youngest was dialed

	pinned         atomic.Int64 // pipelines under way on Conns and transactions of callers
	main, pipeline demand
	tookWrites     atomic.Bool
}

// DialFailure is a dial that failed.
type DialFailure struct {
	Time time.Time
	Err  error
}

// minWriteBuffer holds a whole visit, so that it is one write.
const minWriteBuffer = 64

// NewNode prepares opt, in place, for a client that is about to be made of it:
// its Dialer makes tracked connections, its OnConnect tells them when their
// handshake is over, and its pool is a FIFO, so that visits reach every idle
// connection. Give the client to Bind.
func (t *Tracker) NewNode(opt *redis.Options) *Node {
	n := &Node{t: t, opt: opt, addr: opt.Addr}
	n.alarm()
	if n.addr == "" {
		n.addr = "localhost:6379" // go-redis's default
	}
	n.base = baseDialer(opt)
	n.health.n = n
	n.gate = newGate(n)
	n.first = newFirstHandshake(opt)
	n.fresh = *opt
	opt.Dialer = n.dial
	opt.DialerRetries = 1 // its loop of 5 x 100 ms would only hold up the pool; the prober tries on
	opt.PoolFIFO = true
	if opt.WriteBufferSize > 0 {
		opt.WriteBufferSize = max(opt.WriteBufferSize, minWriteBuffer)
	}
	if opt.PipelineWriteBufferSize > 0 {
		opt.PipelineWriteBufferSize = max(opt.PipelineWriteBufferSize, minWriteBuffer)
	}
	if opt.PipelinePoolSize >= 0 {
		n.pipelineRead = opt.PipelineReadBufferSize
		if n.pipelineRead <= 0 {
			n.pipelineRead = max(opt.ReadBufferSize, redis.DefaultPipelineBufferSize)
		}
		// The two pools must differ, or nothing tells them apart. Very small sizes
		// are all made the same by go-redis.
		n.pipelineRead = max(n.pipelineRead, 256)
		for n.pipelineRead == opt.ReadBufferSize || n.pipelineRead == defaultReadBuffer {
			n.pipelineRead += 64
		}
		opt.PipelineReadBufferSize = n.pipelineRead
	}
	if get := opt.CredentialsProviderContext; get != nil {
		opt.CredentialsProviderContext = func(ctx context.Context) (string, string, error) {
			user, password, err := get(unhurried(ctx))
			return user, password, early(err)
		}
	}
	if opt.Limiter != nil {
		opt.Limiter = limiter{opt.Limiter}
	}
	opt.OnConnect = n.connected(false)
	return n
}

// connected makes an OnConnect: the user's, and then word to the tracked
// connection. apart is for a client with options of its own.
func (n *Node) connected(apart bool) func(context.Context, *redis.Conn) error {
	user := n.fresh.OnConnect
	return func(ctx context.Context, conn *redis.Conn) error {
		if user != nil {
			if err := user(unhurried(ctx), conn); err != nil {
				return early(err)
			}
		}
		return ready(ctx, conn, apart)
	}
}

// defaultReadBuffer is go-redis's default for Options.ReadBufferSize.
const defaultReadBuffer = 32 << 10

// ready tells the tracked connection below conn that its handshake is over.
func ready(ctx context.Context, conn *redis.Conn, apart bool) error {
	v := newVisit(visitReady)
	v.apart = apart
	defer v.done()
	return v.check(conn.Process(ctx, v.cmd))
}

// Bind completes the node with the client that was made of its options.
func (n *Node) Bind(c *redis.Client) {
	n.client.Store(c)
	m := c.WithTimeout(n.t.cfg.WakeTimeout)
	m.Options().Limiter = nil // its own copy of the options (TestContractWithTimeoutClonesShareThePoolsAndHaveNoHooks)
	m.Options().OnConnect = n.connected(true)
	n.maint.Store(m)
}

// Close ends what the node runs. Close the client itself too.
func (n *Node) Close() { n.gate.stop() }

func (n *Node) network() string {
	switch {
	case n.opt.Network != "":
		return n.opt.Network
	case strings.HasPrefix(n.addr, "/"):
		return "unix"
	}
	return "tcp"
}

func (n *Node) dialTimeout() time.Duration {
	if n.opt.DialTimeout > 0 {
		return n.opt.DialTimeout
	}
	return 5 * time.Second // go-redis's default
}

// NewFailoverNode is NewNode for a client whose Sentinels say where its master
// is. The Dialer that it puts into opt dials the Sentinels too, whose addresses
// are given. One that is heard of later is known by the read buffer of its first
// connection, which go-redis fixes at 4 KiB.
func (t *Tracker) NewFailoverNode(opt *redis.Options, sentinels ...string) *Node {
	if opt.ReadBufferSize == sentinelReadBuffer {
		opt.ReadBufferSize += 64
	}
	n := t.NewNode(opt)
	n.resolves, n.noWait = true, true
	for _, addr := range sentinels {
		n.watchmen.Store(addr, true)
	}
	return n
}

// sentinelReadBuffer is the read buffer of go-redis's Sentinel clients
// (sentinelOptions, sentinel.go).
const sentinelReadBuffer = 4096

// NoWaiting makes commands that meet the node while it is away fail at once
// instead of waiting for its return: in a cluster another node may take over.
func (n *Node) NoWaiting() { n.noWait = true }

// reached notes the address of a master that was dialed. When it changes, a
// failover has happened: all connections to the old one are ended.
func (n *Node) reached(addr string) {
	old := n.master.Swap(&addr)
	if old == nil || *old == addr {
		return
	}
	n.Range(func(c *Conn) bool {
		if c.addr == *old && hooks.Pool(c.pool.Load()) != hooks.PoolSentinel {
			c.Condemn(hooks.ReasonReadOnly)
		}
		return true
	})
}

// dialed is the address for a connection of our own.
func (n *Node) dialed() string {
	if m := n.master.Load(); n.resolves && m != nil {
		return *m
	}
	return n.addr
}

// Len is the number of open connections of the node.
func (n *Node) Len() int { return int(n.count.Load()) }

// Range calls f for every open connection of the node until it returns false. f may
// do anything.
func (n *Node) Range(f func(*Conn) bool) {
	n.conns.Range(func(_, v any) bool { return f(v.(*Conn)) })
}

// Addr is the address of the options the node was made with.
func (n *Node) Addr() string { return n.addr }

// Tracker returns the tracker the node belongs to.
func (n *Node) Tracker() *Tracker { return n.t }

// Client returns the client given to Bind.
func (n *Node) Client() *redis.Client { return n.client.Load() }

// LastDialFailure returns the last dial that failed, nil if none did or a later
// one succeeded.
func (n *Node) LastDialFailure() *DialFailure { return n.lastDial.Load() }

// OnDialTook sets the function that hears how long each dial took, failed ones as
// well. It must not block or call go-redis.
func (n *Node) OnDialTook(f func(time.Duration)) { n.dialTook.Store(&f) }

// Opened counts the connections that were opened.
func (n *Node) Opened() uint64 { return n.opened.Load() }

// Ended counts the connections of the node that ended, by reason.
func (n *Node) Ended() map[hooks.Reason]uint64 { return n.ends.read() }

// HitsOfOurs calls read, which reads go-redis's counts of hits, and returns how many
// of them were maintenance's at most: it may just be counting one.
func (n *Node) HitsOfOurs(read func()) uint64 {
	over, met := n.over.Load(), n.visits.Load()
	read()
	return met + n.began.Load() - over
}

// Dialing is the number of dials under way.
func (n *Node) Dialing() int { return int(n.dialing.Load()) }

// Dials counts the dials that were tried and those of them that failed.
func (n *Node) Dials() (tried, failed uint64) { return n.dials.Load(), n.failures.Load() }

// isSentinel reports whether a Sentinel is at addr.
func (n *Node) isSentinel(addr string) bool {
	if !n.resolves {
		return false
	}
	_, known := n.watchmen.Load(addr)
	return known
}

func (n *Node) poolOf(addr string, readBuffer int) hooks.Pool {
	switch {
	case n.isSentinel(addr):
		return hooks.PoolSentinel
	case n.resolves && readBuffer == sentinelReadBuffer:
		n.watchmen.Store(addr, true) // its pub/sub connection, which comes later, has another buffer
		return hooks.PoolSentinel
	case n.pipelineRead > 0 && readBuffer == n.pipelineRead:
		return hooks.PoolPipeline
	}
	return hooks.PoolMain
}

// ClosedToNew reports whether the server took no new connection when last asked:
// then no working one is ended for its age.
func (n *Node) ClosedToNew() bool {
	h := n.Health()
	return h != hooks.Healthy && h != hooks.Degraded
}

// TellOfUse makes the tracker's OnUse be called at the next command, once.
func (n *Node) TellOfUse() { n.tell.Store(true) }

// SetSilence sets the time without traffic after which a connection is not given
// out without a PING. 0: none.
func (n *Node) SetSilence(d time.Duration) { n.silence.Store(int64(d)) }

// Counts are truthful numbers of a go-redis pool.
type Counts struct {
	Total, Idle, InUse, Waiting int
}

// Main counts the main pool, Pipeline the pipeline pool.
func (n *Node) Main() Counts { return counts(n.Client().PoolStats()) }

// Pipeline counts the pipeline pool; all zero where there is none.
func (n *Node) Pipeline() Counts {
	return counts((*redis.PoolStats)(n.Client().PoolStats().PipelineStats))
}

// counts corrects go-redis's numbers: IdleConns may underflow for a moment, and
// counts those that are still being dialed for MinIdleConns, which TotalConns
// does not.
func counts(s *redis.PoolStats) Counts {
	if s == nil {
		return Counts{}
	}
	c := Counts{Total: int(s.TotalConns), Waiting: int(s.PendingRequests)}
	if s.IdleConns <= math.MaxInt32 {
		c.Idle = int(min(s.IdleConns, s.TotalConns))
	}
	c.InUse = c.Total - c.Idle
	return c
}

// NoWait returns a ctx for Acquire that takes a free slot of the pool but never
// waits: if there is none, or if a connection would have to be dialed first
// (which then goes on in the background), the error is ErrWouldWait.
func NoWait(ctx context.Context) context.Context { return &noWait{Context: ctx} }

// Gone reports whether the node's client has been closed. It uses no connection.
func (n *Node) Gone() bool {
	v := newVisit(visitSweep)
	defer v.done()
	ctx := &noWait{Context: context.Background()}
	ctx.asked.Store(true) // end before anything is taken
	return errors.Is(n.maint.Load().Process(ctx, v.cmd), redis.ErrClosed)
}

// Visit visits one idle connection of the main or the pipeline pool and lets it
// obey its orders; a real PING may take patience, 0 for Config.WakeTimeout. It
// returns the connection it met (nil if none was free), and whether go-redis
// removed it.
func (n *Node) Visit(pool hooks.Pool, patience time.Duration) (met *Conn, removed bool, err error) {
	return n.visit(NoWait(context.Background()), pool, patience, nil)
}

// Connect has a connection dialed where a pipeline would find none that is idle, and
// waits for it. Its error is one from before anything was sent.
func (n *Node) Connect() error {
	_, _, err := n.visit(context.Background(), hooks.PoolPipeline, 0, nil)
	return early(err)
}

// Ask sends a PING on one connection of the main or the pipeline pool and waits
// patience for the answer, after which go-redis removes it. It does nothing if
// somebody uses it. Those that are met on the way to it obey no wake.
func (n *Node) Ask(c *Conn, patience time.Duration) {
	pool, idle := c.View().Pool, n.Main
	if pool == hooks.PoolPipeline {
		idle = n.Pipeline
	}
	for left := 2 * idle().Idle; left > 0; left-- {
		if met, _, _ := n.visit(NoWait(context.Background()), pool, patience, c); met == nil || met == c {
			return
		}
	}
}

func (n *Node) visit(ctx context.Context, pool hooks.Pool, patience time.Duration, only *Conn) (met *Conn, removed bool, err error) {
	m := n.maint.Load()
	v := newVisit(visitSweep)
	defer v.done()
	v.patience, v.only = patience, only
	n.began.Add(1)
	defer n.over.Add(1)
	n.sweeping.Add(1)
	defer n.sweeping.Add(-1)
	if pool == hooks.PoolPipeline {
		p := m.Pipeline()
		_ = p.Process(ctx, v.cmd)
		_, err = p.Exec(ctx)
	} else {
		err = m.Process(ctx, v.cmd)
	}
	met, err = v.conn, Reveal(v.check(err))
	if met == nil {
		return nil, false, err
	}
	n.visits.Add(1)
	return met, err != nil, err
}

// Exhausted reports whether callers hold all slots of the main pool. What
// maintenance holds is free again after one round trip and does not count.
func (n *Node) Exhausted(size int) bool {
	over := n.over.Load()
	if n.began.Load() != over {
		return false
	}
	c := n.Main()
	return c.Idle == 0 && c.InUse >= size && n.began.Load() == over && !n.newborn()
}

// newborn reports whether a connection was dialed a moment ago and not used yet:
// go-redis counts it as in use until it has given it to somebody or called it idle.
func (n *Node) newborn() bool {
	const moment = 10 * time.Millisecond
	now, found := n.t.now(), false
	if now-n.bornAt.Load() >= int64(moment) {
		return false
	}
	n.Range(func(c *Conn) bool {
		found = c.out.Load() == 0 && now-c.created < int64(moment)
		return !found
	})
	return found
}

// Fresh opens a connection of its own to the node, sends a PING and closes it:
// the witness that tells a dead connection from a slow server.
// While the node is away it asks nobody: the gate's prober does, alone.
func (n *Node) Fresh(ctx context.Context) error {
	if err := n.Away(); err != nil {
		return err
	}
	taken := false // the handshake is over: the server takes new connections
	err := n.alone(ctx, &taken, func(c *redis.Client) error { return c.Ping(ctx).Err() })
	var reply redis.Error
	if errors.As(err, &reply) && !redis.IsMaxClientsError(err) && !redis.IsLoadingError(err) {
		err = nil // an answer is an answer (an ACL may forbid PING)
	}
	if err == nil && taken {
		n.health.become(hooks.Healthy, nil)
	}
	return err
}

// alone runs f with a client of one connection that nobody else has. taken says
// whether its handshake came to an end.
func (n *Node) alone(ctx context.Context, taken *bool, f func(*redis.Client) error) error {
	opt := n.fresh
	opt.Addr, opt.Network = n.dialed(), n.network()
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := n.base(ctx, network, addr)
		if err != nil { // go-redis would log each dial that fails
			return &stillborn{err: err, addr: addr, net: network}, nil
		}
		return c, nil
	}
	opt.PoolSize, opt.MinIdleConns, opt.MaxIdleConns, opt.MaxActiveConns = 1, 0, 0, 0
	opt.PipelinePoolSize = -1
	opt.MaxRetries, opt.DialerRetries = -1, 1
	opt.Limiter, opt.ClientSideCache, opt.ClientSideCacheConfig = nil, nil, nil
	opt.ContextTimeoutEnabled = true
	user := opt.OnConnect
	opt.OnConnect = func(ctx context.Context, conn *redis.Conn) error {
		*taken = true
		if user != nil {
			return user(ctx, conn)
		}
		return nil
	}
	if d, ok := ctx.Deadline(); ok {
		left := max(time.Until(d), time.Millisecond)
		opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout = left, left, left
	}
	leave, err := n.t.ownSeat(ctx)
	if err != nil {
		return err
	}
	defer leave()
	c := redis.NewClient(&opt)
	defer func() { _ = c.Close() }()
	return f(c)
}

// Slots asks the node for the slot map of its cluster, on a connection of its own
// that may take patience.
func (n *Node) Slots(patience time.Duration) (slots []redis.ClusterSlot, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = n.alone(ctx, new(bool), func(c *redis.Client) error {
		//lint:ignore SA1019 CLUSTER SHARDS is unknown to servers before Redis 7.0; go-redis itself asks SLOTS.
		slots, err = c.ClusterSlots(ctx).Result()
		return err
	})
	return slots, err
}

// Config asks the server for one of its settings. It never waits for a slot.
func (n *Node) Config(name string) (string, error) {
	n.began.Add(1)
	defer n.over.Add(1)
	ctx := NoWait(context.Background())
	m, err := n.maint.Load().ConfigGet(ctx, name).Result()
	n.met(err)
	return m[name], err
}

// Info asks the server for a section of its INFO. It never waits for a slot.
func (n *Node) Info(section string) (string, error) {
	n.began.Add(1)
	defer n.over.Add(1)
	text, err := n.maint.Load().Info(NoWait(context.Background()), section).Result()
	n.met(err)
	return text, Reveal(err)
}

// met counts a question of maintenance that took an idle connection.
func (n *Node) met(err error) {
	if !errors.Is(err, ErrWouldWait) {
		n.visits.Add(1)
	}
}
