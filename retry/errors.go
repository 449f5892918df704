package retry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// ErrUnknownOutcome matches, with errors.Is, the error of a write that may or may not have been
// executed: it was sent, no reply came, and it was not sent again, because it must not be repeated
// or because no attempt was left. The error is an [*UnknownOutcomeError].
//
// Any other error means that the command was not executed, or is the server's own reply.
var ErrUnknownOutcome = errors.New("lifeguard/retry: outcome unknown")

// UnknownOutcomeError is the error of a command that may have been executed. It holds no arguments
// and no keys.
type UnknownOutcomeError struct {
	Command  string // its name, as in "incr" or "config|set"
	Attempts int    // how often it was tried, at least 1
	Cause    error  // why there is no reply; errors.Is and errors.As find it
	// Applied: the command was executed, and the state is as after one execution. But a reply was
	// lost, and the reply of the repetition may say less than the lost one, like the 0 of a ZREM:
	// it is not known who removed the member. See [IdempotentState].
	Applied bool
}

func (e *UnknownOutcomeError) Error() string {
	if e.Applied {
		return fmt.Sprintf("lifeguard/retry: %s: executed, but its reply was lost, and the reply after %s may differ from it: %v",
			e.Command, errtext.Count(e.Attempts, "attempt"), e.Cause)
	}
	return fmt.Sprintf("lifeguard/retry: %s: outcome unknown after %s, check before you repeat it: %v", e.Command, errtext.Count(e.Attempts, "attempt"), e.Cause)
}

// Is reports whether target is ErrUnknownOutcome.
func (e *UnknownOutcomeError) Is(target error) bool { return target == ErrUnknownOutcome }

// Unwrap returns the cause.
func (e *UnknownOutcomeError) Unwrap() error { return e.Cause }

// Applied reports whether err is an [*UnknownOutcomeError] with Applied set: the command was
// executed, and only its reply is unknown.
func Applied(err error) bool {
	var u *UnknownOutcomeError
	return errors.As(err, &u) && u.Applied
}

// Timeout reports whether the cause is a timeout. It makes the error a net.Error.
func (e *UnknownOutcomeError) Timeout() bool { return errtext.IsTimeout(e.Cause) }

// Temporary returns the same as Timeout.
func (e *UnknownOutcomeError) Temporary() bool { return e.Timeout() }

// ErrBreakerOpen matches, with errors.Is, the error of a command that was not sent because its
// node's breaker is open. The error is a [*BreakerOpenError].
var ErrBreakerOpen = errors.New("lifeguard/retry: breaker open")

// BreakerOpenError is returned at once while a node's breaker is open. Nothing
// was sent.
type BreakerOpenError struct {
	Node  string    // name given to the breaker; "" for that of a single client
	Since time.Time // when it opened
	Cause error     // the failure that opened it; errors.Is and As find it
}

func (e *BreakerOpenError) Error() string {
	cause, node := fmt.Sprint(e.Cause), ""
	if e.Node != "" && !strings.Contains(cause, e.Node) {
		node = " for " + e.Node
	}
	return fmt.Sprintf("lifeguard/retry: breaker open%s since %s, nothing was sent: %s", node, e.Since.Format(time.RFC3339), cause)
}

// Is reports whether target is ErrBreakerOpen.
func (e *BreakerOpenError) Is(target error) bool { return target == ErrBreakerOpen }

// Unwrap returns the cause.
func (e *BreakerOpenError) Unwrap() error { return e.Cause }

// Unsent is always true.
func (e *BreakerOpenError) Unsent() bool { return true }

// Timeout reports whether the cause is a timeout. It makes the error a net.Error.
func (e *BreakerOpenError) Timeout() bool { return errtext.IsTimeout(e.Cause) }

// Temporary returns the same as Timeout.
func (e *BreakerOpenError) Temporary() bool { return e.Timeout() }

// dialError marks an error of a dial: a TLS handshake can fail with a bare EOF.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }
func (e *dialError) Unsent() bool  { return true }

func (e *dialError) Timeout() bool { return errtext.IsTimeout(e.err) }

// Temporary makes it a net.Error, as most dial errors are.
func (e *dialError) Temporary() bool { return e.Timeout() }

// handshakeError marks an error of HELLO, AUTH and the like: the command that needed the connection
// has not been written. Unwrap returns a slice because go-redis strips one layer of errors.Unwrap
// from handshake errors.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string   { return e.err.Error() }
func (e *handshakeError) Unwrap() []error { return []error{e.err} }
func (e *handshakeError) Unsent() bool    { return true }
func (e *handshakeError) Early() error    { return e.err }

// Timeout answers go-redis, which checks for it without errors.As.
func (e *handshakeError) Timeout() bool { return errtext.IsTimeout(e.err) }

// Temporary makes it a net.Error, as the error that it replaces usually is.
func (e *handshakeError) Temporary() bool { return e.Timeout() }

// refusedError is the reply of a server that accepts no new connection: the command that needed the
// connection has not been written. It is not a redis.Error, because go-redis would then take HELLO
// for an unknown command and go on.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unsent() bool  { return true }

// handshakeReply is a handshakeError for an error reply: WRONGPASS, NOAUTH and the like. It is a
// redis.Error, as any reply is.
type handshakeReply struct{ err redis.Error }

func (e *handshakeReply) Error() string   { return e.err.Error() }
func (e *handshakeReply) RedisError()     {}
func (e *handshakeReply) Unwrap() []error { return []error{e.err} }
func (e *handshakeReply) Unsent() bool    { return true }
func (e *handshakeReply) Early() error    { return e.err }

// asEarly marks an error that happened before the command was written.
func asEarly(err error) error {
	var e early
	if errors.As(err, &e) {
		return err
	}
	if reply, ok := err.(redis.Error); ok {
		return &handshakeReply{reply}
	}
	return &handshakeError{err}
}

// waitError is the last failure of a command whose caller stopped waiting.
type waitError struct{ ctx, last error }

func (e *waitError) Error() string   { return fmt.Sprintf("%v, after: %v", e.ctx, e.last) }
func (e *waitError) Unwrap() []error { return []error{e.ctx, e.last} }
func (e *waitError) Timeout() bool   { return errtext.IsTimeout(e.ctx) }
func (e *waitError) Temporary() bool { return e.Timeout() }

// unreadError is the error of the commands that follow one whose reply could not be parsed: their
// replies were not read.
type unreadError struct{ err error }

func (e *unreadError) Error() string {
	return fmt.Sprintf("lifeguard/retry: no reply: that of an earlier command of the pipeline could not be read: %v", e.err)
}
func (e *unreadError) Unwrap() error { return e.err }
func (e *unreadError) Unsent() bool  { return false }

// stampedError is the error of a ctx that go-redis may have assigned to a command that was sent, and
// even answered, see reach. By itself the error of a ctx says that nothing was sent.
type stampedError struct{ err error }

func (e *stampedError) Error() string   { return e.err.Error() }
func (e *stampedError) Unwrap() error   { return e.err }
func (e *stampedError) Unsent() bool    { return false }
func (e *stampedError) Timeout() bool   { return errtext.IsTimeout(e.err) }
func (e *stampedError) Temporary() bool { return e.Timeout() }

// mapError is a failure to load the slot map: the caller's own command was not sent. Like nodeError
// it keeps a cluster from retrying by itself.
type mapError struct{ real error }

func (e *mapError) Error() string { return e.real.Error() }
func (e *mapError) Early() error  { return e.real }

// codeError is an error of the caller's code that go-redis runs while it writes or reads a command: the
// MarshalBinary of an argument, and the io.Writer of a reply. That may be any error, also one that
// otherwise says that nothing was sent, or what the server has replied. This hides it from go-redis.
type codeError struct {
	real error
	sent bool // something was sent, or may have been
}

func (e *codeError) Error() string {
	return "lifeguard/retry: code of the caller's has failed: " + e.real.Error()
}
func (e *codeError) Real() error { return e.real }

// nodeError carries an error from a node's hook through a cluster's own retries to the outer hook.
// It has no Unwrap, so that the cluster does not retry by itself. It still has the two methods that
// callers of a Watch may use, because no outer hook sees that error.
type nodeError struct {
	real    error
	unknown bool
	open    bool
	script  bool // a script's own reply: the cluster would recognise its text
}

func (e *nodeError) Error() string {
	if e.script {
		return "lifeguard/retry: a script has replied with an error of its own"
	}
	return e.real.Error()
}
func (e *nodeError) Real() error { return e.real }
func (e *nodeError) Is(target error) bool {
	switch target {
	case ErrUnknownOutcome:
		return e.unknown
	case ErrBreakerOpen:
		return e.open
	case context.Canceled, context.DeadlineExceeded: // on these a cluster does not retry
		return errors.Is(e.real, target)
	}
	return false
}
