package conntrack

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// stillborn is what go-redis gets for a dial that failed: a connection whose first use fails,
// unsent, with the error of the dial. go-redis counts failed dials and never resets the count:
// after PoolSize of them it refuses all callers for up to a second after the server is back
// (TestMoreFailedDialsThanPoolSizeLeaveNoTail). A handshake that fails has no such consequence, and
// the caller sees the same error.
type stillborn struct {
	err    error
	addr   string
	net    string
	node   *Node // the node that counts it, or nil
	closed atomic.Bool
}

// stillborn makes one for a dial of the node's client.
func (n *Node) stillborn(err error, network, addr string) net.Conn {
	n.unborn.Add(1)
	s := &stillborn{err: err, addr: addr, net: network, node: n}
	var full *fullError
	if errors.As(err, &full) {
		return &turnedAway{s, full.reply}
	}
	return s
}

// Unborn counts the connections that go-redis takes for open although their dial has failed.
func (n *Node) Unborn() int { return int(n.unborn.Load()) }

// asDial makes the error of a dial that failed outside of our Dialer: because of a Sentinel that
// has to name the master first, or of a user's hook.
func asDial(err error, addr string) error {
	var known *hooks.ConnError
	if errors.As(err, &known) {
		return &wholeError{err}
	}
	return typed(&hooks.ConnError{Op: OpDial, Node: addr, Err: err})
}

// wholeError keeps all of an error that go-redis would unwrap once before callers see it: "all
// sentinels specified in configuration are unreachable" is the outermost part.
type wholeError struct{ error }

func (e *wholeError) Unwrap() []error { return []error{e.error} }

func isClosed(err error) bool { return err == redis.ErrClosed }

func (s *stillborn) Read([]byte) (int, error)         { return 0, s.err }
func (s *stillborn) Write([]byte) (int, error)        { return 0, s.err }
func (s *stillborn) LocalAddr() net.Addr              { return stillAddr{s.net, ""} }
func (s *stillborn) RemoteAddr() net.Addr             { return stillAddr{s.net, s.addr} }
func (s *stillborn) SetDeadline(time.Time) error      { return nil }
func (s *stillborn) SetReadDeadline(time.Time) error  { return nil }
func (s *stillborn) SetWriteDeadline(time.Time) error { return nil }

func (s *stillborn) Close() error {
	if s.node != nil && s.closed.CompareAndSwap(false, true) {
		s.node.unborn.Add(-1)
	}
	return nil
}

// SyscallConn refuses it at a checkout: one that was dialed for MinIdleConns
// waits in the pool without having been used.
func (s *stillborn) SyscallConn() (syscall.RawConn, error) { return nil, refuse(hooks.ReasonError) }

type stillAddr struct{ network, addr string }

func (a stillAddr) Network() string { return a.network }
func (a stillAddr) String() string  { return a.addr }
