package retry

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// away is the error of a dial to a node that is unreachable. Away reports whether node, or any if
// node is empty, is that one and still unreachable.
type away interface{ Away(node string) bool }

// afterRefusal returns base, the ctx of a call, marked with f if that is the failure of a dial; else ctx.
func afterRefusal(ctx, base context.Context, f failure) context.Context {
	if f.outcome != NotSent || f.kind != notReady || f.reason != ReasonDial {
		return ctx
	}
	return context.WithValue(base, attempt.RefusedKey{}, f)
}

// refusedBefore returns the failure of an attempt that ended with err while it waited for a
// connection of the pool to become free, if the same node refused a dial to an earlier attempt of
// the call and is still unreachable. Then the pool is not too small.
func refusedBefore(ctx context.Context, node string, err error, cmds ...redis.Cmder) (failure, bool) {
	ended := (err == context.Canceled || err == context.DeadlineExceeded) && attempt.Expired(ctx)
	if !ended && !errors.Is(err, redis.ErrPoolTimeout) {
		return failure{}, false
	}
	f, found := ctx.Value(attempt.RefusedKey{}).(failure)
	var a away
	if !found || !errors.As(f.err, &a) || !a.Away(node) {
		return failure{}, false
	}
	for _, cmd := range cmds {
		if cmd.NoRetry() || command.CannotBeWritten(cmd, err) {
			return failure{}, false // it may be an error of the caller's code
		}
	}
	f.err = attempt.Ended(ctx, f.err)
	f.node = f.node && !ended
	return f, true
}
