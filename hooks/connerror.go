package hooks

import (
	"fmt"
	"strings"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

const opDial = "dial"

// ConnError is the error of one connection. It wraps the error of the network or of the context, so
// errors.Is(err, io.EOF), errors.As(err, *net.Error) and the like give the same result as without
// lifeguard. It is immutable.
type ConnError struct {
	Op        string        // "dial", "write" or "read"
	Node      string        // address that was dialed
	ID        uint64        // id of the connection, 0 for a failed dial
	Age       time.Duration // age of the connection when it failed
	Wrote     bool          // a byte of the current command had been written
	Handshake bool          // it failed before the connection was ready for its first command
	Self      bool          // closed by the client, or by the end of the caller's ctx: says nothing about the server
	Err       error         // the cause
}

func (e *ConnError) Error() string {
	switch {
	case e.Op == opDial:
		if text := errtext.Brief(e.Err); strings.HasPrefix(text, "lifeguard: redis "+e.Node) {
			return text // the GateError has all the details
		}
		return fmt.Sprintf("lifeguard: dial %s: %s", e.Node, errtext.Brief(e.Err))
	case e.Handshake:
		return fmt.Sprintf("lifeguard: handshake with %s (connection %d): %s", e.Node, e.ID, errtext.Brief(e.Err))
	}
	sent := "nothing sent"
	if e.Wrote {
		sent = "command sent"
	}
	return fmt.Sprintf("lifeguard: %s %s (connection %d, age %v, %s): %s",
		e.Op, e.Node, e.ID, e.Age.Round(time.Millisecond), sent, errtext.Brief(e.Err))
}

func (e *ConnError) Unwrap() error { return e.Err }

// Unsent reports whether no byte of the caller's command left the process, so that sending it again
// is always safe.
func (e *ConnError) Unsent() bool { return e.Op == opDial || e.Handshake || !e.Wrote }
