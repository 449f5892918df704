package managed_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// pipelineErrors is a hook that keeps what it saw of the last pipeline: the error of each command,
// and of all.
type pipelineErrors struct{ seen []string }

func (*pipelineErrors) DialHook(redis.DialHook) redis.DialHook          { return nil }
func (*pipelineErrors) ProcessHook(redis.ProcessHook) redis.ProcessHook { return nil }
func (h *pipelineErrors) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if name := cmds[0].Name(); name == "hello" || name == "client" {
			return err
		}
		h.seen = nil
		for _, cmd := range cmds {
			h.seen = append(h.seen, fmt.Sprint(cmd.Name(), ": ", cmd.Err()))
		}
		h.seen = append(h.seen, fmt.Sprint(err))
		return err
	}
}

func TestHooksOfAClusterAndARingSeeTheEndOfACtxOnMultiAndExecToo(t *testing.T) {
	s, one := redistest.Start(t), redistest.StartOneNodeCluster(t)
	ring := func() *redis.RingOptions { return &redis.RingOptions{Addrs: map[string]string{"a": s.Addr()}} }
	ended, end := context.WithCancel(t.Context())
	end()
	see := func(c redis.UniversalClient) []string {
		h := &pipelineErrors{}
		c.AddHook(h)
		_, err := c.TxPipelined(ended, func(p redis.Pipeliner) error { p.Incr(ended, "n"); return nil })
		require.Equal(t, context.Canceled, err)
		require.NoError(t, c.Close())
		return h.seen
	}
	log := managed.WithLogger(quiet)
	for _, bare := range []redis.UniversalClient{redis.NewClusterClient(slotsOf(one)), redis.NewRing(ring())} {
		require.Equal(t, []string{"multi: <nil>", "incr: context canceled", "exec: <nil>", "context canceled"}, see(bare))
	}
	for _, c := range []redis.UniversalClient{managed.NewClusterClient(slotsOf(one), log), managed.NewRing(ring(), log)} {
		require.Equal(t, []string{"multi: context canceled", "incr: context canceled", "exec: context canceled", "context canceled"}, see(c))
	}
}

func TestAHookOfTheClientInsideSeesAnErrorWithoutTextOfAnArgumentThatCannotBeMarshalled(t *testing.T) {
	const text = "redis: can't marshal struct {} (implement encoding.BinaryMarshaler)"
	opt := redistest.Options(t)
	bare, c := redis.NewClient(opt), client(t, opt)
	defer bare.Close()
	bareHook, inside, added := &pipelineErrors{}, &pipelineErrors{}, &pipelineErrors{}
	bare.AddHook(bareHook)
	c.Client.AddHook(inside)
	c.AddHook(added)
	for _, c := range []redis.UniversalClient{bare, c} {
		_, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Set(t.Context(), "k", struct{}{}, 0); return nil })
		require.EqualError(t, err, text)
	}
	require.Equal(t, []string{"set: " + text, text}, bareHook.seen)
	require.Equal(t, []string{"set: ", text}, inside.seen)
	require.Equal(t, bareHook.seen, added.seen)
}
