//go:build unix

package conntrack

import "syscall"

// look takes up to 5 bytes waiting on a socket and leaves them there. It is the
// body of peekSocket, made once per connection, so that a look allocates nothing.
func (p *peeker) look(fd uintptr) {
	p.n, _, p.err = syscall.Recvfrom(int(fd), p.buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
}

// peekSocket returns up to 5 bytes waiting on a socket and leaves them there. It
// belongs to whoever holds the connection.
func (p *peeker) peekSocket(raw syscall.RawConn) (b []byte, eof bool, err error) {
	if p.fn == nil {
		p.fn = p.look
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
