package retry

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// judge is judge with what is known of this client. cut is cutSoFar from before the
// attempt.
func (h *Hook) judge(ctx context.Context, err error, cut uint64) failure {
	f := judge(err)
	if f.foreign && (h.cut == nil || h.cut.Load() != cut) {
		f.outcome = Unknown // go-redis closes a connection on which a command fails
	}
	if f.limited && f.kind == unwritten && h.policy.PerAttempt <= 0 {
		f.kind = final // no limit of ours: a hook of a node has gone on with a ctx of its own
	}
	if f.node && h.nodes != nil && hasNoNodes(f.err) && h.nodes() == 0 {
		f.kind, f.node = final, false // the client was given no nodes, and waiting brings none
	}
	if f.outcome != Answered && f.kind != final && attempt.Expired(ctx) && attempt.MarksOf(ctx)&attempt.First == 0 { // a batch belongs to no single caller
		f.err = attempt.Ended(ctx, f.err)
		f.node = f.node && !ownLimit(ctx, f)
	}
	return f
}

// ownLimit reports whether the call failed because its own ctx ended, in flight or in a handshake:
// that says nothing about the node.
func ownLimit(ctx context.Context, f failure) bool {
	return attempt.Expired(ctx) && (f.outcome == Unknown || f.handshake && errtext.IsTimeout(f.err))
}

// understand is judge for a single command.
func (h *Hook) understand(ctx context.Context, cmd redis.Cmder, err error, cut uint64) failure {
	var m *mapError
	if errors.As(err, &m) && asksForMap(cmd) {
		err = m.real // it was the caller's own
	}
	f := h.judge(ctx, err, cut)
	if f.foreign && f.outcome == Unknown && command.CannotBeWritten(cmd, f.err) {
		f.outcome = NotSent
	}
	if h.fanout.Load() && f.err != nil {
		f = h.understandFan(cmd, f)
	}
	return f
}

// understandFan handles a command that goes to several nodes: some may have executed it even if the
// error of another node says that it did not.
func (h *Hook) understandFan(cmd redis.Cmder, f failure) failure {
	if f.outcome == Answered && f.kind == final {
		return f
	}
	if !command.FansOut(cmd) {
		return f
	}
	switch h.safety(cmd) {
	case IdempotentState:
		if len(cmd.Args()) > 2 { // several keys
			f.outcome = Unknown
		}
	case Unsafe:
		if f.outcome == NotSent {
			f.outcome = Unknown
		}
		f.kind = final
	}
	return f
}

// kept returns err as the caller of a command on a lease is to see it. Its connection is not closed
// after an error, so only the error itself can tell that the reply could not be used.
func (h *Hook) kept(ctx context.Context, cmd redis.Cmder, err error) error {
	if f := h.understand(ctx, cmd, err, h.cutSoFar(true)); f.foreign && f.outcome == Unknown {
		return h.unknown(ctx, cmd, f.err, 1)
	}
	return err
}

// partly says what a foreign error means for command i of a pipeline whose connection may have been
// written to. at is the first command that cannot be written, if there is one: it and all after it
// were not sent, and those before it were if they did not fit into go-redis's buffer. Without EXEC,
// nothing of a transaction is executed.
func partly(i, at int, tx bool) Outcome {
	if at >= 0 && (i >= at || tx) {
		return NotSent
	}
	return Unknown
}

// unwritable returns the position of the first command with that error that cannot be written, or -1.
func unwritable(cmds []redis.Cmder, err error) int {
	for i, cmd := range cmds {
		if e := cmd.Err(); e != nil && errors.Is(e, err) && command.CannotBeWritten(cmd, err) {
			return i
		}
	}
	return -1
}
