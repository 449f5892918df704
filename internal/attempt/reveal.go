package attempt

import (
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// Reveal returns the real error behind those errors in err's chain that hide one from go-redis (that
// have a method Real), else err itself. Safe for nil.
//
// The error of a command on a Conn that has failed before keeps its text: go-redis wraps the earlier
// error, and sends nothing.
func Reveal(err error) error {
	if err == nil || err == redis.Nil {
		return err // the common case, without the allocation for errors.As
	}
	for range 4 {
		var hidden interface{ Real() error }
		if !errors.As(err, &hidden) {
			return err
		}
		real := hidden.Real()
		if real == nil {
			return err
		}
		if IsDead(err) {
			return &deadError{err.Error(), Reveal(real)}
		}
		err = real
	}
	return err
}

// IsDead recognises the error of a Conn or Tx that failed before: go-redis never uses it again.
func IsDead(err error) bool { return strings.HasPrefix(err.Error(), TextBadConn) }

// TextBadConn begins that error, whose type is internal to go-redis. A test of package retry pins it.
const TextBadConn = "redis: Conn is in a bad state"

// deadError is that error with the real cause inside.
type deadError struct {
	text  string
	cause error
}

func (e *deadError) Error() string { return e.text }
func (e *deadError) Unwrap() error { return e.cause }

// Unsent is always true: nothing is sent on such a Conn, whatever the outcome of the command that
// failed.
func (e *deadError) Unsent() bool { return true }

// Timeout reports whether the cause was a timeout. It makes the error a net.Error.
func (e *deadError) Timeout() bool { return errtext.IsTimeout(e.cause) }

// Temporary returns the same as Timeout.
func (e *deadError) Temporary() bool { return e.Timeout() }
