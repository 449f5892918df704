package managed_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// complaints is an error that Go cannot compare with another of its type, as those of validators
// often are.
type complaints []string

func (c complaints) Error() string { return fmt.Sprint([]string(c)) }

// invalid is an argument that cannot be written because of that.
type invalid struct{}

func (invalid) MarshalBinary() ([]byte, error) { return nil, complaints{"too long"} }

// objects is a hook that returns such an error instead of sending.
type objects struct{}

func (objects) DialHook(next redis.DialHook) redis.DialHook { return next }
func (objects) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "incr" {
			cmd.SetErr(complaints{"no"})
			return cmd.Err()
		}
		return next(ctx, cmd)
	}
}
func (objects) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			cmd.SetErr(complaints{"no"})
		}
		return complaints{"no"}
	}
}

func TestAnErrorThatCannotBeComparedReachesItsCaller(t *testing.T) {
	s := redistest.Start(t)
	cluster := redistest.StartOneNodeCluster(t)
	for name, open := range map[string]func() redis.UniversalClient{
		"client": func() redis.UniversalClient { return managed.NewClient(s.Options(), managed.WithLogger(quiet)) },
		"cluster": func() redis.UniversalClient {
			return managed.NewClusterClient(&redis.ClusterOptions{Addrs: []string{cluster.Addr()}}, managed.WithLogger(quiet))
		},
		"ring": func() redis.UniversalClient {
			return managed.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": s.Addr()}}, managed.WithLogger(quiet))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			c := open()
			defer func() { _ = c.Close() }()
			calls := func(what string, arg any) {
				var mine complaints
				require.True(t, errors.As(c.Set(ctx, "k", arg, 0).Err(), &mine) || what == "hook", what)
				_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "k", arg, 0); p.Incr(ctx, "k"); return nil })
				require.True(t, errors.As(err, &mine), "%s, pipeline: %v", what, err)
				_, err = c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "k", arg, 0); p.Incr(ctx, "k"); return nil })
				require.True(t, errors.As(err, &mine), "%s, transaction: %v", what, err)
				err = c.Watch(ctx, func(tx *redis.Tx) error {
					_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "k", arg, 0); return nil })
					return err
				}, "k")
				many := name != "client" // whose hooks do not see what a node's transaction sends
				require.True(t, errors.As(err, &mine) || what == "hook" && many && err == nil, "%s, Watch: %v", what, err)
			}
			calls("argument", invalid{})
			c.AddHook(objects{})
			calls("hook", "v")
			var mine complaints
			require.ErrorAs(t, c.Incr(ctx, "k").Err(), &mine)
		})
	}
	c := client(t, s.Options())
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	var mine complaints
	require.ErrorAs(t, conn.Set(t.Context(), "k", invalid{}, 0).Err(), &mine)
	_, err = conn.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Set(t.Context(), "k", invalid{}, 0); return nil })
	require.ErrorAs(t, err, &mine)
}
