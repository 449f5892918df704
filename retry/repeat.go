package retry

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// mayGoOn decides whether a single command may be sent again after f.
func (h *Hook) mayGoOn(ctx context.Context, cmd redis.Cmder, f failure, m attempt.Mark) bool {
	if m&attempt.Bound != 0 || attempt.Expired(ctx) {
		return false
	}
	if f.outcome == NotSent {
		return true
	}
	if f.outcome == Answered {
		return h.mayAskAgain(cmd, f, m)
	}
	return h.mayRepeat(cmd, m)
}

// mayRepeat decides for a command that may have been executed.
func (h *Hook) mayRepeat(cmd redis.Cmder, m attempt.Mark) bool {
	if m&attempt.Never != 0 || cmd.NoRetry() {
		return false
	}
	if m&attempt.Harmless != 0 {
		return true
	}
	if command.IsBound(cmd) {
		return false
	}
	if m&attempt.Idempotent != 0 {
		return true
	}
	switch h.safety(cmd) {
	case ReadOnly:
		return true
	case IdempotentWrite, IdempotentState:
		return !h.policy.NoRepeatWrites
	}
	return false
}

// mayAskAgain: the server refused it, for now.
func (h *Hook) mayAskAgain(cmd redis.Cmder, f failure, m attempt.Mark) bool {
	if m&attempt.Never != 0 || cmd.NoRetry() {
		return false
	}
	if f.reason == ReasonMoved && !h.cluster {
		return false // a client of one server does not follow redirections
	}
	n := command.NameOf(cmd)
	switch {
	case command.RunsScript(cmd):
		return m&attempt.Idempotent != 0 || isServersOwn(f.err.Error(), cmd.Args())
	case n == "cluster|setslot":
		return f.reason != ReasonNoReplicas // Valkey: the replicas may have done it
	case n == "xread" && f.reason == ReasonUnblocked:
		return h.safety(cmd) != Unsafe
	}
	return m&attempt.Harmless != 0 || !command.IsBound(cmd)
}

// tellsLess reports whether the reply of a repetition may be another one than that
// of the first attempt. mixed: other writes of its keys were repeated with it.
func (h *Hook) tellsLess(cmd redis.Cmder, err error, m attempt.Mark, mixed bool) bool {
	return m&attempt.Idempotent == 0 && !h.policy.IgnoreCounts && h.safety(cmd) == IdempotentState &&
		(mixed || !command.ClassOf(cmd).Proof.Given(cmd, err))
}

// safety returns the class from the policy's Classifier. An invalid class counts as Unsafe.
func (h *Hook) safety(cmd redis.Cmder) Safety {
	s := h.policy.Classify(cmd)
	if s < ReadOnly || s > Unsafe {
		return Unsafe
	}
	return s
}
