package managed

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// unit is a go-redis client of one server with everything that hangs on it.
type unit struct {
	core  *core
	rdb   *redis.Client
	node  *hooks.Node
	hook  *hooks.Hook
	retry *retry.Hook

	blocking blockers
}

// newUnit makes a unit of a user's options, which it does not change.
func (c *core) newUnit(opt *redis.Options) (*unit, error) {
	u := &unit{core: c, retry: c.retryHook(opt)}
	if err := u.build(*opt); err != nil {
		return nil, err
	}
	if n := c.set.blockingPool; n > 0 {
		if err := u.addBlockingPool(*opt, n); err != nil {
			_ = u.rdb.Close()
			return nil, err
		}
	}
	return u, nil
}

// build makes the go-redis client. What go-redis does about age, idleness and
// retries is switched off: it is done here.
func (u *unit) build(opt redis.Options) error {
	minIdle := opt.MinIdleConns
	opt.ConnMaxIdleTime, opt.ConnMaxLifetime, opt.ConnMaxLifetimeJitter = -1, 0, 0
	opt.MaxRetries = -1
	u.node = u.core.tracker.NewNode(&opt)
	var err error
	if u.rdb, err = construct(&opt); err != nil {
		return err
	}
	u.hook = &hooks.Hook{Node: u.node, Process: u.retry.Process, Client: u.process, Pipeline: u.retry.Pipeline, Failed: u.failed}
	u.hook.Install(u.rdb, u.hook)
	u.node.Bind(u.rdb)
	u.core.maintain.add(u.node, minIdle)
	return nil
}

// construct calls redis.NewClient and turns its panics into errors.
func construct(opt *redis.Options) (rdb *redis.Client, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("lifeguard/managed: go-redis refuses these options: %v", p)
		}
	}()
	return redis.NewClient(opt), nil
}

// process runs a command of the client itself.
func (u *unit) process(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
	if mayBlock(cmd) {
		return u.processBlocking(ctx, cmd, next)
	}
	return u.retry.Process(ctx, cmd, next)
}

// failed turns an error into what the caller is to see.
func (u *unit) failed(_ context.Context, err error) error {
	switch {
	case errors.Is(err, redis.ErrPoolTimeout):
		opt := u.rdb.Options()
		return u.core.exhausted(u.node, opt.PoolSize, err, opt.PoolTimeout)
	case redis.IsReadOnlyError(err):
		if s := u.core.maintain.of(u.node); s != nil {
			s.readOnly()
		}
	}
	return err
}

// addHook adds a user's hook.
func (u *unit) addHook(h redis.Hook) {
	u.hook.Install(u.rdb, hooks.Unvisited(h))
	if b := u.blocking.unit; b != nil {
		b.addHook(h)
	}
}

// close closes the clients.
func (u *unit) close() error {
	u.node.Close()
	err := u.rdb.Close()
	if b := u.blocking.unit; b != nil {
		if e := b.close(); err == nil {
			err = e
		}
	}
	return err
}
