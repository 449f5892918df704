package ecosystem_test

import (
	"context"
	"errors"
	"time"

	"github.com/bsm/redislock"
)

func redislockLibrary() library {
	return library{
		name: "redislock",
		play: func(p *play) {
			locker := redislock.New(p.rdb)
			var lock *redislock.Lock
			p.step("obtain", func(ctx context.Context) (_ any, err error) {
				lock, err = locker.Obtain(ctx, "lock", time.Minute, &redislock.Options{Token: "token of a", Metadata: "a"})
				return lock.Metadata(), err
			})
			p.step("obtain by another", func(ctx context.Context) (any, error) {
				return locker.Obtain(ctx, "lock", time.Minute, &redislock.Options{Token: "token of b"})
			})
			p.step("lives", func(ctx context.Context) (any, error) {
				ttl, err := lock.TTL(ctx)
				return ttl > 30*time.Second, err
			})
			p.step("refresh", func(ctx context.Context) (any, error) { return nil, lock.Refresh(ctx, time.Hour, nil) })
			p.step("release", func(ctx context.Context) (any, error) { return nil, lock.Release(ctx) })
			p.step("release again", func(ctx context.Context) (any, error) { return nil, lock.Release(ctx) })
			p.step("lives no longer", func(ctx context.Context) (any, error) { return lock.TTL(ctx) })
		},
		load: func(l *load) {
			locker := redislock.New(l.rdb)
			var one oneHolder
			l.call = func(ctx context.Context, _ int) error {
				key := one.key()
				lock, err := locker.Obtain(ctx, key, time.Minute, nil)
				if errors.Is(err, redislock.ErrNotObtained) {
					time.Sleep(time.Millisecond)
					return nil
				} else if err != nil {
					one.next(key)
					return err
				}
				one.hold(l.t, key)
				if err = lock.Release(ctx); err != nil {
					one.next(key)
				}
				// A release that was repeated finds no lock.
				if errors.Is(err, redislock.ErrLockNotHeld) {
					return nil
				}
				return err
			}
			l.check = func() { one.check(l.t) }
		},
	}
}
