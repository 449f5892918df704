package ecosystem_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/goredisstore.v9"
	"github.com/ulule/limiter/v3"
	limiterstore "github.com/ulule/limiter/v3/drivers/store/redis"
)

// admitted counts whom a limiter lets pass.
type admitted struct{ atomic.Int64 }

func (a *admitted) check(t testing.TB, most int64) {
	if n := a.Load(); n == 0 || n > most {
		t.Errorf("%d calls were admitted, the limit is %d", n, most)
	}
}

func redisRateLibrary() library {
	return library{
		name: "redis_rate",
		play: func(p *play) {
			limit := redis_rate.NewLimiter(p.rdb)
			result := func(r *redis_rate.Result, err error) (any, error) {
				if err != nil {
					return nil, err
				}
				return []int{r.Allowed, r.Remaining}, nil
			}
			for range 4 {
				p.step("allow", func(ctx context.Context) (any, error) {
					return result(limit.Allow(ctx, "user", redis_rate.PerHour(3)))
				})
			}
			p.step("reset", func(ctx context.Context) (any, error) { return nil, limit.Reset(ctx, "user") })
			p.step("allow two", func(ctx context.Context) (any, error) {
				return result(limit.AllowN(ctx, "user", redis_rate.PerHour(3), 2))
			})
			p.step("allow at most two", func(ctx context.Context) (any, error) {
				return result(limit.AllowAtMost(ctx, "user", redis_rate.PerHour(3), 2))
			})
		},
		load: func(l *load) {
			limit := redis_rate.NewLimiter(l.rdb)
			var passed admitted
			l.call = func(ctx context.Context, _ int) error {
				r, err := limit.Allow(ctx, "user", redis_rate.PerHour(40))
				if err == nil {
					passed.Add(int64(r.Allowed))
				}
				return err
			}
			l.check = func() { passed.check(l.t, 40) }
		},
	}
}

func limiterLibrary() library {
	open := func(t testing.TB, rdb limiterstore.Client, most int64) *limiter.Limiter {
		store, err := limiterstore.NewStore(rdb)
		if err != nil {
			t.Fatal(err)
		}
		return limiter.New(store, limiter.Rate{Period: time.Hour, Limit: most})
	}
	return library{
		name: "limiter",
		play: func(p *play) {
			limit := open(p.t, p.rdb, 3)
			result := func(c limiter.Context, err error) (any, error) {
				return []any{c.Limit, c.Remaining, c.Reached}, err
			}
			for range 4 {
				p.step("get", func(ctx context.Context) (any, error) { return result(limit.Get(ctx, "user")) })
			}
			p.step("peek", func(ctx context.Context) (any, error) { return result(limit.Peek(ctx, "user")) })
			p.step("reset", func(ctx context.Context) (any, error) { return result(limit.Reset(ctx, "user")) })
			p.step("increment", func(ctx context.Context) (any, error) { return result(limit.Increment(ctx, "user", 2)) })
		},
		load: func(l *load) {
			limit := open(l.t, l.rdb, 40)
			var passed admitted
			l.call = func(ctx context.Context, _ int) error {
				c, err := limit.Get(ctx, "user")
				if err == nil && !c.Reached {
					passed.Add(1)
				}
				return err
			}
			l.check = func() { passed.check(l.t, 40) }
		},
	}
}

func throttledLibrary() library {
	open := func(t testing.TB, store throttled.GCRAStoreCtx, err error, most int) *throttled.GCRARateLimiterCtx {
		if err != nil {
			t.Fatal(err)
		}
		limit, err := throttled.NewGCRARateLimiterCtx(store, throttled.RateQuota{MaxRate: throttled.PerHour(1), MaxBurst: most - 1})
		if err != nil {
			t.Fatal(err)
		}
		return limit
	}
	return library{
		name: "throttled", varies: true,
		play: func(p *play) {
			store, err := goredisstore.NewCtx(p.rdb, "throttled:")
			limit := open(p.t, store, err, 3)
			for _, n := range []int{0, 1, 1, 2, 1, 1} {
				p.step("limit", func(ctx context.Context) (any, error) {
					limited, r, err := limit.RateLimitCtx(ctx, "user", n)
					return []any{limited, r.Limit, r.Remaining}, err
				})
			}
		},
		load: func(l *load) {
			store, err := goredisstore.NewCtx(l.rdb, "throttled:")
			limit := open(l.t, store, err, 40)
			var passed admitted
			l.call = func(ctx context.Context, _ int) error {
				limited, _, err := limit.RateLimitCtx(ctx, "user", 1)
				if err == nil && !limited {
					passed.Add(1)
				}
				// Others were faster, too often: that is how it works.
				if err != nil && strings.Contains(strings.ToLower(err.Error()), "failed to store updated rate limit data") {
					return nil
				}
				return err
			}
			l.check = func() { passed.check(l.t, 40) }
		},
	}
}
