//go:build !linux

package conntrack

import "syscall"

// unacked knows nothing: the layout of such news differs from system to system.
func unacked(syscall.RawConn) (Unacked, bool) { return Unacked{}, false }
