package managed_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// batchingClusters are clients of a cluster without and with hooks of a user's, and what batches their
// commands.
func batchingClusters(t *testing.T, opt *redis.ClusterOptions) map[*managed.ClusterClient]*redis.AutoPipeliner {
	t.Helper()
	clients := map[*managed.ClusterClient]*redis.AutoPipeliner{}
	for range 2 {
		c := clusterClient(t, opt)
		if len(clients) > 0 {
			c.AddHook(newHeldDials()) // its hooks pass everything on
		}
		batched, err := c.Batched()
		require.NoError(t, err)
		clients[c] = batched
	}
	return clients
}

// go-redis sends it to its node as a pipeline of one, which nothing else does that goes through the
// hooks of a single command.
func TestACommandThatIsAloneInABatchOfAClusterIsRepeatedLikeOthers(t *testing.T) {
	cl := redistest.StartCluster(t, "redis-server", 3, 0)
	key, node := cl.Key(0, "k"), cl.Master(0)
	proxy := redistest.NewProxy(t, node.Addr())
	opt := cl.Options()
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr == node.Addr() {
			addr = proxy.Addr()
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	for _, batched := range batchingClusters(t, opt) {
		for command, do := range map[string]func(context.Context) error{
			"set":  func(ctx context.Context) error { return batched.Set(ctx, key, 1, 0).Err() },
			"zrem": func(ctx context.Context) error { return batched.ZRem(ctx, key, "a").Err() },
			"incr": func(ctx context.Context) error { return batched.Incr(ctx, key).Err() },
		} {
			proxy.OnRequest(nil)
			require.NoError(t, node.Admin().Del(t.Context(), key).Err())
			require.NoError(t, batched.Exists(t.Context(), key).Err())
			sent := loseReply(proxy, command)
			switch err := do(deadline(t, soon)); command {
			case "set":
				require.NoError(t, err)
				require.EqualValues(t, 2, sent.Load())
			case "zrem":
				require.True(t, retry.Applied(err), "%v", err)
				require.EqualValues(t, 2, sent.Load())
			default:
				require.ErrorIs(t, err, retry.ErrUnknownOutcome)
				require.EqualValues(t, 1, sent.Load())
			}
		}
	}
}

// go-redis repeats it where it finds no free connection.
func TestACommandThatIsAloneInABatchOfAClusterWaitsForThePoolOnce(t *testing.T) {
	cl := redistest.StartCluster(t, "redis-server", 3, 0)
	opt := cl.Options()
	opt.PoolSize, opt.PipelinePoolSize, opt.PoolTimeout = 1, -1, 2*time.Second
	for c, batched := range batchingClusters(t, opt) {
		held, err := c.Acquire(t.Context(), cl.Key(0, "k"))
		require.NoError(t, err)
		cmd := redis.NewIntCmd(t.Context(), "incr", cl.Key(0, "k"))
		began := time.Now()
		require.ErrorIs(t, batched.Process(t.Context(), cmd), redis.ErrPoolTimeout)
		require.Less(t, redistest.Took(began), 4*time.Second)
		held.Release()
		require.NoError(t, batched.Process(t.Context(), cmd))
	}
}
