package hooks

import (
	"net"
	"syscall"
	"time"
)

const tcpUserTimeout = 18 // TCP_USER_TIMEOUT of linux/tcp.h, see tcp(7)

// setUserTimeout lets the kernel end a TCP connection whose bytes stay
// unacknowledged for d. A server that is only slow acknowledges and is left alone.
func setUserTimeout(c net.Conn, raw syscall.RawConn, d time.Duration) {
	if _, ok := c.(*net.TCPConn); !ok || raw == nil || d <= 0 {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(d.Milliseconds()))
	})
}
