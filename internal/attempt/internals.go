package attempt

import (
	"context"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// Internals are the parts of a hook of package retry that are not for users.
type Internals interface {
	// SetFacts gives the hook facts that only the owner of the client knows, before its first use. cut
	// counts the connections that were closed while a command was on them: an error that by itself
	// says nothing about the outcome, for example from a hook of the caller's, is NotSent if no
	// connection was, and unknown otherwise. nodes counts the nodes of a client of several, and is nil
	// for others; if it returns 0 there is nothing to wait for.
	SetFacts(cut *atomic.Uint64, nodes func() int)

	// Pipeline is the hook's Pipeline for callers that know where the pipeline comes from. own
	// reports whether the pipeline belongs to the client itself, not to a Conn or to a transaction with
	// WATCH. Only then is a refused transaction sent again, because EXEC has undone the WATCH, and only
	// then is its connection closed after an error. nil: unknown.
	Pipeline(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook, own func() bool) error

	// Abandoned returns the error of a command that may have been sent and whose caller stopped waiting
	// because of err: ErrUnknownOutcome, or, for a read, err itself. It is counted and logged like
	// other unknown outcomes.
	Abandoned(ctx context.Context, cmd redis.Cmder, err error) error

	// Conn is Process for the commands of a redis.Conn or redis.Tx. go-redis keeps their connection
	// after an error, so the number of those that were closed says nothing.
	Conn(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error

	// Kept returns the error for the caller of a command on a lease whose connection was written to,
	// given that of go-redis or of a hook.
	Kept(ctx context.Context, cmd redis.Cmder, err error) error

	// Early returns err, the reason why no connection was to be had, marked if by itself it says that
	// something may have been sent.
	Early(err error) error

	// BreakerOpen reports whether the hook's breaker is open: it lets nothing through, or only one call
	// that probes the node. It is safe for concurrent use.
	BreakerOpen() bool
}

// InternalsOf returns those of a *retry.Hook, or of the hook of a node. Package retry sets it.
var InternalsOf func(redis.Hook) Internals
