//go:build unix

package sim

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Link is one connection: a client's end and a server's end.
type Link struct {
	server     *Server
	n          int
	up, down   *stream
	near, far  *Conn         // the client's end and the server's
	writing    chan struct{} // taken by whoever writes replies or push frames
	harmed     bool          // by a fault that its client may notice; under net.mu
	stale      bool          // its server is a replica by now, and the name leads elsewhere; under net.mu
	open       bool          // the client's end; under net.mu
	asked      bool          // a caller waits for its reply; under net.mu
	resp3      bool          // under net.mu
	subscribed bool          // to a Sentinel's messages; under net.mu
}

// Conn is one end of a link.
type Conn struct {
	link    *Link
	in, out *stream
	client  bool
}

func (c *Conn) op(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.in.read(b)
	return n, c.op("read", err)
}

// Write writes what the network's faults let through.
func (c *Conn) Write(b []byte) (int, error) {
	net := c.link.server.net
	c.link.setAsked(c.client && !strings.Contains(strings.ToUpper(string(b[:min(len(b), 20)])), "PING")) // those are maintenance's
	keep, cut := len(b), false
	if c.link.isOpen() {
		keep, cut = c.link.server.fate(b)
	}
	latency, perSecond := c.link.server.line()
	n, err := c.out.write(b[:keep], latency, perSecond)
	if cut {
		c.link.reset("was cut after %d of %d bytes", keep, len(b))
		switch {
		case err != nil:
		case keep < len(b) && net.coin(): // the writer notices it, or whoever reads next
			err = syscall.ECONNRESET
		default:
			n = len(b)
		}
	}
	if c.client && n > 0 {
		net.ledger.wrote(b, c.link)
	}
	return n, c.op("write", err)
}

func (c *Conn) Close() error {
	if c.client && !c.link.close() {
		return net.ErrClosed
	}
	latency, _ := c.link.server.line()
	c.out.finish(io.EOF, net.ErrClosed, latency)
	c.in.set(func() {
		c.in.gone = true
		if c.in.broken == nil && !c.in.lost {
			c.in.broken = syscall.EPIPE
		}
	})
	return nil
}

// reset ends both directions, after what is under way.
func (l *Link) reset(why string, args ...any) {
	l.harm(why, args...)
	for _, s := range []*stream{l.up, l.down} {
		s.finish(syscall.ECONNRESET, syscall.ECONNRESET, 0)
	}
}

// lose makes a black hole of it: both ends stay open, and nothing arrives.
func (l *Link) lose() {
	l.harm("loses everything from now on")
	for _, s := range []*stream{l.up, l.down} {
		s.set(func() { s.lost = true })
	}
}

// freeze makes the server read nothing from it until t.
func (l *Link) freeze(t time.Time) {
	l.harm("is not read by the server for %v", time.Until(t))
	l.up.set(func() { l.up.frozen = t })
}

func (l *Link) harm(text string, args ...any) {
	net := l.server.net
	net.mu.Lock()
	l.harmed, l.server.doubtful = true, true
	net.mu.Unlock()
	net.trace.add("", l.n, "link "+text, args...)
}

func (l *Link) setAsked(asked bool) {
	l.server.net.mu.Lock()
	defer l.server.net.mu.Unlock()
	if l.open {
		l.asked = asked
	}
}

func (l *Link) isOpen() bool {
	l.server.net.mu.Lock()
	defer l.server.net.mu.Unlock()
	return l.open
}

func (l *Link) isSubscribed() bool {
	l.server.net.mu.Lock()
	defer l.server.net.mu.Unlock()
	return l.subscribed
}

func (l *Link) close() (first bool) {
	l.server.net.mu.Lock()
	defer l.server.net.mu.Unlock()
	first, l.open = l.open, false
	return first
}

type addr string

func (a addr) Network() string { return "tcp" }
func (a addr) String() string  { return string(a) }

const clientHost = "10.0.0.1"

func (c *Conn) LocalAddr() net.Addr  { return c.end(c.client) }
func (c *Conn) RemoteAddr() net.Addr { return c.end(!c.client) }
func (c *Conn) end(client bool) net.Addr {
	if client {
		return addr(fmt.Sprintf("%s:%d", clientHost, 10000+c.link.n))
	}
	return addr(c.link.server.addr)
}

func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.set(func() { c.in.readBy = t })
	return nil
}

func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.set(func() { c.out.writeBy = t })
	return nil
}

// SyscallConn gives go-redis and lifeguard a socket to peek at.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return raw{c}, nil }

// raw sets up, for each look, a socket that shows what a socket of this connection
// would show: nothing, the first bytes, or the end.
type raw struct{ c *Conn }

func (r raw) Control(f func(fd uintptr)) error { show(r.c.in, f); return nil }
func (r raw) Read(f func(fd uintptr) bool) error {
	show(r.c.in, func(fd uintptr) { f(fd) })
	return nil
}
func (r raw) Write(func(fd uintptr) (done bool)) error { return syscall.ENOTSUP }

var showing sync.Mutex

func show(s *stream, f func(fd uintptr)) {
	ended := s.ended()
	s.mu.Lock()
	var head []byte
	if !s.lost && len(s.queue) > 0 && !s.queue[0].at.After(time.Now()) {
		head = s.queue[0].b[:min(5, len(s.queue[0].b))]
	}
	s.mu.Unlock()
	showing.Lock()
	defer showing.Unlock()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		panic(err)
	}
	syscall.CloseOnExec(pair[0])
	syscall.CloseOnExec(pair[1])
	defer syscall.Close(pair[0])
	if len(head) > 0 {
		_, _ = syscall.Write(pair[1], head)
	}
	if ended {
		syscall.Close(pair[1])
	} else {
		defer syscall.Close(pair[1])
	}
	f(uintptr(pair[0]))
}
