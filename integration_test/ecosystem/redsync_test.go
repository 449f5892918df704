package ecosystem_test

import (
	"context"
	"errors"
	"time"

	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
)

func redsyncLibrary() library {
	return library{
		name: "redsync",
		play: func(p *play) {
			rs := redsync.New(goredis.NewPool(p.rdb))
			mutex := func(value string) *redsync.Mutex {
				return rs.NewMutex("lock", redsync.WithTries(1), redsync.WithExpiry(time.Minute),
					redsync.WithGenValueFunc(func() (string, error) { return value, nil }))
			}
			a, b := mutex("a"), mutex("b")
			p.step("lock", func(ctx context.Context) (any, error) { return nil, a.LockContext(ctx) })
			p.step("lock of another", func(ctx context.Context) (any, error) { return nil, b.LockContext(ctx) })
			p.step("extend", func(ctx context.Context) (any, error) { return a.ExtendContext(ctx) })
			p.step("valid", func(context.Context) (any, error) { return a.Until().After(time.Now()), nil })
			p.step("unlock", func(ctx context.Context) (any, error) { return a.UnlockContext(ctx) })
			p.step("unlock again", func(ctx context.Context) (any, error) { return a.UnlockContext(ctx) })
			p.step("lock of another", func(ctx context.Context) (any, error) { return nil, b.LockContext(ctx) })
			p.step("unlock of another", func(ctx context.Context) (any, error) { return b.UnlockContext(ctx) })
		},
		load: func(l *load) {
			rs := redsync.New(goredis.NewPool(l.rdb))
			var one oneHolder
			l.call = func(ctx context.Context, _ int) error {
				key := one.key()
				m := rs.NewMutex(key, redsync.WithTries(1), redsync.WithExpiry(time.Minute))
				err := m.LockContext(ctx)
				if taken := new(redsync.ErrTaken); errors.As(err, &taken) {
					time.Sleep(time.Millisecond)
					return nil
				} else if err != nil {
					one.next(key)
					return err
				}
				one.hold(l.t, key)
				if _, err = m.UnlockContext(ctx); err != nil {
					one.next(key)
				}
				return err
			}
			l.check = func() { one.check(l.t) }
		},
	}
}
