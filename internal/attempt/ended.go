package attempt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// Ended adds the error of ctx to err, if ctx has ended: on the network that is an i/o
// timeout. errors.Is and errors.As find both.
func Ended(ctx context.Context, err error) error {
	if err == nil || !Expired(ctx) {
		return err
	}
	cause := ctx.Err()
	if cause == nil {
		cause = context.DeadlineExceeded // its timer is late
	}
	if errors.Is(err, cause) {
		return err
	}
	return &endedError{cause, err}
}

// Expired reports whether the caller's own time is over. Timers may be late, so
// the clock is asked, too.
func Expired(ctx context.Context) bool {
	if ctx.Err() != nil {
		return true
	}
	d, ok := ctx.Deadline()
	return ok && !time.Now().Before(d)
}

// endedError is the failure of a command whose ctx ended while it was in flight. On the network
// that is an i/o timeout.
type endedError struct{ ctx, cause error }

func (e *endedError) Error() string   { return fmt.Sprintf("%v: %v", e.ctx, e.cause) }
func (e *endedError) Unwrap() []error { return []error{e.ctx, e.cause} }
func (e *endedError) Timeout() bool   { return errtext.IsTimeout(e.ctx) || errtext.IsTimeout(e.cause) }
func (e *endedError) Temporary() bool { return e.Timeout() }
