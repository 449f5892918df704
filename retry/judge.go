package retry

import (
	"context"
	"errors"
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
	// A cluster returns the bare error of a ctx that ends while it pauses.
	if !h.fanout.Load() || (err == context.Canceled || err == context.DeadlineExceeded) && !command.FansOut(cmd) {
		if f, ok := refusedBefore(ctx, "", err, cmd); ok {
			return f
		}
	}
	f := h.judge(ctx, err, cut)
	switch {
	case f.outcome == Answered:
	case (f.foreign || f.outcome == NotSent) && command.CannotBeWritten(cmd, f.err):
		f = failure{err: f.err, outcome: NotSent, foreign: true}
	case f.outcome == NotSent && !f.foreign && cmd.NoRetry() && h.mayBeSent(f.err, cut):
		f = failure{err: f.err, outcome: Unknown, foreign: true}
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

// kept returns err as the caller of a command on a Conn or transaction of a node is to see it. Its
// connection is not closed after an error, so only the error itself can tell that the reply could
// not be used.
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

// callersCode is the code of the caller's that go-redis runs for commands while it writes or reads
// them: the MarshalBinary of an argument, and the io.Writer of a reply. It may return any error, also
// one that otherwise says that nothing was sent, as those of a dial or of a ctx do.
type callersCode struct {
	cmds    []redis.Cmder
	looked  bool
	at      int  // of the first command that cannot be written, -1 for none
	streams bool // one of them writes its reply to a writer
}

// stopsAt returns the position of the first command that cannot be written, or -1.
func (c *callersCode) stopsAt() int {
	if !c.looked {
		c.looked, c.at = true, slices.IndexFunc(c.cmds, func(cmd redis.Cmder) bool {
			err := cmd.Err()
			return err != nil && command.CannotBeWritten(cmd, err)
		})
		c.streams = holdsNoRetry(c.cmds)
	}
	return c.at
}

// check corrects f, the failure of one of the commands, if their caller's code may have caused it.
// cut is as in judge.
func (c *callersCode) check(h *Hook, f failure, cut uint64) failure {
	if f.outcome != NotSent || f.foreign || f.err == nil || c.stopsAt() < 0 && !c.streams {
		return f
	}
	if h.mayBeSent(f.err, cut) {
		return failure{err: f.err, outcome: Unknown, foreign: true}
	}
	if c.at >= 0 {
		return failure{err: f.err, outcome: NotSent, foreign: true}
	}
	return f
}

// outcomeOfAll is the outcome of judge for cmds that were sent together and whose marks are not yet
// replaced.
func (h *Hook) outcomeOfAll(ctx context.Context, cmds []redis.Cmder, err error, cut uint64) Outcome {
	f := h.judge(ctx, err, cut)
	if f.outcome == NotSent && err != nil && h.mayBeSent(err, cut) && holdsNoRetry(cmds) {
		return Unknown
	}
	return f.outcome
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
