package ecosystem_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-redis/cache/v9"
)

func cacheLibrary() library {
	type thing struct {
		Name string
		N    int
	}
	return library{
		name: "go-redis/cache",
		play: func(p *play) {
			c := cache.New(&cache.Options{Redis: p.rdb, LocalCache: cache.NewTinyLFU(10, time.Minute), StatsEnabled: true})
			get := func(ctx context.Context) (any, error) {
				var v thing
				err := c.Get(ctx, "a", &v)
				return v, err
			}
			p.step("get of nothing", get)
			p.step("set", func(ctx context.Context) (any, error) {
				return nil, c.Set(&cache.Item{Ctx: ctx, Key: "a", Value: thing{"a", 1}, TTL: time.Hour})
			})
			p.step("get of the local one", get)
			c.DeleteFromLocalCache("a")
			p.step("get", get)
			p.step("set if there", func(ctx context.Context) (any, error) {
				return nil, c.Set(&cache.Item{Ctx: ctx, Key: "b", Value: thing{"b", 1}, SetXX: true})
			})
			p.step("set if not there", func(ctx context.Context) (any, error) {
				return nil, c.Set(&cache.Item{Ctx: ctx, Key: "c", Value: thing{"c", 1}, SetNX: true})
			})
			p.step("once", func(ctx context.Context) (any, error) {
				var v thing
				err := c.Once(&cache.Item{Ctx: ctx, Key: "d", Value: &v, Do: func(*cache.Item) (any, error) { return thing{"d", 4}, nil }})
				return v, err
			})
			p.step("exists", func(ctx context.Context) (any, error) { return c.Exists(ctx, "d"), nil })
			p.step("delete", func(ctx context.Context) (any, error) { return nil, c.Delete(ctx, "a") })
			p.step("get of nothing", get)
			p.step("stats", func(context.Context) (any, error) { return *c.Stats(), nil })
		},
		load: func(l *load) {
			c := cache.New(&cache.Options{Redis: l.rdb})
			l.call = func(ctx context.Context, caller int) error {
				key := fmt.Sprintf("key:%d", caller%4)
				var v thing
				if err := c.Set(&cache.Item{Ctx: ctx, Key: key, Value: thing{key, caller % 4}}); err != nil {
					return err
				}
				if err := c.Get(ctx, key, &v); err != nil && !errors.Is(err, cache.ErrCacheMiss) {
					return err
				} else if v != (thing{key, caller % 4}) {
					l.t.Errorf("the value of %s is %v, %v", key, v, err)
				}
				return nil
			}
		},
	}
}
