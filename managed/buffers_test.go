package managed_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func TestBuffersHaveTheSizesThatWereAskedFor(t *testing.T) {
	s := redistest.Start(t)
	ctx := t.Context()
	b := managed.WithBuffers(managed.Buffers{Read: 8192, Write: 4096, PipelineRead: 16384, PipelineWrite: 2048})
	opt := s.Options()
	opt.ReadBufferSize = 1 << 16
	c := client(t, opt, b)
	ring := managed.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": s.Addr()}}, b)
	defer ring.Close()
	// Whether there are Sentinels does not matter here.
	failover := managed.NewFailoverClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{"127.0.0.1:1"}}, b)
	defer failover.Close()
	for _, o := range []*redis.Options{c.Client.Options(), ring.GetShardClients()[0].Options(), failover.Client.Options()} {
		require.Equal(t, []int{8192, 4096, 16384, 2048},
			[]int{o.ReadBufferSize, o.WriteBufferSize, o.PipelineReadBufferSize, o.PipelineWriteBufferSize})
	}
	require.Equal(t, 1<<16, opt.ReadBufferSize, "the user's options are not changed")
	require.NoError(t, c.Set(ctx, "k", make([]byte, 1<<20), 0).Err(), "larger than all buffers")
	v, err := c.Get(ctx, "k").Bytes()
	require.NoError(t, err)
	require.Len(t, v, 1<<20)
	_, err = c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); p.Get(ctx, "k"); return nil })
	require.NoError(t, err)
}

func TestBuffersThatCannotBeAreRefused(t *testing.T) {
	for _, n := range []int{-1, 1, 511} {
		_, err := managed.New(&redis.Options{}, managed.WithBuffers(managed.Buffers{PipelineWrite: n}))
		require.ErrorContains(t, err, "WithBuffers")
	}
}
