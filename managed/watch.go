package managed

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// Watch is redis.Client's, and as safe as a command: what fails before fn is entered
// is tried again by the same rules, and it waits for a server that is away. Once fn
// was entered nothing is repeated but what fn itself does. CloseGracefully waits for it.
func (c *Client) Watch(ctx context.Context, fn func(*redis.Tx) error, keys ...string) error {
	c.node.Enter(hooks.PoolMain)
	defer c.node.Leave(hooks.PoolMain)
	if c.core.draining.Load() {
		return ErrShutdown
	}
	return watch(ctx, c.retry, c.Client.Watch, fn, keys)
}

// Watch is redis.ClusterClient's; see Client.Watch.
func (c *ClusterClient) Watch(ctx context.Context, fn func(*redis.Tx) error, keys ...string) error {
	return c.watch(ctx, c.ClusterClient.Watch, fn, keys)
}

// Watch is redis.Ring's; see Client.Watch.
func (r *Ring) Watch(ctx context.Context, fn func(*redis.Tx) error, keys ...string) error {
	return r.many.watch(ctx, r.Ring.Watch, fn, keys)
}

type watchFunc = func(ctx context.Context, fn func(*redis.Tx) error, keys ...string) error

func (m *many) watch(ctx context.Context, do watchFunc, fn func(*redis.Tx) error, keys []string) error {
	m.calls.Add(1)
	defer m.calls.Add(-1)
	if m.core.draining.Load() {
		return ErrShutdown
	}
	counted := func(ctx context.Context, fn func(*redis.Tx) error, keys ...string) error {
		err := m.awaitMap(ctx)
		if err == nil {
			err = do(ctx, fn, keys...)
		}
		if err != nil && err != redis.Nil {
			err = m.failed(err)
		}
		return err
	}
	return watch(ctx, m.retry, counted, fn, keys)
}

// watch runs a transaction by do. WATCH changes nothing that outlives its connection,
// so it is repeated until fn is entered.
func watch(ctx context.Context, r *retry.Hook, do watchFunc, fn func(*redis.Tx) error, keys []string) error {
	entered := false
	run := func(tx *redis.Tx) error {
		entered = true
		if len(keys) == 0 {
			conntrack.Watching(ctx, tx)
		}
		return fn(tx)
	}
	if len(keys) == 0 {
		return conntrack.Reveal(do(ctx, run)) // nothing is sent before fn
	}
	args := make([]any, 1, len(keys)+1)
	args[0] = "watch"
	for _, k := range keys {
		args = append(args, k)
	}
	var result error
	err := r.ProcessHarmless(ctx, redis.NewStatusCmd(ctx, args...), func(ctx context.Context, _ redis.Cmder) error {
		result = conntrack.Reveal(do(conntrack.WatchContext(ctx), run, keys...))
		if entered {
			return nil
		}
		return result
	})
	if entered {
		return result
	}
	return err
}
