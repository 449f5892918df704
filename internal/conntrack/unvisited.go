package conntrack

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Unvisited wraps a hook so that it sees no visit, only commands.
func Unvisited(h redis.Hook) redis.Hook { return unvisited{h} }

type unvisited struct{ hook redis.Hook }

func (u unvisited) DialHook(next redis.DialHook) redis.DialHook {
	return u.hook.DialHook(next)
}

func (u unvisited) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	inner := u.hook.ProcessHook(next)
	if inner == nil {
		return nil
	}
	return func(ctx context.Context, cmd redis.Cmder) error {
		if visitOf(cmd) != nil {
			return next(ctx, cmd)
		}
		return inner(ctx, cmd)
	}
}

func (u unvisited) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return u.hook.ProcessPipelineHook(next)
}
