package managed_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// What redisotel does with a cluster: hooks on its nodes. Beside a bare client.
func TestAnInstrumentOfAClusterSeesCallsAndOnItsNodesWhatABareOneDoes(t *testing.T) {
	cluster := redistest.StartCluster(t, "redis-server", 3, 0)
	ctx := t.Context()
	instrument := func(calls, nodes redis.Hook) func(*redis.ClusterClient) error {
		return func(target *redis.ClusterClient) error {
			target.AddHook(calls)
			target.OnNewNode(func(node *redis.Client) { node.AddHook(nodes) })
			return nil
		}
	}
	run := func(c redis.UniversalClient) {
		for shard := range 3 {
			require.NoError(t, c.Set(ctx, cluster.Key(shard, "k"), "v", 0).Err())
		}
		_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, cluster.Key(0, "k")); return nil })
		require.NoError(t, err)
		require.NoError(t, c.Watch(ctx, func(tx *redis.Tx) error { return tx.Get(ctx, cluster.Key(0, "k")).Err() }, cluster.Key(0, "k")))
	}
	var want, got [2]tracing
	bare := redis.NewClusterClient(cluster.Options())
	defer bare.Close()
	require.NoError(t, instrument(&want[0], &want[1])(bare))
	run(bare)
	c := clusterClient(t, cluster.Options())
	require.NoError(t, c.Instrument(instrument(&got[0], &got[1])))
	run(c)
	for i, of := range []string{"calls", "nodes"} {
		wants, _ := want[i].calls()
		seen, errs := got[i].calls()
		for i := 0; i < len(seen); i++ { // of each new connection, on a node
			if seen[i] == "ping " || seen[i] == "cluster slots" || seen[i] == "command" {
				seen = append(seen[:i], seen[i+1:]...)
				i--
			}
		}
		for i := 0; i < len(wants); i++ {
			if wants[i] == "cluster slots" || wants[i] == "command" {
				wants = append(wants[:i], wants[i+1:]...)
				i--
			}
		}
		require.Equal(t, wants, seen, of)
		for _, err := range errs {
			require.NoError(t, err)
		}
	}
	lease, err := c.Acquire(ctx, cluster.Key(0, "k"))
	require.NoError(t, err)
	require.NoError(t, lease.Get(ctx, cluster.Key(0, "k")).Err())
	lease.Release()
	seen, _ := got[0].calls()
	require.Equal(t, []string{"get " + cluster.Key(0, "k")}, seen, "a lease's command is a call of the client")
}

func TestAnInstrumentOfARingSeesCallsAndTheShardsThatCome(t *testing.T) {
	r, _ := ringOfTwo(t)
	calls, nodes := &tracing{}, &tracing{}
	require.NoError(t, r.Instrument(func(target *redis.Ring) error {
		target.AddHook(calls)
		target.OnNewNode(func(node *redis.Client) { node.AddHook(nodes) })
		return nil
	}))
	require.NoError(t, r.Set(t.Context(), "k", "v", 0).Err())
	lines, _ := calls.calls()
	require.Equal(t, []string{"set k v"}, lines)
	lines, _ = nodes.calls()
	require.Empty(t, lines, "as in go-redis: the shards were there before")
	r.SetAddrs(map[string]string{"c": redistest.Start(t).Addr()})
	require.NoError(t, r.Set(t.Context(), "k", "v", 0).Err())
	lines, _ = nodes.calls()
	require.Contains(t, lines, "set k v")
}
