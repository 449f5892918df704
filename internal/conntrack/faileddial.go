package conntrack

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/attempt"
)

// failedDial is what go-redis gets for a dial that failed: a connection whose first use fails,
// unsent, with the error of the dial. go-redis counts failed dials and never resets the count:
// after PoolSize of them it refuses all callers for up to a second after the server is back
// (TestMoreFailedDialsThanPoolSizeLeaveNoTail). A handshake that fails has no such consequence, and
// the caller sees the same error.
type failedDial struct {
	err    error
	addr   string
	net    string
	node   *Node // the node that counts it, or nil
	closed atomic.Bool
}

// failedDial makes one for a dial of the node's client.
func (n *Node) failedDial(err error, network, addr string) net.Conn {
	n.failedDials.Add(1)
	s := &failedDial{err: err, addr: addr, net: network, node: n}
	var full *maxClientsError
	if errors.As(err, &full) {
		return &refusedDial{s, full.reply}
	}
	return s
}

// PoolStats returns go-redis's, without the connections whose dial has failed.
func (n *Node) PoolStats() *redis.PoolStats {
	ps := n.Client().PoolStats()
	n.WithoutFailedDials(ps)
	return ps
}

// WithoutFailedDials takes the connections whose dial has failed out of go-redis's numbers: only
// those that wait in a pool exist for longer than a moment. Which pool each is in is not known; what
// the main pool cannot hold is in the pipeline pool.
func (n *Node) WithoutFailedDials(ps *redis.PoolStats) {
	failed := uint32(max(n.failedDials.Load(), 0))
	inMain := min(failed, ps.IdleConns, ps.TotalConns)
	ps.IdleConns -= inMain
	ps.TotalConns -= inMain
	if p := ps.PipelineStats; p != nil {
		inPipeline := min(failed-inMain, p.IdleConns, p.TotalConns)
		p.IdleConns -= inPipeline
		p.TotalConns -= inPipeline
	}
}

// asDial makes the error of a dial that failed outside of our Dialer: because of a Sentinel that
// has to name the master first, or of a user's hook.
func asDial(err error, addr string) error {
	var known *hooks.ConnError
	if errors.As(err, &known) {
		return whole(err)
	}
	if IsEarly(err) {
		err = attempt.Reveal(err) // of a Sentinel's connection: its mark would hide that this is a dial
	}
	return typed(&hooks.ConnError{Op: OpDial, Node: addr, Err: err})
}

// wholeError keeps all of an error that go-redis would unwrap once before callers see it: "all
// sentinels specified in configuration are unreachable" is the outermost part.
type wholeError struct{ error }

// wholeNetError is a wholeError that is a net.Error, too.
type wholeNetError struct {
	wholeError
	net net.Error
}

func (e *wholeNetError) Timeout() bool   { return e.net.Timeout() }
func (e *wholeNetError) Temporary() bool { return e.net.Timeout() }

func whole(err error) error {
	var ne net.Error
	if errors.As(err, &ne) {
		return &wholeNetError{wholeError{err}, ne}
	}
	return &wholeError{err}
}

func (e *wholeError) Unwrap() []error { return []error{e.error} }

func isClosed(err error) bool { return err == redis.ErrClosed }

func (s *failedDial) Read([]byte) (int, error)         { return 0, s.err }
func (s *failedDial) Write([]byte) (int, error)        { return 0, s.err }
func (s *failedDial) LocalAddr() net.Addr              { return failedAddr{s.net, ""} }
func (s *failedDial) RemoteAddr() net.Addr             { return failedAddr{s.net, s.addr} }
func (s *failedDial) SetDeadline(time.Time) error      { return nil }
func (s *failedDial) SetReadDeadline(time.Time) error  { return nil }
func (s *failedDial) SetWriteDeadline(time.Time) error { return nil }

func (s *failedDial) Close() error {
	if s.node != nil && s.closed.CompareAndSwap(false, true) {
		s.node.failedDials.Add(-1)
	}
	return nil
}

// SyscallConn refuses it at a checkout: one that was dialed for MinIdleConns
// waits in the pool without having been used.
func (s *failedDial) SyscallConn() (syscall.RawConn, error) { return nil, refuse(hooks.ReasonError) }

type failedAddr struct{ network, addr string }

func (a failedAddr) Network() string { return a.network }
func (a failedAddr) String() string  { return a.addr }
