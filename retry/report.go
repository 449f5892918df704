package retry

import (
	"context"
	"errors"
	"log/slog"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// countRetry counts a retry and reports it.
func (h *Hook) countRetry(ctx context.Context, a Attempt) {
	h.count.retried(a.Reason, a.Commands)
	if h.log != nil {
		h.log.LogAttrs(ctx, slog.LevelDebug, "lifeguard/retry: sending again",
			slog.String("command", a.Command), slog.Int("commands", a.Commands), slog.Int("attempt", a.Number),
			slog.String("reason", string(a.Reason)), slog.String("outcome", a.Outcome.String()),
			slog.Duration("wait", a.Wait), slog.Any("error", a.Err))
	}
	if h.policy.OnRetry == nil {
		return
	}
	defer func() {
		if r := recover(); r != nil && h.log != nil {
			h.log.LogAttrs(ctx, slog.LevelError, "lifeguard/retry: panic in OnRetry", slog.Any("panic", r))
		}
	}()
	h.policy.OnRetry(a)
}

// unknown makes the error of a command that may have been executed. For a read the outcome does not
// matter.
func (h *Hook) unknown(ctx context.Context, cmd redis.Cmder, err error, tries int) error {
	if h.safety(cmd) == ReadOnly || attempt.MarksOf(ctx)&attempt.Harmless != 0 {
		return err
	}
	if errors.Is(err, ErrUnknownOutcome) {
		return err
	}
	h.count.unknown.Add(1)
	// At level Debug: the caller gets the error, and an outage produces thousands.
	if h.log != nil {
		h.log.LogAttrs(ctx, slog.LevelDebug, "lifeguard/retry: outcome unknown",
			slog.String("command", command.DisplayName(cmd)), slog.Int("attempts", tries), slog.Any("error", err))
	}
	return &UnknownOutcomeError{Command: command.DisplayName(cmd), Attempts: tries, Cause: err}
}

// replyLost makes the error of a command that was executed on one of several
// attempts, of which the last one was answered.
func (h *Hook) replyLost(ctx context.Context, cmd redis.Cmder, cause error, tries int) error {
	err := h.unknown(ctx, cmd, cause, tries)
	var u *UnknownOutcomeError
	if errors.As(err, &u) {
		err = &UnknownOutcomeError{Command: u.Command, Attempts: tries, Cause: u.Cause, Applied: true}
	}
	return err
}

// breakerChanged reports a breaker that opened or closed. The probe once a second in between is not
// reported.
func (h *Hook) breakerChanged(node string, m move) {
	switch m.to {
	case gobreaker.StateOpen:
		h.count.breakerOpened.Add(1)
	case gobreaker.StateClosed:
		h.count.breakerClosed.Add(1)
	}
	open := m.to == gobreaker.StateOpen
	switch {
	case m.to == gobreaker.StateHalfOpen || m.from == gobreaker.StateHalfOpen && open:
	case h.onBreaker != nil:
		h.onBreaker(node, open, m.cause)
	case h.log != nil && open:
		h.log.LogAttrs(context.Background(), slog.LevelWarn, "lifeguard/retry: breaker opened", slog.String("node", node), slog.Any("cause", m.cause))
	case h.log != nil:
		h.log.LogAttrs(context.Background(), slog.LevelInfo, "lifeguard/retry: breaker closed", slog.String("node", node))
	}
}
