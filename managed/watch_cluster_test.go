package managed_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// movingSlot has a cluster with a slot on its way from one node to another, of which
// key is not there yet. done ends the move.
func movingSlot(t *testing.T) (opt *redis.ClusterOptions, key string, done func()) {
	cluster := redistest.StartCluster(t, "redis-server", 3, 0)
	ctx := t.Context()
	key = cluster.Key(0, "k")
	from, to := cluster.Master(0).Admin(), cluster.Master(1).Admin()
	slot := must(from.ClusterKeySlot(ctx, key).Result())
	id := func(c *redis.Client) any { return must(c.Do(ctx, "cluster", "myid").Result()) }
	fromID, toID := id(from), id(to)
	require.NoError(t, to.Do(ctx, "cluster", "setslot", slot, "importing", fromID).Err())
	require.NoError(t, from.Do(ctx, "cluster", "setslot", slot, "migrating", toID).Err())
	return cluster.Options(), key, func() {
		for _, n := range []*redis.Client{to, from} {
			assert.NoError(t, n.Do(context.Background(), "cluster", "setslot", slot, "node", toID).Err())
		}
	}
}

func TestContractAWatchThatIsSentFromNodeToNodeReturnsNilWithoutRunning(t *testing.T) {
	opt, key, _ := movingSlot(t)
	c := redis.NewClusterClient(opt)
	defer c.Close()
	ran := false
	err := c.Watch(t.Context(), func(*redis.Tx) error { ran = true; return nil }, key)
	require.False(t, err != nil || ran, "go-redis now runs the function of a WATCH whose slot is moving, or returns an error (%v, ran %v): remove errSentRound", err, ran)
}

func TestAWatchWhoseSlotIsMovingWaitsForItOrFails(t *testing.T) {
	opt, key, done := movingSlot(t)
	c := clusterClient(t, opt)
	watch := func(ctx context.Context) error {
		return c.Watch(ctx, func(tx *redis.Tx) error {
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, key); return nil })
			return err
		}, key)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := watch(ctx)
	require.Error(t, err, "nothing was carried out")
	require.NotErrorIs(t, err, retry.ErrUnknownOutcome)
	stop := time.AfterFunc(100*time.Millisecond, done)
	defer stop.Stop()
	require.NoError(t, watch(t.Context()))
	require.Equal(t, "1", c.Get(t.Context(), key).Val())
}
