package retry

import (
	"context"
	"errors"
	"net"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// judge is judge with what is known of this client. cut is cutSoFar from before the
// attempt.
func (h *Hook) judge(ctx context.Context, err error, cut uint64) failure {
	f := judge(err)
	if f.foreign && !f.coded && (h.cut == nil || h.cut.Load() != cut) {
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
	// A cluster returns the bare error of a ctx that ends while it pauses.
	if !h.fanout.Load() || (err == context.Canceled || err == context.DeadlineExceeded) && !command.FansOut(cmd) {
		if f, ok := refusedBefore(ctx, "", err, cmd); ok {
			return f
		}
	}
	f := h.judge(ctx, h.ofCallersCode(cmd, err, cut), cut)
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

// kept returns err as the caller of a command on a Conn or transaction of a node is to see it. Its
// connection is not closed after an error, so only the error itself can tell that the reply could
// not be used.
func (h *Hook) kept(ctx context.Context, cmd redis.Cmder, err error) error {
	if f := h.understand(ctx, cmd, err, h.cutSoFar(true)); f.foreign && f.outcome == Unknown {
		return h.unknown(ctx, cmd, f.err, 1)
	}
	return err
}

// partial is a pipeline that ended with a foreign error and whose connection may have been written to.
// The first command that cannot be written, if there is one, and all after it were not sent, and those
// before it were if they did not fit into go-redis's buffer. Without EXEC, nothing of a transaction is
// executed.
type partial struct {
	cmds   []redis.Cmder
	tx     bool
	looked bool
	at     int // see stopsAt, which calls code of the caller's: it is asked once
}

// outcome returns that of command i, given the error.
func (p *partial) outcome(i int, err error) Outcome {
	if !p.looked {
		p.looked, p.at = true, stopsAt(p.cmds, err)
	}
	if p.at >= 0 && (i >= p.at || p.tx) {
		return NotSent
	}
	return Unknown
}

// ofCallersCode returns err as a codeError if it comes from the caller's code that go-redis runs for cmd,
// else as it is. cut is as in judge.
func (h *Hook) ofCallersCode(cmd redis.Cmder, err error, cut uint64) error {
	if err == nil || err == redis.Nil {
		return err
	}
	switch f := judge(err); {
	case f.coded || f.outcome == Unknown || f.outcome == Answered && !isAnswer(f.err):
		return err
	case command.CannotBeWritten(cmd, f.err):
		return &codeError{f.err, false}
	case f.outcome == Answered && command.WritesReply(cmd), // also the server's error replies go to the writer
		f.outcome == NotSent && !f.foreign && cmd.NoRetry() && h.mayBeSent(f.err, cut):
		return &codeError{f.err, true}
	}
	return err
}

// ofCallersCodeIn does that for the error of cmds that were sent together, and sets it on those of them
// that have err. The marks of a pipeline, but not of a transaction, have to be still in place.
func (h *Hook) ofCallersCodeIn(ctx context.Context, cmds []redis.Cmder, err error, cut uint64) error {
	f := judge(err)
	if f.err == nil || f.coded {
		return err
	}
	var u unsent
	if !errors.As(err, &u) && attempt.WroteNothing(ctx) {
		return replace(cmds, err, &codeError{f.err, false})
	}
	if f.foreign || f.outcome == Unknown || !slices.ContainsFunc(cmds, command.RunsCallersCode) {
		return err
	}
	sent := true
	if f.outcome == Answered {
		// Replies of the server replace the marks of their commands.
		if !isAnswer(f.err) || slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Err() != errUnanswered }) {
			return err
		}
	} else if sent = h.mayBeSent(f.err, cut); stopsAt(cmds, f.err) < 0 && !(sent && (holdsNoRetry(cmds) || h.isStrange(ctx, f))) {
		return err
	}
	return replace(cmds, err, &codeError{f.err, sent})
}

// isStrange reports whether f, which says that nothing was sent, cannot be of this client: its connections
// mark their errors, and a ctx that has not ended has none. So code of the caller's has failed, even if
// it does not fail again when it is asked.
func (h *Hook) isStrange(ctx context.Context, f failure) bool {
	var u unsent
	if h.cut == nil || errors.As(f.err, &u) {
		return false
	}
	if errors.Is(f.err, context.Canceled) || errors.Is(f.err, context.DeadlineExceeded) {
		return h.policy.PerAttempt <= 0 && !attempt.Expired(ctx)
	}
	var op *net.OpError
	return errors.As(f.err, &op) && op.Op == "dial"
}

// stopsAt returns the position of the first command that cannot be written because of err, or -1.
func stopsAt(cmds []redis.Cmder, err error) int {
	return slices.IndexFunc(cmds, func(cmd redis.Cmder) bool { return command.CannotBeWritten(cmd, err) })
}

// distrust hides the replies behind one that could not be passed on to the caller's writer, if the
// writer's error looks like an error reply: go-redis then goes on reading in the middle of that reply.
func distrust(cmds []redis.Cmder) {
	for i, cmd := range cmds {
		err := cmd.Err()
		if err == nil || !command.WritesReply(cmd) || !isAnswer(err) || judge(err).outcome != Answered {
			continue
		}
		for _, cmd := range cmds[i:] {
			cmd.SetErr(&codeError{err, true})
		}
		return
	}
}

// mayBeSent reports whether the caller's code may have returned err after something was sent. cut is
// as in judge.
func (h *Hook) mayBeSent(err error, cut uint64) bool {
	if h.cut != nil && cut != keptConn {
		return h.cut.Load() != cut
	}
	var u unsent
	return !errors.As(err, &u) || !u.Unsent()
}
