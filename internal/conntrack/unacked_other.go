//go:build !linux

package conntrack

import "syscall"

// unacked reports nothing: the layout of this information differs between systems.
func unacked(syscall.RawConn) (Unacked, bool) { return Unacked{}, false }
