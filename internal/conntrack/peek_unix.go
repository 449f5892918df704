//go:build unix

package conntrack

import "syscall"

// recv reads up to 5 bytes waiting on a socket without consuming them. It is the body of
// peekSocket, made once per connection, so that a check allocates nothing.
func (p *peeker) recv(fd uintptr) {
	p.n, _, p.err = syscall.Recvfrom(int(fd), p.buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
}

// peekSocket returns up to 5 bytes waiting on a socket without consuming them. Only the holder of
// the connection may call it.
func (p *peeker) peekSocket(raw syscall.RawConn) (b []byte, eof bool, err error) {
	if p.fn == nil {
		p.fn = p.recv
	}
	if err := raw.Control(p.fn); err != nil {
		return nil, false, err
	}
	switch {
	case p.err == syscall.EAGAIN || p.err == syscall.EINTR:
		return nil, false, nil
	case p.err != nil:
		return nil, false, p.err
	case p.n == 0:
		return nil, true, nil
	}
	return p.buf[:p.n], false, nil
}
