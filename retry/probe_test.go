package retry_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/retry"
)

// gone is the error of a node that never comes back.
type gone struct{}

func (gone) Error() string { return "away" }
func (gone) Unsent() bool  { return true }
func (gone) Wait(ctx context.Context, _ time.Duration) error {
	<-ctx.Done()
	return ctx.Err()
}

// The call that is the probe of an open breaker ends with it, too. It went on
// waiting, was the next probe, and the next, until UnreachableLimit.
func TestTheProbeOfABreakerEndsLikeAllOtherCalls(t *testing.T) {
	for name, kind := range map[string]func(*retry.Hook) func(context.Context) error{
		"command": func(h *retry.Hook) func(context.Context) error {
			run := h.ProcessHook(func(context.Context, redis.Cmder) error { return gone{} })
			return func(ctx context.Context) error { return run(ctx, redis.NewStringCmd(ctx, "get", "k")) }
		},
		"pipeline": func(h *retry.Hook) func(context.Context) error {
			run := h.ProcessPipelineHook(func(_ context.Context, cmds []redis.Cmder) error {
				for _, cmd := range cmds {
					cmd.SetErr(gone{})
				}
				return gone{}
			})
			return func(ctx context.Context) error {
				return run(ctx, []redis.Cmder{redis.NewStringCmd(ctx, "get", "k"), redis.NewStringCmd(ctx, "get", "l")})
			}
		},
		"node of a cluster": func(h *retry.Hook) func(context.Context) error {
			node := h.Node("n").ProcessHook(func(context.Context, redis.Cmder) error { return gone{} })
			run := h.ProcessHook(node)
			return func(ctx context.Context) error { return run(ctx, redis.NewStringCmd(ctx, "get", "k")) }
		},
		"pipeline on a node of a cluster": func(h *retry.Hook) func(context.Context) error {
			node := h.Node("n").ProcessPipelineHook(func(_ context.Context, cmds []redis.Cmder) error {
				for _, cmd := range cmds {
					cmd.SetErr(gone{})
				}
				return gone{}
			})
			run := h.ProcessPipelineHook(func(ctx context.Context, cmds []redis.Cmder) error { // as a cluster does
				err := node(ctx, cmds)
				for _, cmd := range cmds {
					if cmd.Err() == nil {
						cmd.SetErr(err)
					}
				}
				return err
			})
			return func(ctx context.Context) error {
				return run(ctx, []redis.Cmder{redis.NewStringCmd(ctx, "get", "k"), redis.NewStringCmd(ctx, "get", "l")})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := retry.Default()
				p.Breaker = retry.BreakerPolicy{After: 2 * time.Second, Probe: 100 * time.Millisecond}
				call := kind(retry.NewHook(p))
				start := time.Now()
				var wg sync.WaitGroup
				for range 5 {
					wg.Go(func() {
						if err := call(context.Background()); !errors.Is(err, retry.ErrBreakerOpen) || time.Since(start) > 2100*time.Millisecond {
							t.Errorf("after %v: %v", time.Since(start), err)
						}
					})
				}
				wg.Wait()
				for range 30 {
					at := time.Now()
					if err := call(context.Background()); !errors.Is(err, retry.ErrBreakerOpen) || time.Since(at) > 0 {
						t.Fatalf("open, after %v: %v", time.Since(at), err)
					}
					time.Sleep(30 * time.Millisecond)
				}
			})
		})
	}
}
