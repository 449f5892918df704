package conntrack

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
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

	flags     atomic.Uint32
	lastUsed  atomic.Int64 // ns, last write to the network
	heard     atomic.Int64 // ns, when the last reply began to arrive
	in, out   atomic.Uint64
	name      [2]atomic.Uint64 // last command
	pool      atomic.Uint32    // Pool
	patience  atomic.Int64     // ns, of the visit's PING in flight
	wokenFor  atomic.Uint32    // why that PING was sent, packed as an order
	order     atomic.Uint32    // what must happen to it, see order.go
	state     atomic.Uint32    // session state found by scan, for other goroutines
	scan      scanner          // owned by the writing side
	taken     int64            // ns, the last visit that took it or may have; belongs to whoever go-redis gave it to
	tail      byte             // the last byte that was read; belongs to the reading side
	leased    atomic.Bool
	cause     atomic.Pointer[error] // of an interruption
	closedFor atomic.Pointer[closeReason]
	first     atomic.Bool  // its handshake is the first one of its node
	writeBy   atomic.Int64 // the write deadline that was asked for, as in limit
	writes    limit        // the write deadline in force on the connection below
	reads     limit
	seat      func() // gives back its place in the connection limit
	closed    atomic.Bool
	bound     atomic.Pointer[binding] // the ctx that ends its handshake, nil for none
	settled   chan struct{}           // closed with fSettled
}

// closeReason is why a connection is closed; the first reason counts.
type closeReason struct {
	reason hooks.Reason
	err    error
}

const (
	fCheckout    uint32 = 1 << iota // SetDeadline(zero) was the last call: go-redis took it from its idle list
	fReadStale                      // that SetDeadline has not been passed on for reads
	fWrote                          // a byte of the current command was written
	fOutstanding                    // its reply has not been read
	fReadSet                        // the read deadline of that reply has been set
	fAwaiting                       // nothing has come back since the last write
	fCanned                         // a visit's reply is waiting to be read
	fAnswered                       // it has been read: nothing may be read before the next write
	fUnchecked                      // the guard let it through for a visit
	fPushSeen                       // the server has sent a push frame: never reply in its place
	fReady                          // the handshake is over
	fInterrupted                    // a ctx ended while a command was in flight
	fWaking                         // a visit's real PING is in flight
	fRead                           // something was read
	fChecked                        // the socket was checked in this checkout
	fWoken                          // the read deadline is that of a visit's real PING
	fWriting                        // a Write to the network is running
	fLongWrite                      // it was seen running, so it takes long
	fMany                           // several commands' replies are, or may be, outstanding
	fSettled                        // whoever did the handshake has left the connection

	slowWrite = fCheckout | fCanned | fAnswered | fUnchecked | fInterrupted | fWoken
	slowRead  = fReadStale | fCanned | fAnswered | fInterrupted
)

// pushDrainWait is how long go-redis waits for the rest of a push frame (50 ms),
// and a little more.
const pushDrainWait = 60 * time.Millisecond

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

// Write sends a request, or replies to a visit. Implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	if c.has(slowWrite) {
		if err := c.beforeWrite(b); err != nil {
			return 0, err
		}
	}
	if len(b) == visitLen {
		if v := visitIn(b); v != nil {
			return c.visited(v, len(b))
		}
	}
	if c.has(fReady) {
		c.follow(b)
	} else if c.out.Load() == 0 {
		first, err := c.node.first.enter(c.node.t.now(), c.node.gate.ctx.Done(), c.boundTo(), timeOf(c.writeBy.Load()))
		if err != nil {
			return 0, c.fail(OpWrite, err)
		}
		c.first.Store(first)
	}
	return c.send(b)
}

// send writes to the network.
func (c *Conn) send(b []byte) (int, error) {
	now := c.node.t.now()
	c.lastUsed.Store(now)
	if err := c.setWriteDeadline(now); err != nil {
		return 0, err
	}
	if c.node.notifyOfUse.Load() && c.node.notifyOfUse.CompareAndSwap(true, false) {
		c.node.upkeep.Load().Used()
	}
	before := c.change(fReadSet|fChecked, fWrote|fOutstanding|fAwaiting|fWriting)
	n, err := c.Conn.Write(b)
	c.out.Add(uint64(n))
	if c.flags.And(^(fWriting|fLongWrite))&fLongWrite != 0 {
		c.lastUsed.Store(c.node.t.now()) // the wait for a reply begins here
	}
	if err != nil {
		// In full duplex go-redis would repeat what it wrote before, too. What a reply
		// has come for is over.
		if n == 0 && before&fWrote == 0 && before&(fOutstanding|fAwaiting) != fOutstanding|fAwaiting {
			c.unset(fWrote | fOutstanding)
		}
		return n, c.fail(OpWrite, err)
	}
	return n, nil
}

// follow parses the commands written.
func (c *Conn) follow(b []byte) {
	s := &c.scan
	before := s.begun
	s.feed(b)
	if s.begun-before > 1 || s.lost || c.has(fAwaiting) {
		if !c.has(fMany) {
			c.set(fMany)
		}
	} else {
		c.unset(fMany)
	}
	c.name[0].Store(s.last)
	if s.more != 0 || c.name[1].Load() != 0 {
		c.name[1].Store(s.more)
	}
	if uint32(s.state) != c.state.Load() {
		c.state.Store(uint32(s.state))
	}
}

// beforeWrite handles the rare states; an error means that nothing was written.
func (c *Conn) beforeWrite(b []byte) error {
	fl := c.flags.Load()
	if fl&fInterrupted != 0 {
		return c.fail(OpWrite, net.ErrClosed)
	}
	if fl&fCanned != 0 { // a reply that nobody read: replies would shift by one
		c.closeFor(hooks.ReasonError, errDesync)
		return refuse(hooks.ReasonError)
	}
	c.unset(fCheckout | fAnswered | fUnchecked)
	if fl&(fCheckout|fUnchecked) != 0 && !(len(b) == visitLen && visitIn(b) != nil) {
		// The guard had no chance to refuse it (client-side cache over TLS, or a sweep in
		// progress): refuse it now, before anything is sent.
		now := c.node.t.now()
		r := c.refusal(now)
		if r == "" && c.doubtful(now) {
			r = hooks.ReasonSuspected
		}
		if r != "" {
			c.closeFor(r, nil)
			return refuse(r)
		}
		if alive, _ := c.peek(); !alive {
			c.closeFor(hooks.ReasonError, nil)
			return refuse(hooks.ReasonError)
		}
	}
	if fl&fWoken != 0 {
		c.change(fWoken, fReadStale)
	}
	return nil
}

// Read returns a reply of the server, or the reply to a visit. Implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	if c.has(slowRead) {
		if n, err := c.beforeRead(b); n > 0 || err != nil {
			return n, err
		}
	}
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.received(b[:n], len(b))
	}
	if err != nil {
		err = c.readFailed(err)
	}
	return n, err
}

// received looks at what has been read; room is the size of the buffer that it was read into. It is
// not inlined, to keep the stack frame of Read small; see Hook.Process of package retry.
//
//go:noinline
func (c *Conn) received(b []byte, room int) {
	c.in.Add(uint64(len(b)))
	c.tail = b[len(b)-1]
	fl := c.flags.Load()
	if fl&fRead == 0 {
		c.set(fRead)
		if c.pool.CompareAndSwap(0, uint32(c.node.poolOf(c.addr, room))) && c.sentinel() {
			c.seat() // those do not count
		}
		if fl&fReady == 0 {
			c.refuses(b)
		}
	}
	if fl&(fAwaiting|fWaking) != 0 {
		c.heard.Store(c.node.t.now())
		if c.node.Health() == hooks.Degraded {
			c.node.SetAnswering()
		}
		c.flags.And(^(fAwaiting | fWaking))
	}
	if fl&fPushSeen == 0 && startsPush(b) {
		c.set(fPushSeen)
		c.node.pushes.Add(1)
		fl |= fPushSeen
	}
	if fl&fPushSeen != 0 && bytes.Contains(b, moving) {
		c.node.movingAt.Store(c.node.t.now())
	}
	// A single reply says so at its start: what is large, and all after its first
	// read, need not be searched.
	if fl&fReady != 0 && (b[0] == '-' || b[0] == '>' || fl&(fMany|fPushSeen) != 0) && saysReadOnly(b) && !c.sentinel() {
		c.Evict(hooks.ReasonReadOnly)
	}
}

func (c *Conn) readFailed(err error) error {
	if err == io.EOF && c.tail != '\n' && c.has(fRead) && !c.has(fAwaiting) {
		err = io.ErrUnexpectedEOF // go-redis finds that out only from a bare EOF
	}
	return c.fail(OpRead, err)
}

func (c *Conn) beforeRead(b []byte) (int, error) {
	fl := c.flags.Load()
	switch {
	case fl&fInterrupted != 0:
		return 0, c.fail(OpRead, net.ErrClosed)
	case fl&fCanned != 0:
		c.unset(fCanned)
		if len(b) < len(pong) {
			c.closeFor(hooks.ReasonError, errDesync)
			return 0, refuse(hooks.ReasonError)
		}
		c.set(fAnswered)
		return copy(b, pong), nil
	case fl&fAnswered != 0: // somebody expects more than the one reply
		c.closeFor(hooks.ReasonError, errDesync)
		return 0, refuse(hooks.ReasonError)
	}
	if fl&fReadStale != 0 {
		c.unset(fReadStale)
		c.reads.forget()
		return 0, c.Conn.SetReadDeadline(time.Time{})
	}
	return 0, nil
}

// isFull recognises the first reply of a server that accepts no new connection: it has reached its
// maxclients, or our password is no longer valid.
func isFull(b []byte) bool {
	return isMaxClients(b) || bytes.HasPrefix(b, []byte("-WRONGPASS")) || bytes.HasPrefix(b, []byte("-NOAUTH"))
}

// refused returns the error for such a reply.
func refused(b []byte) error {
	line, _, _ := strings.Cut(string(b), "\r\n")
	return errors.New(line)
}

// saysReadOnly recognises a replica's reply to a write; Redis 6 has it in the middle of the error
// of a script. go-redis closes the connection after it only when a command was sent alone, although
// the name that was dialed may lead to another server by now. A value that looks like this reply
// only costs a new connection.
func saysReadOnly(b []byte) bool {
	i := bytes.Index(b, readOnlyCode)
	if i < 1 || b[i-1] != '-' {
		return false
	}
	b = b[i+len(readOnlyCode):]
	return bytes.HasPrefix(b, readOnlyWrite) || bytes.HasPrefix(b, readOnlyScript)
}

var (
	readOnlyCode   = []byte("READONLY ") // without its dash, which is frequent in values
	readOnlyWrite  = []byte("You can't write against a read only replica")
	readOnlyScript = []byte("Can not run script with write flag on readonly replica")
)

// startsPush reports whether b holds the start of a RESP3 push frame. A value that looks like one
// only costs a real PING.
func startsPush(b []byte) bool {
	for off := 0; ; {
		i := bytes.IndexByte(b[off:], '>')
		if i < 0 {
			return false
		}
		if i += off; i == 0 || b[i-1] == '\n' {
			return true
		}
		off = i + 1
	}
}

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
	// A look for push frames may time out on a healthy connection.
	var ne net.Error
	timeout := errors.As(err, &ne) && ne.Timeout()
	// A subscriber waits for messages that may never come.
	quiet := command.SessionState(c.state.Load())&command.PubSub != 0
	if !timeout || op == OpWrite || fl&fOutstanding != 0 && !quiet {
		why := hooks.ReasonError
		if fl&fWaking != 0 {
			_, why = unpackOrder(c.wokenFor.Load())
		}
		c.closeFor(why, err)
		if !e.Self {
			c.node.noteFailure()
		}
		if !c.sentinel() { // a Sentinel's failure says nothing about the servers
			if e.Handshake && !e.Self {
				c.node.health.unshaken(err, timeout, time.Duration(c.lastUsed.Load()))
			}
			c.node.t.failed(c, e, timeout, fl&fWaking != 0)
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
	c.shaken(false)
	c.settle()
	if c.closedFor.Load() == nil && c.order.Load() == orderNone && c.flags.Load()&(fReady|fWrote) == fReady|fWrote {
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
