package conntrack

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// Conn is a tracked connection: what go-redis gets from the Dialer. All of its state is atomic or
// belongs to the writing side, because writes, reads and deadlines may come from different
// goroutines at once.
type Conn struct {
	net.Conn // the dialed connection: TCP, TLS, Unix socket or from a user's Dialer

	node    *Node
	addr    string
	local   string // its own address
	remote  string
	id      uint64
	created int64 // ns on the tracker's clock
	spread  float64
	below   net.Conn        // the connection below TLS, nil without TLS
	raw     syscall.RawConn // of the socket, below TLS; nil where there is none
	guard   guard

	flags      atomic.Uint32
	lastUsed   atomic.Int64 // ns, last write to the network
	heard      atomic.Int64 // ns, when the last reply began to arrive
	in, out    atomic.Uint64
	name       [2]atomic.Uint64 // last command
	pool       atomic.Uint32    // Pool
	patience   atomic.Int64     // ns, of the visit's PING in flight
	pingReason atomic.Uint32    // why that PING was sent, packed as an order
	order      atomic.Uint32    // what must happen to it, see order.go
	state      atomic.Uint32    // session state found by scan, for other goroutines
	scan       scanner          // owned by the writing side
	taken      int64            // ns, the last visit that took it or may have; belongs to whoever go-redis gave it to
	tail       byte             // the last byte that was read; belongs to the reading side
	leased     atomic.Bool
	cause      atomic.Pointer[error] // of an interruption
	closedFor  atomic.Pointer[closeReason]
	turn       *firstHandshake // that its handshake may be, or has to wait for; nil: none
	first      atomic.Bool     // its handshake is that one
	writeBy    atomic.Int64    // the write deadline that was asked for, as in limit
	writes     limit           // the write deadline in force on the connection below
	reads      limit
	seat       func() // gives back its place in the connection limit
	closed     atomic.Bool
	bound      atomic.Pointer[binding] // the ctx that ends its handshake, nil for none
	settled    chan struct{}           // closed with fSettled
}

// closeReason is why a connection is closed; the first reason counts.
type closeReason struct {
	reason hooks.Reason
	err    error
}

const (
	fCheckout     uint32 = 1 << iota // SetDeadline(zero) was the last call: go-redis took it from its idle list
	fReadStale                       // that SetDeadline has not been passed on for reads
	fWrote                           // a byte of the current command was written
	fOutstanding                     // its reply has not been read
	fReadSet                         // the read deadline of that reply has been set
	fAwaiting                        // nothing has come back since the last write
	fCanned                          // a visit's reply is waiting to be read
	fAnswered                        // it has been read: nothing may be read before the next write
	fUnchecked                       // the guard let it through for a visit
	fPushSeen                        // the server has sent a push frame: never reply in its place
	fReady                           // the handshake is over
	fInterrupted                     // a ctx ended while a command was in flight
	fPinging                         // a visit's real PING is in flight
	fRead                            // something was read
	fChecked                         // the socket was checked in this checkout
	fPingDeadline                    // the read deadline is that of a visit's real PING
	fWriting                         // a Write to the network is running
	fLongWrite                       // it was seen running, so it takes long
	fMany                            // several commands' replies are, or may be, outstanding
	fSettled                         // the goroutine that did the handshake is done with it

	slowWrite = fCheckout | fCanned | fAnswered | fUnchecked | fInterrupted | fPingDeadline
	slowRead  = fReadStale | fCanned | fAnswered | fInterrupted
)

var (
	pong = []byte("+K\r\n") // a visit's reply; one letter, because go-redis makes that a string without an allocation
	ping = []byte("*1\r\n$4\r\nPING\r\n")

	past = time.Unix(1, 0)

	errDesync = errors.New("lifeguard: unexpected use of the connection during a visit")
)

func (c *Conn) has(f uint32) bool { return c.flags.Load()&f != 0 }
func (c *Conn) set(f uint32)      { c.flags.Or(f) }
func (c *Conn) unset(f uint32) {
	if c.flags.Load()&f != 0 { // a load is cheaper than a locked instruction
		c.flags.And(^f)
	}
}

// change clears and sets flags in one step and returns what they were.
func (c *Conn) change(clear, set uint32) uint32 {
	for {
		old := c.flags.Load()
		next := old&^clear | set
		if old == next || c.flags.CompareAndSwap(old, next) {
			return old
		}
	}
}

// ID returns the connection's id, unique in the process.
func (c *Conn) ID() uint64 { return c.id }

// Written returns how many bytes have been written to it.
func (c *Conn) Written() uint64 { return c.out.Load() }

// Interrupt makes a command in flight fail at once with cause, usually the error of a ctx. The
// connection cannot be used afterwards. Safe for concurrent use.
func (c *Conn) Interrupt(cause error) {
	c.closeFor(hooks.ReasonInterrupted, cause)
	c.interrupt(cause)
}

func (c *Conn) interrupt(cause error) {
	c.cause.CompareAndSwap(nil, &cause)
	c.set(fInterrupted)
	_ = c.Conn.SetDeadline(past)
	// Close the socket now, not when the lease ends: until then the server would deliver pushed
	// elements to a BLPOP whose reply nobody reads.
	if c.below != nil {
		_ = c.below.Close() // closing TLS would wait for its close alert
	} else {
		_ = c.Conn.Close()
	}
}

// fail turns a network error into a typed one.
func (c *Conn) fail(op string, err error) error {
	fl := c.flags.Load()
	e := &hooks.ConnError{Op: op, Node: c.addr, ID: c.id, Age: time.Duration(c.node.t.now() - c.created),
		Wrote: fl&fWrote != 0 || op == OpRead && fl&fOutstanding != 0, Handshake: fl&fReady == 0, Err: err}
	if fl&fInterrupted != 0 {
		e.Self = true
		if p := c.cause.Load(); p != nil {
			e.Err = *p
		}
	} else if errors.Is(err, net.ErrClosed) {
		e.Self = true
	}
	// A check for push frames may time out on a healthy connection.
	var ne net.Error
	timeout := errors.As(err, &ne) && ne.Timeout()
	// A subscriber waits for messages that may never come.
	quiet := command.SessionState(c.state.Load())&command.PubSub != 0
	if !timeout || op == OpWrite || fl&fOutstanding != 0 && !quiet {
		why := hooks.ReasonError
		if fl&fPinging != 0 {
			_, why = unpackOrder(c.pingReason.Load())
		}
		c.closeFor(why, err)
		if !e.Self {
			c.node.noteFailure()
		}
		if !c.sentinel() { // a Sentinel's failure says nothing about the servers
			if e.Handshake && !e.Self {
				c.node.health.handshakeFailed(err, timeout, time.Duration(c.lastUsed.Load()))
			}
			c.node.t.failed(c, e, timeout, fl&fPinging != 0)
		}
	}
	if e.Wrote && !e.Handshake {
		c.node.t.cut.Add(1)
	}
	out := typed(e)
	// A cluster would repeat a handshake that we gave up on the same node.
	gaveUp := e.Handshake && e.Self
	if c.node.t.cfg.Opaque && (gaveUp || !e.Unsent() && !quiet && (op == OpWrite || fl&fOutstanding != 0)) {
		return &opaqueError{out}
	}
	return out
}

// closeFor records why the connection will be closed. It does not close it: go-redis does.
func (c *Conn) closeFor(r hooks.Reason, err error) {
	c.closedFor.CompareAndSwap(nil, &closeReason{r, err})
}

// Close implements net.Conn. It may run under go-redis's pool lock, so it takes none of our locks
// that may be held during a call of go-redis.
func (c *Conn) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		if c.sentinel() {
			return nil // CloseSentinels has closed it already
		}
		return net.ErrClosed
	}
	if b := c.bound.Swap(nil); b != nil {
		b.stop()
	}
	c.endFirstHandshake(false)
	c.settle()
	if c.closedFor.Load() == nil && c.flags.Load()&(fReady|fWrote) == fReady|fWrote {
		c.node.t.cut.Add(1) // go-redis may have been unable to use a reply
	}
	c.node.t.remove(c)
	err := c.Conn.Close()
	c.seat() // not before: the server must never see one too many
	return err
}

// sentinel reports whether it is a connection to a Sentinel.
func (c *Conn) sentinel() bool { return hooks.Pool(c.pool.Load()) == hooks.PoolSentinel }

// Taken returns when Acquire took the connection; for its holder only.
func (c *Conn) Taken() time.Time { return c.node.t.wall(c.taken) }

// SetLeased sets whether a lease holds the connection. Call it with false before the lease's Conn is
// closed.
func (c *Conn) SetLeased(on bool) {
	switch {
	case c.leased.Swap(on) == on:
	case on:
		c.node.leased.Add(1)
	default:
		c.node.leased.Add(-1)
	}
}

// HasSessionState reports whether commands left state on the connection, and whether Undo can undo
// that state (an open MULTI, watched keys).
func (c *Conn) HasSessionState() (has, undoable bool) {
	d := command.SessionState(c.state.Load())
	return d != 0, d != 0 && d&^(command.InMulti|command.Watching) == 0
}

// SawWriting records that a write was seen running: the wait for its reply then counts from the end
// of the write.
func (c *Conn) SawWriting() {
	for fl := c.flags.Load(); fl&fWriting != 0 && !c.flags.CompareAndSwap(fl, fl|fLongWrite); fl = c.flags.Load() {
	}
}

// Node returns the node the connection belongs to.
func (c *Conn) Node() *Node { return c.node }
