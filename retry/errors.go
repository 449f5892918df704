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

// ErrUnknownOutcome is what errors.Is finds in the error of a write that may or
// may not have been carried out: it was sent, no reply came, and it was not sent
// again because it may not be repeated, or because no attempt was left.
// The error is an [*UnknownOutcomeError].
//
// An error without it says that the command was not carried out, or is the
// server's own answer.
var ErrUnknownOutcome = errors.New("lifeguard/retry: outcome unknown")

// UnknownOutcomeError is the error of a command that may have been carried out.
// It holds no arguments and no keys.
type UnknownOutcomeError struct {
	Command  string // its name, as in "incr" or "config|set"
	Attempts int    // how often it was tried, at least 1
	Cause    error  // why there is no reply; errors.Is and As find it
	// Applied: it was carried out, and the state is as if it had been once; but a
	// reply was lost, and that of the repetition may tell less than the first one, as
	// the 0 of a ZREM does. Who removed the member is not known. See [IdempotentState].
	Applied bool
}

func (e *UnknownOutcomeError) Error() string {
	if e.Applied {
		return fmt.Sprintf("lifeguard/retry: %s: carried out, but its reply was lost, and after %s that of the last may tell less: %v",
			e.Command, count(e.Attempts, "attempt"), e.Cause)
	}
	return fmt.Sprintf("lifeguard/retry: %s: outcome unknown after %s, check before you repeat it: %v", e.Command, count(e.Attempts, "attempt"), e.Cause)
}

// Is reports whether target is ErrUnknownOutcome.
func (e *UnknownOutcomeError) Is(target error) bool { return target == ErrUnknownOutcome }

// Unwrap returns the cause.
func (e *UnknownOutcomeError) Unwrap() error { return e.Cause }

// Applied reports whether err is an [*UnknownOutcomeError] that is Applied: the
// command was carried out, and only its reply is not known.
func Applied(err error) bool {
	var u *UnknownOutcomeError
	return errors.As(err, &u) && u.Applied
}

// Timeout reports whether the cause is a timeout. It makes the error a net.Error.
func (e *UnknownOutcomeError) Timeout() bool { return errtext.IsTimeout(e.Cause) }

// Temporary is Timeout.
func (e *UnknownOutcomeError) Temporary() bool { return e.Timeout() }

// ErrBreakerOpen is what errors.Is finds in the error of a command that was not
// sent because its node has been failing for too long. The error is a
// [*BreakerOpenError].
var ErrBreakerOpen = errors.New("lifeguard/retry: breaker open")

// BreakerOpenError is returned at once while a node's breaker is open. Nothing
// was sent.
type BreakerOpenError struct {
	Node  string    // the name that the breaker was given, "" for the one of a single client
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

// Temporary is Timeout.
func (e *BreakerOpenError) Temporary() bool { return e.Timeout() }

// dialError marks what comes from a dial: a TLS handshake can fail with a bare EOF.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }
func (e *dialError) Unsent() bool  { return true }

func (e *dialError) Timeout() bool { return errtext.IsTimeout(e.err) }

// Temporary makes it a net.Error, as failures to dial mostly are.
func (e *dialError) Temporary() bool { return e.Timeout() }

// handshakeError marks what comes from HELLO, AUTH and their like: the command
// that the connection was made for has not been written. Unwrap returns a slice
// because go-redis strips one layer of errors.Unwrap from these.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string   { return e.err.Error() }
func (e *handshakeError) Unwrap() []error { return []error{e.err} }
func (e *handshakeError) Unsent() bool    { return true }
func (e *handshakeError) Early() error    { return e.err }

// Timeout keeps go-redis's own view of the error, which asks without errors.As.
func (e *handshakeError) Timeout() bool { return errtext.IsTimeout(e.err) }

// Temporary makes it a net.Error, as the error it stands for mostly is.
func (e *handshakeError) Temporary() bool { return e.Timeout() }

// refusedError is the refusal of a server that takes no new connection: the command that
// the connection was made for has not been written. It is no redis.Error, or go-redis
// would take HELLO for unknown there, and go on.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unsent() bool  { return true }

// handshakeReply is a handshakeError with which the server answered: WRONGPASS,
// NOAUTH and the like. It is a redis.Error as any reply is.
type handshakeReply struct{ err redis.Error }

func (e *handshakeReply) Error() string   { return e.err.Error() }
func (e *handshakeReply) RedisError()     {}
func (e *handshakeReply) Unwrap() []error { return []error{e.err} }
func (e *handshakeReply) Unsent() bool    { return true }
func (e *handshakeReply) Early() error    { return e.err }

// asEarly marks an error from before the command was written.
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

// waitError is the last failure of a command whose caller gave up waiting.
type waitError struct{ ctx, last error }

func (e *waitError) Error() string   { return fmt.Sprintf("%v, after: %v", e.ctx, e.last) }
func (e *waitError) Unwrap() []error { return []error{e.ctx, e.last} }
func (e *waitError) Timeout() bool   { return errtext.IsTimeout(e.ctx) }
func (e *waitError) Temporary() bool { return e.Timeout() }

// endedError is the failure of a command whose ctx ended while it was in flight:
// on the network that is an i/o timeout.
type endedError struct{ ctx, cause error }

func (e *endedError) Error() string   { return fmt.Sprintf("%v: %v", e.ctx, e.cause) }
func (e *endedError) Unwrap() []error { return []error{e.ctx, e.cause} }
func (e *endedError) Timeout() bool   { return errtext.IsTimeout(e.ctx) || errtext.IsTimeout(e.cause) }
func (e *endedError) Temporary() bool { return e.Timeout() }

// unreadError is the error of the commands behind one whose reply could not be parsed:
// theirs were not read.
type unreadError struct{ err error }

func (e *unreadError) Error() string {
	return fmt.Sprintf("lifeguard/retry: no reply: that of an earlier command of the pipeline could not be read: %v", e.err)
}
func (e *unreadError) Unwrap() error { return e.err }
func (e *unreadError) Unsent() bool  { return false }

// mapError is the failure of a look at the slot map, after which the caller's own
// command was not sent. Like nodeError it does not let a cluster try again by itself.
type mapError struct{ real error }

func (e *mapError) Error() string { return e.real.Error() }
func (e *mapError) Early() error  { return e.real }

// nodeError is an error on its way from a node's hook through a cluster's own
// retries to the outer hook. It has no Unwrap, so that the cluster does not try
// again by itself, and still says the two things that callers of a Watch, which
// no outer hook sees, may ask.
type nodeError struct {
	real    error
	unknown bool
	open    bool
	script  bool // a script's own reply: the cluster would know it by its text
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
	case context.Canceled, context.DeadlineExceeded: // for these a cluster does not try again
		return errors.Is(e.real, target)
	}
	return false
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
