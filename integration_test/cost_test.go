package integration_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// calls are what costs are compared of, on any go-redis client.
var calls = map[string]func(ctx context.Context, c redis.Cmdable) error{
	"GET": func(ctx context.Context, c redis.Cmdable) error { return c.Get(ctx, "k").Err() },
	"SET": func(ctx context.Context, c redis.Cmdable) error { return c.Set(ctx, "k", "v", 0).Err() },
	"pipeline of 10": func(ctx context.Context, c redis.Cmdable) error {
		p := c.Pipeline()
		for range 10 {
			p.Get(ctx, "k")
		}
		_, err := p.Exec(ctx)
		return err
	},
	"transaction of 10": func(ctx context.Context, c redis.Cmdable) error {
		p := c.TxPipeline()
		for range 10 {
			p.Incr(ctx, "n")
		}
		_, err := p.Exec(ctx)
		return err
	},
}

func TestWhileNothingFailsAManagedClientAllocatesNoMoreThanABareOne(t *testing.T) {
	s := redistest.Start(t)
	bare := redis.NewClient(s.Options())
	defer bare.Close()
	rdb := guarded(t, s.Options())
	ctx := context.Background()
	if err := bare.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for name, call := range calls {
		measure := func(c redis.Cmdable) float64 {
			return testing.AllocsPerRun(300, func() {
				if err := call(ctx, c); err != nil {
					t.Fatal(err)
				}
			})
		}
		var without, with float64
		for range 5 { // what goes on beside it counts, too
			if without, with = measure(bare), measure(rdb); with <= without {
				break
			}
		}
		if with > without {
			t.Errorf("%s: %v allocations, bare %v", name, with, without)
		}
		t.Logf("%s: %v allocations, bare %v", name, with, without)
	}
}

func BenchmarkACallWhileNothingFails(b *testing.B) {
	s := redistest.Start(b)
	bare := redis.NewClient(s.Options())
	defer bare.Close()
	rdb := guarded(b, s.Options())
	ctx := context.Background()
	if err := bare.Set(ctx, "k", "v", 0).Err(); err != nil {
		b.Fatal(err)
	}
	for name, call := range calls {
		for _, c := range []struct {
			name string
			c    redis.Cmdable
		}{{"bare", bare}, {"managed", rdb}} {
			b.Run(name+"/"+c.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := call(ctx, c.c); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
