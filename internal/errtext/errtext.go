// Package errtext formats errors for people, and recognises timeouts.
package errtext

import (
	"errors"
	"net"
	"os"
	"reflect"
)

// Brief returns the text of an error without the operation and the addresses that package net adds
// to it: the caller has named the node already.
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

// IsTimeout is the Timeout method of our net.Errors, applied to their cause. Callers may test
// err.(net.Error) without errors.As, as they can with go-redis's own errors.
func IsTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// Same reports whether a is certainly b. Errors of some types, such as slices, cannot be compared:
// Go panics.
func Same(a, b error) bool { return canCompare(a) && canCompare(b) && a == b }

// Differ reports whether a is certainly not b. Of two errors of a type that cannot be compared
// nobody knows.
func Differ(a, b error) bool {
	if canCompare(a) && canCompare(b) {
		return a != b
	}
	return reflect.TypeOf(a) != reflect.TypeOf(b)
}

func canCompare(err error) bool { return err == nil || reflect.ValueOf(err).Comparable() }
