package retry

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// First is for pipelines of unrelated commands, such as those of several callers. A pipeline
// executed with the returned context is one attempt: nothing is sent again, and each command keeps
// the bare error of that attempt. [After] continues with a command that failed. It is of no use on
// transactions.
func First(ctx context.Context) context.Context { return with(ctx, markFirst) }

// After continues with a command whose first attempt was part of a pipeline with [First] and failed
// with err. Process the command by itself, on the same client, with the returned context: it is
// sent again if that is allowed, as if this hook had made the first attempt. Use the returned
// context for nothing else, and do not wrap it.
func After(ctx context.Context, err error) context.Context { return &after{ctx, err} }

// after is recognised by its type, which is cheaper than looking up a context value.
type after struct {
	context.Context
	err error
}

// Marked reports whether ctx carries a mark of [Idempotent], [Never] or [Bound].
func Marked(ctx context.Context) bool { return marksOf(ctx)&^(markFirst|markAlone) != 0 }

// Abandoned returns the error of a command that may have been sent and whose caller stopped waiting
// because of err: ErrUnknownOutcome, or, for a read, err itself. It is counted and logged like
// other unknown outcomes.
func (h *Hook) Abandoned(ctx context.Context, cmd redis.Cmder, err error) error {
	return h.unknown(ctx, cmd, err, 1)
}
