package hooks

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Op names the step at which a connection failed.
type Op string

const (
	OpDial  Op = "dial"
	OpWrite Op = "write"
	OpRead  Op = "read"
)

// ConnError is the error of one connection. It wraps the error of the network
// or of the context, so errors.Is(err, io.EOF), errors.As(err, *net.Error) and
// the like hold as they do without lifeguard. It is immutable.
type ConnError struct {
	Op        Op            // dial, write or read
	Node      string        // address that was dialed
	ID        uint64        // id of the connection, 0 for a failed dial
	Age       time.Duration // age of the connection when it failed
	Wrote     bool          // a byte of the current command had been written
	Handshake bool          // it failed before the connection was ready for its first command
	Self      bool          // we or the caller's own ctx ended it: says nothing about the server
	Err       error         // the cause
}

func (e *ConnError) Error() string {
	switch {
	case e.Op == OpDial:
		if text := brief(e.Err); strings.HasPrefix(text, "lifeguard/hooks: redis "+e.Node) {
			return text // a GateError has said it all
		}
		return fmt.Sprintf("lifeguard/hooks: dial %s: %s", e.Node, brief(e.Err))
	case e.Handshake:
		return fmt.Sprintf("lifeguard/hooks: handshake with %s (connection %d): %s", e.Node, e.ID, brief(e.Err))
	}
	sent := "nothing sent"
	if e.Wrote {
		sent = "command sent"
	}
	return fmt.Sprintf("lifeguard/hooks: %s %s (connection %d, age %v, %s): %s",
		e.Op, e.Node, e.ID, e.Age.Round(time.Millisecond), sent, brief(e.Err))
}

// brief is the text of an error without the operation and the addresses that
// package net puts around it: whoever calls it has named the node already.
func brief(err error) string {
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

func (e *ConnError) Unwrap() error { return e.Err }

// Unsent reports that no byte of the caller's command left the process, so that
// sending it again is always safe.
func (e *ConnError) Unsent() bool { return e.Op == OpDial || e.Handshake || !e.Wrote }

// netConnError is a ConnError whose cause is a net.Error, so that callers which
// test err.(net.Error) without errors.As still find one.
type netConnError struct {
	*ConnError
	net net.Error
}

func (e *netConnError) Unwrap() error   { return e.ConnError }
func (e *netConnError) Timeout() bool   { return e.net.Timeout() }
func (e *netConnError) Temporary() bool { return e.net.Timeout() }

// plainConnError is a ConnError for any other cause. It exists because go-redis
// unwraps the error of a failed handshake once: that must not lose the ConnError.
type plainConnError struct{ *ConnError }

func (e *plainConnError) Unwrap() error { return e.ConnError }

// typed gives a ConnError the face that its cause has.
func typed(e *ConnError) error {
	var ne net.Error
	if errors.As(e.Err, &ne) {
		return &netConnError{e, ne}
	}
	return &plainConnError{e}
}

// opaqueError hides what an error is from go-redis, which then repeats nothing
// (FACTS L4: ClusterClient resends on EOF and timeouts whatever MaxRetries
// says). It has no Unwrap, no Timeout and no Is on purpose. Real gives the error
// behind it; the outermost hook puts that back before callers see it.
type opaqueError struct{ real error }

func (e *opaqueError) Error() string { return e.real.Error() }
func (e *opaqueError) Real() error   { return e.real }

// Unsent says of the error behind it whether the command was not sent.
func (e *opaqueError) Unsent() bool {
	var u interface{ Unsent() bool }
	return errors.As(e.real, &u) && u.Unsent()
}

// Reveal returns the error behind those in err's chain that hide one (that have a
// method Real), else err itself. Safe for nil.
//
// The error of a command on a Conn that has failed before stays one: go-redis
// wraps the earlier error, and sends nothing.
func Reveal(err error) error {
	for range 4 {
		var hidden interface{ Real() error }
		if err == nil || !errors.As(err, &hidden) {
			return err
		}
		if text := err.Error(); strings.HasPrefix(text, textBadConn) {
			return &deadError{text, Reveal(hidden.Real())}
		}
		err = hidden.Real()
	}
	return err
}

// textBadConn begins go-redis's error of a Conn that has failed before, whose
// type is internal.
const textBadConn = "redis: Conn is in a bad state"

// deadError is that error with the real cause inside.
type deadError struct {
	text  string
	cause error
}

func (e *deadError) Error() string { return e.text }
func (e *deadError) Unwrap() error { return e.cause }

// Unsent is always true: nothing is sent on such a Conn, whatever came of the
// command that failed.
func (e *deadError) Unsent() bool { return true }

// Timeout reports whether the cause was a timeout. It makes the error a net.Error.
func (e *deadError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.cause, &t) && t.Timeout()
}

// Temporary is Timeout.
func (e *deadError) Temporary() bool { return e.Timeout() }

// Hide makes err opaque: go-redis repeats nothing because of it. Reveal undoes it.
func Hide(err error) error { return &opaqueError{err} }

// earlyError marks an error of the caller's own code that ran before the command was
// written: OnConnect, a credentials provider, a Limiter. Unwrap returns a slice because
// go-redis strips one layer of errors.Unwrap from those of a handshake.
type earlyError struct{ err error }

func early(err error) error {
	if err == nil {
		return nil
	}
	return &earlyError{err}
}

func (e *earlyError) Error() string   { return e.err.Error() }
func (e *earlyError) Unwrap() []error { return []error{e.err} }
func (e *earlyError) Early() error    { return e.err }
func (e *earlyError) Real() error     { return e.err }
func (e *earlyError) Unsent() bool    { return true }

// limiter marks what a user's Limiter refuses.
type limiter struct{ redis.Limiter }

func (l limiter) Allow() error { return early(l.Limiter.Allow()) }

// refusal is what a visit or the checkout guard answers with when a connection
// is to end. A plain error: one with Timeout() or Unwrap would be retried by
// go-redis, and its text becomes a metric label, so there is one constant text
// per reason (VISIT-RULES 13).
type refusal struct{ reason Reason }

func (e *refusal) Error() string { return "lifeguard: connection ended: " + string(e.reason) }

// Unsent is always true: nothing is written to a connection that is refused.
func (e *refusal) Unsent() bool { return true }

// Evicted is always true: it was we who did not want the connection to be used.
func (e *refusal) Evicted() bool { return true }

var refusals = func() map[Reason]*refusal {
	m := make(map[Reason]*refusal)
	for _, r := range reasonCodes[1:] {
		m[r] = &refusal{r}
	}
	return m
}()

func refuse(r Reason) error {
	if e := refusals[r]; e != nil {
		return e
	}
	return refusals[ReasonReset]
}

// RefusedFor returns the reason for which a connection was ended instead of
// being used, if err says so. The command was not sent.
func RefusedFor(err error) (Reason, bool) {
	var r *refusal
	if errors.As(err, &r) {
		return r.reason, true
	}
	return "", false
}
