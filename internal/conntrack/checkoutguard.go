package conntrack

import (
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// guard is what go-redis gets from SyscallConn when it checks a connection that it takes from its
// idle list: there a connection can be refused without any caller noticing (go-redis closes it and
// takes the next one). It is a part of its Conn, so that a checkout allocates nothing for it.
type guard struct {
	c     *Conn
	check func(fd uintptr) bool // go-redis's check of the socket, while in Read
	call  func(fd uintptr)      // runs check; made once
	peek  peeker
	skip  bool  // no check is needed in this checkout
	at    int64 // when this checkout was, on the tracker's clock; 0: no check was made
}

// peeker stores what a check of a socket saw.
type peeker struct {
	buf [5]byte
	n   int
	err error
	fn  func(fd uintptr)
}

// checkedConn is a tracked connection whose checkouts are guarded. go-redis
// finds SyscallConn by type, so a connection that must not have it (client-side
// caching over TLS, TestContractTheCacheTakesASyscallConnForUnbuffered) is a tlsConn or a plain *Conn instead.
type checkedConn struct{ *Conn }

// tlsConn gives go-redis's client-side cache the socket below TLS.
type tlsConn struct{ *Conn }

// NetConn returns the connection below TLS.
func (c tlsConn) NetConn() net.Conn { return c.below }

var errNoSocket = errors.New("lifeguard: the connection has no socket to check")

// SyscallConn implements syscall.Conn. Right after SetDeadline(zero) it is the pool's check at a
// checkout; at any other time it is a check for push frames on a connection in use, which must see
// the real socket (docs/INTERNALS.md).
func (c checkedConn) SyscallConn() (syscall.RawConn, error) {
	if !c.has(fCheckout) {
		if c.raw == nil {
			return nil, errNoSocket
		}
		return c.raw, nil
	}
	c.unset(fCheckout)
	if c.node.sweeping.Load() > 0 {
		// Refusing here would make the visit dial (TestASweepOfEvictedConnectionsDialsNothing);
		// its own write checks the connection instead, and so does any other first write.
		c.set(fUnchecked)
		c.guard.at = 0
		return &c.guard, nil
	}
	now, _ := c.node.t.CheckClocks()
	r := c.refusal(int64(now))
	if r == "" && c.doubtful(int64(now)) {
		r = hooks.ReasonSuspected // a checkout cannot wait for a PING; maintenance probes the others
	}
	if r != "" {
		c.closeFor(r, nil)
		return nil, refuse(r)
	}
	c.guard.skip, c.guard.at = c.justUsed(int64(now)), int64(now)
	return &c.guard, nil
}

// A connection that was used a moment ago is not checked if no connection of its node has failed
// for a while: the check is a system call, which costs a busy client several percent of its
// throughput. A connection may also break right after a check; what is not noticed here is noticed
// by the command.
const justUsed = time.Millisecond

func (c *Conn) justUsed(now int64) bool {
	return now-c.lastUsed.Load() < int64(justUsed) && c.node.noRecentFailure(now)
}

// Read runs go-redis's check of the socket without waiting. Over TLS the bytes on the socket mean
// nothing to go-redis, so our own check is used.
func (g *guard) Read(check func(fd uintptr) bool) error {
	c := g.c
	if g.skip || c.raw == nil || c.has(fUnchecked) {
		return nil
	}
	c.set(fChecked)
	if c.below != nil {
		if alive, _ := c.peek(); !alive {
			c.closeFor(hooks.ReasonError, nil)
			return refuse(hooks.ReasonError)
		}
		return nil
	}
	g.check = check
	err := c.raw.Control(g.call)
	g.check = nil
	return err
}

// Control and Write complete syscall.RawConn; go-redis does not use them.
func (g *guard) Control(f func(fd uintptr)) error {
	if g.c.raw == nil {
		return errNoSocket
	}
	return g.c.raw.Control(f)
}

func (g *guard) Write(f func(fd uintptr) bool) error {
	if g.c.raw == nil {
		return errNoSocket
	}
	return g.c.raw.Write(f)
}

// TLS record types and the length of an encrypted alert in TLS 1.3 (RFC 8446,
// sections 5.1 and 5.2: two bytes of alert, one of type, sixteen of tag).
const (
	tlsAlert    = 0x15
	tlsData     = 0x17
	tlsAlertLen = 0x13
)

// peek checks the socket without consuming anything from it. pending means that bytes are waiting.
// A connection without a socket counts as alive.
func (c *Conn) peek() (alive, pending bool) { return c.peekWith(&c.guard.peek) }

// peekWith is for callers that do not hold the connection.
func (c *Conn) peekWith(p *peeker) (alive, pending bool) {
	if c.raw == nil {
		return true, false
	}
	b, eof, err := p.peekSocket(c.raw)
	switch {
	case eof || err != nil:
		return false, false
	case len(b) == 0:
		return true, false
	case c.below != nil:
		// Redis sends a close alert before it closes, so a dead TLS connection does not show EOF
		// but that alert. Before the first reply other messages of the handshake may look like
		// one.
		if c.has(fRead) && (b[0] == tlsAlert || len(b) >= 5 && b[0] == tlsData && b[3] == 0 && b[4] == tlsAlertLen) {
			return false, true
		}
		return true, true
	case b[0] == '>':
		return true, true
	}
	return false, true // a reply that was not requested
}
