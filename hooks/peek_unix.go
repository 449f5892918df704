//go:build unix

package hooks

import "syscall"

// peekSocket returns up to 5 bytes waiting on a socket and leaves them there.
func peekSocket(raw syscall.RawConn) (b []byte, eof bool, err error) {
	var buf [5]byte
	var n int
	var rerr error
	cerr := raw.Control(func(fd uintptr) {
		n, _, rerr = syscall.Recvfrom(int(fd), buf[:], syscall.MSG_PEEK|msgDontWait)
	})
	switch {
	case cerr != nil:
		return nil, false, cerr
	case rerr == syscall.EAGAIN || rerr == syscall.EINTR:
		return nil, false, nil
	case rerr != nil:
		return nil, false, rerr
	case n == 0:
		return nil, true, nil
	}
	return buf[:n], false, nil
}

const msgDontWait = syscall.MSG_DONTWAIT
