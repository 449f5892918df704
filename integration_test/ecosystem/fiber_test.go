package ecosystem_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	fiber "github.com/gofiber/storage/redis/v3"
)

func fiberLibrary() library {
	return library{
		name: "fiber storage",
		play: func(p *play) {
			store := fiber.NewFromConnection(p.rdb)
			get := func(ctx context.Context) (any, error) {
				b, err := store.GetWithContext(ctx, "session")
				return string(b), err
			}
			p.step("get of nothing", get)
			p.step("set", func(ctx context.Context) (any, error) {
				return nil, store.SetWithContext(ctx, "session", []byte("value"), time.Hour)
			})
			p.step("get", get)
			p.step("set without a ctx", func(context.Context) (any, error) { return nil, store.Set("other", []byte("value"), 0) })
			p.step("keys", func(context.Context) (any, error) {
				keys, err := store.Keys()
				slices.SortFunc(keys, bytes.Compare)
				return string(bytes.Join(keys, []byte(" "))), err
			})
			p.step("delete", func(ctx context.Context) (any, error) { return nil, store.DeleteWithContext(ctx, "session") })
			p.step("get of nothing", get)
			p.step("reset", func(ctx context.Context) (any, error) { return nil, store.ResetWithContext(ctx) })
			p.step("ping of its client", func(ctx context.Context) (any, error) { return store.Conn().Ping(ctx).Result() })
			p.step("close", func(context.Context) (any, error) { return nil, store.Close() })
			p.step("get after close", get)
		},
		load: func(l *load) {
			store := fiber.NewFromConnection(l.rdb)
			l.call = func(ctx context.Context, caller int) error {
				key := fmt.Sprintf("key:%d", caller%4)
				if err := store.SetWithContext(ctx, key, []byte(key), 0); err != nil {
					return err
				}
				b, err := store.GetWithContext(ctx, key)
				if err == nil && string(b) != key {
					l.t.Errorf("the value of %s is %s", key, b)
				}
				return err
			}
		},
	}
}
