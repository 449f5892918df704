//go:build unix

package conntrack_test

import (
	"net"
	"syscall"
	"testing"
)

// keepsAlive reports whether TCP keepalive is on.
func keepsAlive(t *testing.T, c net.Conn) bool {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var on int
	cerr := raw.Control(func(fd uintptr) {
		on, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
	})
	if cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return on != 0
}
