package managed_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

const often = 20 * time.Millisecond // between the checks of a ring's shards

// ringOfTwo makes a ring of two shards that are checked often; the second one is
// reached by way of a proxy.
func ringOfTwo(t *testing.T) (*managed.Ring, *redistest.Proxy) {
	t.Helper()
	a, b := redistest.Start(t), redistest.Start(t)
	p := redistest.NewProxy(t, b.Addr())
	r := managed.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": a.Addr(), "b": p.Addr()},
		HeartbeatFrequency: often, PoolSize: 1, PoolTimeout: often}, managed.WithLogger(quiet))
	t.Cleanup(func() { _ = r.Close() })
	return r, p
}

// As in go-redis: a shard whose connections are all in use is up, and keeps its keys.
func TestARingKeepsAShardWhosePoolIsExhausted(t *testing.T) {
	t.Parallel()
	r, p := ringOfTwo(t)
	held, err := r.AcquireNode(t.Context(), p.Addr())
	require.NoError(t, err)
	defer held.Release()
	for r.PoolStats().Timeouts < 5 {
		require.Equal(t, 2, r.Len(), "shards that are up")
		time.Sleep(often)
	}
}

// A connection that breaks under the check says nothing about the server.
func TestARingKeepsAShardWhoseConnectionsBreak(t *testing.T) {
	t.Parallel()
	r, p := ringOfTwo(t)
	var pings atomic.Int64
	p.OnRequest(func(_ int, b []byte) redistest.Action {
		if strings.Contains(string(b), "ping") && pings.Add(1)%5 != 0 {
			return redistest.CutAfter
		}
		return redistest.Forward
	})
	for pings.Load() < 30 {
		require.Equal(t, 2, r.Len(), "shards that are up")
		time.Sleep(often / 10)
	}
}

// One that is down is not waited for.
func TestARingGivesUpAnUnreachableShard(t *testing.T) {
	t.Parallel()
	r, p := ringOfTwo(t)
	require.Equal(t, 2, r.Len())
	p.Close()
	require.Eventually(t, func() bool { return r.Len() == 1 }, 10*time.Second, often)
}
