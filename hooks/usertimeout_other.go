//go:build !linux

package hooks

import (
	"net"
	"syscall"
	"time"
)

// setUserTimeout does nothing: TCP_USER_TIMEOUT is Linux's.
func setUserTimeout(net.Conn, syscall.RawConn, time.Duration) {}
