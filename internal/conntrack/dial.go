package conntrack

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// baseDialer opens connections: the user's own Dialer, else go-redis's, which sets TCP keepalive
// (TestContractTheDialerOfNewDialerHasKeepalive). TLS is added here, because go-redis's own TLS
// dial does not obey its ctx.
func baseDialer(opt *redis.Options) dialFunc {
	if opt.Dialer != nil {
		return opt.Dialer
	}
	if opt.TLSConfig == nil {
		return redis.NewDialer(&redis.Options{DialTimeout: opt.DialTimeout})
	}
	plain := redis.NewDialer(&redis.Options{DialTimeout: opt.DialTimeout})
	conf := opt.TLSConfig
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := plain(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		conf := conf
		if conf.ServerName == "" && !conf.InsecureSkipVerify { // as crypto/tls.Dial does
			conf = conf.Clone()
			conf.ServerName = addr
			if i := strings.LastIndex(addr, ":"); i >= 0 {
				conf.ServerName = addr[:i]
			}
		}
		t := tls.Client(c, conf)
		if err := t.HandshakeContext(ctx); err != nil {
			_ = c.Close()
			return nil, err
		}
		return t, nil
	}
}

var lastID atomic.Uint64

// dial is the Dialer that go-redis calls. The outermost DialHook turns its errors into failedDial
// connections, so that the user's own hooks see what happened; as long as that one is not
// installed, dial does it itself, for MinIdleConns.
func (n *Node) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := n.open(ctx, network, addr)
	if err != nil && (isClosed(err) || n.installed.Load() != nil || n.isMove(addr)) {
		return nil, err
	}
	if err != nil {
		return n.failedDial(err, network, addr), nil
	}
	return n.facade(c), nil
}

// open dials one connection, unless the node is known to be unreachable.
func (n *Node) open(ctx context.Context, network, addr string) (*Conn, error) {
	if n.t.closed.Load() {
		return nil, redis.ErrClosed
	}
	own := addr == n.addr // a maintenance notification may name another address
	if own {
		if err := n.gate.check(); err != nil {
			return nil, typed(&hooks.ConnError{Op: OpDial, Node: addr, Err: err})
		}
	}
	if err := n.health.mayDial(addr); err != nil {
		return nil, err
	}
	endsEarly := n.endsEarly(ctx)
	ctx, cancel := context.WithTimeout(ctx, n.dialTimeout()) // go-redis bounds the dials of its pools, but not those of pub/sub
	defer cancel()
	defer context.AfterFunc(n.gate.ctx, cancel)() // closing the client ends its dials
	n.dialing.Add(1)
	defer n.dialing.Add(-1)
	if err := n.awaitSetup(ctx); err != nil {
		return nil, typed(&hooks.ConnError{Op: OpDial, Node: addr, Err: err})
	}
	leave, err := n.gate.enter(ctx)
	if err != nil {
		return nil, typed(&hooks.ConnError{Op: OpDial, Node: addr, Err: err})
	}
	defer leave()
	seat, sentinel := func() {}, n.isSentinel(addr)
	if !sentinel {
		if seat, err = n.t.seat(ctx); err != nil {
			return nil, typed(&hooks.ConnError{Op: OpDial, Node: addr, Err: err})
		}
	}
	n.dials.Add(1)
	start := n.t.now()
	c, err := n.base(ctx, network, addr)
	took := time.Duration(n.t.now() - start)
	if f := n.dialTook.Load(); f != nil {
		(*f)(took)
	}
	if err != nil {
		seat()
		n.failures.Add(1)
		n.lastDial.Store(&DialFailure{n.t.Now(), err})
		n.t.Emit(hooks.Event{Kind: hooks.DialFailed, Node: addr, Took: took, Err: err})
		switch {
		case endsEarly && errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			// The caller gave up, which says nothing about the node.
		case own:
			err = n.gate.shut(err)
		case !sentinel:
			n.health.become(hooks.Unreachable, err)
			err = &awayError{err, n}
		}
		return nil, typed(&hooks.ConnError{Op: OpDial, Node: addr, Err: err})
	}
	n.opened.Add(1)
	tracked := n.track(c, addr, seat)
	if !sentinel && tracked.remote != "" {
		n.health.connected(tracked.remote)
	}
	if n.t.closed.Load() { // closed meanwhile: nobody would close it
		_ = tracked.Close()
		return nil, redis.ErrClosed
	}
	n.t.Emit(hooks.Event{Kind: hooks.Dialed, Node: addr, ConnID: tracked.id, Took: took})
	n.upkeep.Load().Used()
	return tracked, nil
}

// DialAfter makes dials wait until setup is closed. Call it before the node is used.
func (n *Node) DialAfter(setup <-chan struct{}) { n.setup = setup }

func (n *Node) awaitSetup(ctx context.Context) error {
	if n.setup == nil {
		return nil
	}
	select {
	case <-n.setup:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// endsEarly reports whether ctx ends clearly before DialTimeout. go-redis passes its callers' ctxs to
// the dials of subscriptions.
func (n *Node) endsEarly(ctx context.Context) bool {
	by, ok := ctx.Deadline()
	return ok && time.Until(by) < n.dialTimeout()*9/10
}

// track makes the tracked connection.
func (n *Node) track(nc net.Conn, addr string, seat func()) *Conn {
	now := n.t.now()
	c := &Conn{Conn: nc, node: n, turn: n.first, addr: addr, id: lastID.Add(1), created: now, spread: rand.Float64(), seat: seat, settled: make(chan struct{})}
	c.lastUsed.Store(now)
	c.writeBy.Store(unknown)
	c.writes.forget()
	c.reads.forget()
	if a := nc.LocalAddr(); a != nil {
		c.local = a.String()
	}
	if a := nc.RemoteAddr(); a != nil {
		c.remote = a.String()
	}
	if n.isSentinel(addr) {
		c.pool.Store(uint32(hooks.PoolSentinel))
	}
	socket := nc
	if u, ok := nc.(interface{ NetConn() net.Conn }); ok {
		c.below = u.NetConn()
		socket = c.below
	}
	if s, ok := socket.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	c.guard.c = c
	c.guard.call = func(fd uintptr) { c.guard.check(fd) }
	n.bornAt.Store(now)
	n.conns.Store(c.id, c)
	n.peakOpen.raise(n.count.Add(1))
	n.raw.Add(1)
	n.t.conns.Store(c.id, c)
	n.t.count.Add(1)
	return c
}

// facade returns the connection with only those methods that go-redis may see: go-redis finds them
// by type (TestContractTheCacheTakesASyscallConnForUnbuffered).
func (n *Node) facade(c *Conn) net.Conn {
	cached := n.opt.Protocol != 2 && (n.opt.ClientSideCache != nil || n.opt.ClientSideCacheConfig != nil)
	_, socket := c.Conn.(syscall.Conn)
	switch {
	case !cached || socket:
		return checkedConn{c}
	case c.below != nil:
		return tlsConn{c}
	}
	return c
}
