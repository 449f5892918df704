package conntrack

import (
	"net"
	"syscall"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// stillborn is what go-redis gets for a dial that failed: a connection whose
// first use fails, unsent, with the error of the dial. go-redis counts failed
// dials and never forgets them: after PoolSize of them it refuses everybody for
// up to a second after the server is back (FACTS T15). A handshake that fails
// has no such tail, and the caller sees the same error.
type stillborn struct {
	err  error
	addr string
	net  string
}

func (s *stillborn) Read([]byte) (int, error)         { return 0, s.err }
func (s *stillborn) Write([]byte) (int, error)        { return 0, s.err }
func (s *stillborn) Close() error                     { return nil }
func (s *stillborn) LocalAddr() net.Addr              { return stillAddr{s.net, ""} }
func (s *stillborn) RemoteAddr() net.Addr             { return stillAddr{s.net, s.addr} }
func (s *stillborn) SetDeadline(time.Time) error      { return nil }
func (s *stillborn) SetReadDeadline(time.Time) error  { return nil }
func (s *stillborn) SetWriteDeadline(time.Time) error { return nil }

// SyscallConn refuses it at a checkout: one that was dialed for MinIdleConns
// waits in the pool without having been used.
func (s *stillborn) SyscallConn() (syscall.RawConn, error) { return nil, refuse(hooks.ReasonError) }

type stillAddr struct{ network, addr string }

func (a stillAddr) Network() string { return a.network }
func (a stillAddr) String() string  { return a.addr }
