package retry

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// First is for pipelines of commands that have nothing to do with each other,
// such as those of several callers. A pipeline that is executed with the returned
// context is one attempt: nothing is sent again, and each command keeps the bare
// error of that attempt. [After] goes on with one that failed. On transactions it
// has no effect that is of use.
func First(ctx context.Context) context.Context { return with(ctx, markFirst) }

// After goes on with a command whose first attempt was made by a pipeline with
// [First], and gave err. The command is to be processed by itself with the
// returned context, by the same client: it is sent again if that may be, as if
// this hook had sent it the first time. The returned context is for that alone;
// it must not be wrapped.
func After(ctx context.Context, err error) context.Context { return &after{ctx, err} }

// after is known by its type, which costs less than a value of a context.
type after struct {
	context.Context
	err error
}

// Marked reports whether ctx has a mark of [Idempotent], [Never] or [Bound].
func Marked(ctx context.Context) bool { return marksOf(ctx)&^(markFirst|markAlone) != 0 }

// Abandoned returns the error of a command that nobody waits for any more because
// of err, although it may have been sent: ErrUnknownOutcome, or for a read, err
// itself. It is counted and logged as others are.
func (h *Hook) Abandoned(ctx context.Context, cmd redis.Cmder, err error) error {
	return h.unknown(ctx, cmd, err, 1)
}
