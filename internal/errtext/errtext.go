// Package errtext writes errors for people, and asks them for what their type says.
package errtext

import (
	"errors"
	"net"
	"os"
)

// Brief is the text of an error without the operation and the addresses that
// package net puts around it: whoever calls it has named the node already.
func Brief(err error) string {
	for {
		switch e := err.(type) {
		case *net.OpError:
			err = e.Err
		case *os.SyscallError:
			err = e.Err
		case nil:
			return "reason unknown"
		default:
			return err.Error()
		}
	}
}

// IsTimeout is what a net.Error of ours says of its cause. Callers test
// err.(net.Error) without errors.As, as they may with go-redis's own errors.
func IsTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
