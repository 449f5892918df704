package hooks

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Node is one server as go-redis sees it: one redis.Client with its main and its
// pipeline pool. It is safe for concurrent use.
type Node struct {
	t    *Tracker
	opt  *redis.Options
	addr string
	base dialFunc

	pipelineRead int // read buffer of the pipeline pool: how its connections are told apart

	client atomic.Pointer[redis.Client]
	maint  atomic.Pointer[redis.Client] // shares the pools, has no hooks and no Limiter

	sweeping atomic.Int32
	dialing  atomic.Int32
	dials    atomic.Uint64
	failures atomic.Uint64
	lastDial atomic.Pointer[DialFailure]
	full     atomic.Bool // the last dial failed: end nothing that works
}

// DialFailure is a dial that failed.
type DialFailure struct {
	Time time.Time
	Err  error
}

// minWriteBuffer holds a whole visit, so that it is one write (VISIT-RULES 24).
const minWriteBuffer = 64

// NewNode prepares opt, in place, for a client that is about to be made of it:
// its Dialer makes tracked connections, its OnConnect tells them when their
// handshake is over, and its pool is a FIFO, so that visits reach every idle
// connection. Give the client to Bind.
func (t *Tracker) NewNode(opt *redis.Options) *Node {
	n := &Node{t: t, opt: opt, addr: opt.Addr}
	n.base = baseDialer(opt)
	opt.Dialer = n.dial
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
		if n.pipelineRead == opt.ReadBufferSize || n.pipelineRead == defaultReadBuffer {
			n.pipelineRead += 64 // the two pools must differ, or nothing tells them apart
		}
		opt.PipelineReadBufferSize = n.pipelineRead
	}
	user := opt.OnConnect
	opt.OnConnect = func(ctx context.Context, conn *redis.Conn) error {
		if user != nil {
			if err := user(ctx, conn); err != nil {
				return err
			}
		}
		return ready(ctx, conn)
	}
	return n
}

// defaultReadBuffer is go-redis's default for Options.ReadBufferSize.
const defaultReadBuffer = 32 << 10

// ready tells the tracked connection below conn that its handshake is over.
func ready(ctx context.Context, conn *redis.Conn) error {
	v := newVisit(visitReady)
	defer v.done()
	return v.check(conn.Process(ctx, v.cmd))
}

// Bind completes the node with the client that was made of its options.
func (n *Node) Bind(c *redis.Client) {
	n.client.Store(c)
	m := c.WithTimeout(n.t.cfg.WakeTimeout)
	m.Options().Limiter = nil // its own copy of the options (FACTS L4b)
	n.maint.Store(m)
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

// Dialing is the number of dials under way.
func (n *Node) Dialing() int { return int(n.dialing.Load()) }

// Dials counts the dials that were tried and those of them that failed.
func (n *Node) Dials() (tried, failed uint64) { return n.dials.Load(), n.failures.Load() }

func (n *Node) poolOf(readBuffer int) Pool {
	if n.pipelineRead > 0 && readBuffer == n.pipelineRead {
		return PoolPipeline
	}
	return PoolMain
}

func (n *Node) wakeLimit() time.Time { return time.Now().Add(n.t.cfg.WakeTimeout) }

// closedToNew reports whether the server takes no new connections at present:
// then no working one is ended for its age (VISIT-RULES 9).
func (n *Node) closedToNew() bool { return n.full.Load() }

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

// counts corrects go-redis's numbers: IdleConns may underflow for a moment (FACTS T2).
func counts(s *redis.PoolStats) Counts {
	if s == nil {
		return Counts{}
	}
	c := Counts{Total: int(s.TotalConns), Waiting: int(s.PendingRequests)}
	if s.IdleConns <= s.TotalConns {
		c.Idle = int(s.IdleConns)
	}
	c.InUse = c.Total - c.Idle
	return c
}

// Acquire takes a connection out of the main pool for conn, a fresh
// Client.Conn(), by a visit: for real, but without network traffic unless the
// connection has been idle for longer than SetValidateAfter says. holder, if not nil, is
// asked about every command on conn from then on. If it fails, close conn.
func (n *Node) Acquire(ctx context.Context, conn *redis.Conn, holder Holder) (*Conn, error) {
	v := newVisit(visitAcquire)
	defer v.done()
	v.holder = holder
	if err := v.check(conn.Process(ctx, v.cmd)); err != nil {
		return nil, err
	}
	return v.conn, nil
}

// NoWait returns a ctx for Acquire that takes a free slot of the pool but never
// waits: if there is none, or if a connection would have to be dialed first
// (which then goes on in the background), the error is ErrWouldWait.
func NoWait(ctx context.Context) context.Context { return &noWait{Context: ctx} }

// Visit visits one idle connection of the main or the pipeline pool and lets it
// obey its orders. It returns the connection it met (nil if none was free), and
// whether go-redis removed it.
func (n *Node) Visit(pool Pool) (met *Conn, removed bool, err error) {
	m := n.maint.Load()
	v := newVisit(visitSweep)
	defer v.done()
	n.sweeping.Add(1)
	defer n.sweeping.Add(-1)
	ctx := NoWait(context.Background())
	if pool == PoolPipeline {
		p := m.Pipeline()
		_ = p.Process(ctx, v.cmd)
		_, err = p.Exec(ctx)
	} else {
		err = m.Process(ctx, v.cmd)
	}
	met, err = v.conn, v.check(err)
	if errors.Is(err, ErrWouldWait) || errors.Is(err, errUnrecognised) {
		return nil, false, err
	}
	return met, err != nil, err
}
