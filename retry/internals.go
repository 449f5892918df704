package retry

import (
	"context"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
)

func init() {
	attempt.InternalsOf = func(hook redis.Hook) attempt.Internals {
		switch h := hook.(type) {
		case *Hook:
			return internals{h, h.breaker}
		case *nodeHook:
			return internals{h.h, h.breaker}
		}
		return nil
	}
}

// internals implements attempt.Internals.
type internals struct {
	h       *Hook
	breaker *breaker
}

func (i internals) SetFacts(cut *atomic.Uint64, nodes func() int) {
	i.h.cut, i.h.nodes = cut, nodes
	if nodes != nil {
		i.h.fanout.Store(true)
	}
}

func (i internals) Pipeline(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook, own func() bool) error {
	return i.h.pipeline(ctx, cmds, next, own)
}

func (i internals) Abandoned(ctx context.Context, cmd redis.Cmder, err error) error {
	return i.h.unknown(ctx, cmd, err, 1)
}

func (i internals) Conn(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
	return i.h.run(ctx, cmd, next, true)
}

func (i internals) Kept(ctx context.Context, cmd redis.Cmder, err error) error {
	switch f := judge(err); {
	case f.outcome == NotSent && !command.CannotBeWritten(cmd, f.err), // its reply did not fit, or a hook has replaced the error
		f.outcome == Answered && isAnswer(f.err) && command.WritesReply(cmd): // the error of its writer
		return i.h.unknown(ctx, cmd, f.err, 1)
	}
	return err
}

func (i internals) Early(err error) error {
	if judge(err).outcome == NotSent {
		return err
	}
	return asEarly(err)
}

func (i internals) BreakerOpen() bool { return i.breaker.open() }
