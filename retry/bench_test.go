package retry_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// The hook by itself: what it adds to a command that does not fail.
func BenchmarkHook(b *testing.B) {
	ctx := context.Background()
	cmd := redis.NewStringCmd(ctx, "get", "k")
	next := func(context.Context, redis.Cmder) error { return nil }
	withDeadline, cancel := context.WithCancel(ctx)
	defer cancel()
	cluster := retry.NewHook(retry.Default())
	node := cluster.Node("n")
	for name, c := range map[string]struct {
		ctx  context.Context
		hook redis.Hook
	}{
		"client":            {ctx, retry.NewHook(retry.Default())},
		"client, ctx ends":  {withDeadline, retry.NewHook(retry.Default())},
		"cluster":           {ctx, cluster},
		"node of a cluster": {ctx, node},
	} {
		b.Run(name, func(b *testing.B) {
			run := c.hook.ProcessHook(next)
			b.ReportAllocs()
			for b.Loop() {
				if err := run(c.ctx, cmd); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+", parallel", func(b *testing.B) {
			run := c.hook.ProcessHook(next)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					run(c.ctx, cmd)
				}
			})
		})
	}
}

func BenchmarkPipelineHook(b *testing.B) {
	ctx := context.Background()
	for _, n := range []int{1, 100} {
		cmds := make([]redis.Cmder, n)
		for i := range cmds {
			cmds[i] = redis.NewStringCmd(ctx, "get", "k")
		}
		next := func(_ context.Context, cmds []redis.Cmder) error {
			for _, c := range cmds {
				c.SetErr(nil)
			}
			return nil
		}
		run := retry.NewHook(retry.Default()).ProcessPipelineHook(next)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				run(ctx, cmds)
			}
		})
	}
}

// A real command with and without the hook.
func BenchmarkGet(b *testing.B) {
	opt := redistest.Options(b)
	opt.MaxRetries = -1
	for _, hook := range []bool{false, true} {
		rdb := redis.NewClient(opt)
		defer rdb.Close()
		if hook {
			if _, err := retry.Attach(rdb, retry.Default()); err != nil {
				b.Fatal(err)
			}
		}
		ctx := context.Background()
		b.Run(fmt.Sprint("hook ", hook), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := rdb.Get(ctx, "absent").Err(); err != redis.Nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSafetyOf(b *testing.B) {
	for _, line := range []string{"get k", "set k v ex 10", "zadd z GT CH 1 m", "config get maxclients", "some thing"} {
		cmd := do(line)
		b.Run(line, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				retry.SafetyOf(cmd)
			}
		})
	}
}

func TestTheHookAllocatesNothingWhileNothingFails(t *testing.T) {
	ctx := context.Background()
	cmd := redis.NewStringCmd(ctx, "get", "k")
	h := retry.NewHook(retry.Default())
	cluster := retry.NewHook(retry.Default())
	for name, hook := range map[string]redis.Hook{"client": h, "cluster": cluster, "node": cluster.Node("n")} {
		for _, err := range []error{nil, redis.Nil} {
			run := hook.ProcessHook(func(context.Context, redis.Cmder) error { return err })
			if n := testing.AllocsPerRun(1000, func() { run(ctx, cmd) }); n != 0 {
				t.Errorf("%s, %v: %v allocations", name, err, n)
			}
		}
	}
	cmds := []redis.Cmder{cmd, cmd, cmd}
	pipe := h.ProcessPipelineHook(func(_ context.Context, cmds []redis.Cmder) error {
		for _, c := range cmds {
			c.SetErr(nil)
		}
		return nil
	})
	if n := testing.AllocsPerRun(1000, func() { pipe(ctx, cmds) }); n != 0 {
		t.Errorf("pipeline: %v allocations", n)
	}
}
