// Package errtext writes errors for people.
package errtext

import (
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
