package conntrack

import (
	"context"
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

	failedDials atomic.Int64           // failedDial connections that go-redis holds
	resolves    bool                   // Sentinels resolve its address at each dial
	master      atomic.Pointer[string] // the address that was dialed last, in that case
	sentinels   sync.Map               // addresses of its Sentinels -> true
	noWait      bool                   // its callers do not wait for it: another node may take over

	given redis.Options // as the user gave them

	pipelineRead int // read buffer of the pipeline pool: identifies its connections

	client atomic.Pointer[redis.Client]
	maint  atomic.Pointer[redis.Client] // shares the pools, has no hooks and no Limiter

	installed atomic.Pointer[installed]    // our hook on client
	leasing   atomic.Pointer[redis.Client] // makes the Conns of leases, see Conn

	sweeping atomic.Int32
	began    atomic.Uint64 // times that maintenance took a slot, for one round trip
	over     atomic.Uint64 // times that it returned it
	dialing  atomic.Int32
	dials    atomic.Uint64
	opened   atomic.Uint64
	failures atomic.Uint64
	visits   atomic.Uint64 // connections that maintenance has visited
	closes   closeCounters
	dialTook atomic.Pointer[func(time.Duration)]
	lastDial atomic.Pointer[DialFailure]
	health   health

	setup    <-chan struct{} // see DialAfter, nil for none
	movingAt atomic.Int64    // when the server last asked for connections to move, 0: never

	upkeep        atomic.Pointer[Upkeep]
	notifyOfUse   atomic.Bool  // at the next write
	serverTimeout atomic.Int64 // ns without traffic after which the server closes a connection, 0 unknown

	conns    sync.Map     // id -> *Conn: those of this node, as in the tracker
	count    atomic.Int64 // of them
	peakOpen peak         // of count, for the monitor
	raw      atomic.Int64 // of them, those whose handshake is not over
	pushes   atomic.Int64 // those over which a push frame has arrived
	bornAt   atomic.Int64 // when the youngest was dialed
	leased   atomic.Int64 // of them, those that leases hold

	patient        atomic.Int64 // calls of Acquire whose dial or PING may go on without them
	pinned         atomic.Int64 // pipelines under way on Conns and transactions of callers
	main, pipeline demand
	writes         atomic.Uint32 // one of the constants below
}

// What is known about writes on a node. Only writeSent makes the hooks look for a write that was
// executed: clients that only read need not look through each of their pipelines.
const (
	noWrite uint32 = iota
	writeSent
	writeTaken
)

// Upkeep is how a node calls its maintenance. The functions may be called from any goroutine and
// under go-redis's locks; they must not block or call go-redis.
type Upkeep struct {
	Used   func()        // a connection was dialed, or the last one has ended; see also NotifyOfUse
	Due    func()        // all connections must be validated
	Failed func(Failure) // a connection failed by itself, or was found closed by the peer
}

var noUpkeep = Upkeep{Used: func() {}, Due: func() {}, Failed: func(Failure) {}}

// DialFailure is a dial that failed.
type DialFailure struct {
	Time time.Time
	Err  error
}

// minWriteBuffer holds a whole visit, so that it is one write.
const minWriteBuffer = 64

// NewNode prepares opt, in place, for a client that is about to be made from it: its Dialer makes
// tracked connections, its OnConnect notifies them when their handshake is over, and its pool is a
// FIFO, so that visits reach every idle connection. Pass the client to Bind.
func (t *Tracker) NewNode(opt *redis.Options) *Node {
	n := &Node{t: t, opt: opt, addr: opt.Addr}
	n.upkeep.Store(&noUpkeep)
	n.noteFailure()
	if n.addr == "" {
		n.addr = "localhost:6379" // go-redis's default
	}
	n.base = baseDialer(opt)
	n.health.n = n
	n.health.movesTo(local(n.addr))
	n.gate = newGate(n)
	n.first = newFirstHandshake(opt)
	n.given = *opt
	opt.Dialer = n.dial
	opt.DialerRetries = 1 // go-redis's loop of 5 x 100 ms would only delay the pool; the prober keeps trying
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
		// The two pools must differ in their read buffers, which identify them. go-redis makes
		// all very small sizes the same.
		n.pipelineRead = max(n.pipelineRead, 256)
		for n.pipelineRead == opt.ReadBufferSize || n.pipelineRead == defaultReadBuffer {
			n.pipelineRead += 64
		}
		opt.PipelineReadBufferSize = n.pipelineRead
	}
	if get := opt.CredentialsProviderContext; get != nil {
		opt.CredentialsProviderContext = func(ctx context.Context) (string, string, error) {
			user, password, err := get(originalCtx(ctx))
			return user, password, early(err)
		}
	}
	if p := opt.StreamingCredentialsProvider; p != nil {
		opt.StreamingCredentialsProvider = streaming{p}
	}
	if opt.Limiter != nil {
		opt.Limiter = limiter{opt.Limiter}
	}
	opt.OnConnect = n.connected(false)
	return n
}

// connected makes an OnConnect: the user's, followed by a notification of the tracked connection.
// apart is for a client with its own options.
func (n *Node) connected(apart bool) func(context.Context, *redis.Conn) error {
	user := n.given.OnConnect
	return func(ctx context.Context, conn *redis.Conn) error {
		if user != nil {
			if err := unlessItPanics(originalCtx(ctx), conn, user); err != nil {
				return early(err)
			}
		}
		return ready(ctx, conn, apart)
	}
}

// unlessItPanics calls an OnConnect. If that does not return, go-redis never closes the connection:
// it is closed here.
func unlessItPanics(ctx context.Context, conn *redis.Conn, onConnect func(context.Context, *redis.Conn) error) error {
	returned := false
	defer func() {
		if !returned {
			v := newVisit(visitAbandon)
			defer v.done()
			_ = conn.Process(context.Background(), v.cmd)
		}
	}()
	err := onConnect(ctx, conn)
	returned = true
	return err
}

// defaultReadBuffer is go-redis's default for Options.ReadBufferSize.
const defaultReadBuffer = 32 << 10

// ready notifies the tracked connection below conn that its handshake is over.
func ready(ctx context.Context, conn *redis.Conn, apart bool) error {
	v := newVisit(visitReady)
	v.apart = apart
	defer v.done()
	err := v.check(conn.Process(ctx, v.cmd))
	if v.conn != nil {
		v.conn.settle()
	}
	return err
}

// Bind completes the node with the client that was made from its options.
func (n *Node) Bind(c *redis.Client) {
	n.client.Store(c)
	m := c.WithTimeout(n.t.cfg.ValidateTimeout)
	m.Options().Limiter = nil // its own copy of the options (TestContractWithTimeoutClonesShareThePoolsAndHaveNoHooks)
	m.Options().OnConnect = n.connected(true)
	n.maint.Store(m)
}

// Close ends what the node runs. Close the client itself, too.
func (n *Node) Close() {
	n.gate.stop()
	n.health.close()
}

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

// NoWaiting makes commands fail at once while the node is unreachable, instead of waiting for it:
// in a cluster another node may take over.
func (n *Node) NoWaiting() { n.noWait = true }

// Len returns the number of open connections of the node.
func (n *Node) Len() int { return int(n.count.Load()) }

// Range calls f for every open connection of the node until it returns false. f may
// do anything.
func (n *Node) Range(f func(*Conn) bool) {
	n.conns.Range(func(_, v any) bool { return f(v.(*Conn)) })
}

// Addr returns the address in the options that the node was made with.
func (n *Node) Addr() string { return n.addr }

// Tracker returns the tracker the node belongs to.
func (n *Node) Tracker() *Tracker { return n.t }

// Client returns the client given to Bind.
func (n *Node) Client() *redis.Client { return n.client.Load() }

// LastDialFailure returns the last dial that failed, nil if none did or a later
// one succeeded.
func (n *Node) LastDialFailure() *DialFailure { return n.lastDial.Load() }

// OnDialTook sets the function that is called with the duration of each dial, including failed
// ones. It must not block or call go-redis.
func (n *Node) OnDialTook(f func(time.Duration)) { n.dialTook.Store(&f) }

// Opened counts the connections that were opened.
func (n *Node) Opened() uint64 { return n.opened.Load() }

// CloseReasons counts the connections of the node that were closed, by reason.
func (n *Node) CloseReasons() map[hooks.Reason]uint64 { return n.closes.read() }

// HitsOfOurs calls read, which reads go-redis's hit counts, and returns how many of them may be
// maintenance's: it may just be counting one.
func (n *Node) HitsOfOurs(read func()) uint64 {
	over, met := n.over.Load(), n.visits.Load()
	read()
	return met + n.began.Load() - over
}

// Dialing returns the number of dials in progress.
func (n *Node) Dialing() int { return int(n.dialing.Load()) }

// Dials counts the dials that were tried and those of them that failed.
func (n *Node) Dials() (tried, failed uint64) { return n.dials.Load(), n.failures.Load() }

func (n *Node) poolOf(addr string, readBuffer int) hooks.Pool {
	switch {
	case n.isSentinel(addr):
		return hooks.PoolSentinel
	case n.resolves && readBuffer == sentinelReadBuffer:
		n.sentinels.Store(addr, true) // its pub/sub connection, which follows, has another buffer
		return hooks.PoolSentinel
	case n.pipelineRead > 0 && readBuffer == n.pipelineRead:
		return hooks.PoolPipeline
	}
	return hooks.PoolMain
}

// ClosedToNew reports whether the server accepted no new connection at the last attempt: then no
// working one is closed for its age.
func (n *Node) ClosedToNew() bool {
	h := n.Health()
	return h != hooks.Healthy && h != hooks.Degraded
}

// NotifyOfUse makes Upkeep.Used be called at the next command, once.
func (n *Node) NotifyOfUse() { n.notifyOfUse.Store(true) }

// SetUpkeep sets the functions that maintenance is called by.
func (n *Node) SetUpkeep(u Upkeep) { n.upkeep.Store(&u) }

// SetServerTimeout sets the idle time after which a connection is not used without a PING. 0: none.
func (n *Node) SetServerTimeout(d time.Duration) { n.serverTimeout.Store(int64(d)) }
