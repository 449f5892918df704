package redistest_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

var programs = []string{"redis-server", "valkey-server"}

func TestAClusterServesFailsOverAndSurvivesALostMaster(t *testing.T) {
	t.Parallel()
	for _, program := range programs {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			c := redistest.StartCluster(t, program, 3, 1)
			t.Logf("6 nodes after %v", time.Since(began))
			require.Len(t, c.Addrs(), 6)

			rdb := redis.NewClusterClient(c.Options())
			defer rdb.Close()
			for shard := range 3 {
				key := c.Key(shard, "k")
				require.NoError(t, rdb.Set(ctx, key, "v", 0).Err())
				assert.Equal(t, c.Nodes()[shard], c.Master(shard))
				assert.Equal(t, "v", c.Master(shard).Admin().Get(ctx, key).Val())
				assert.Len(t, c.Replicas(shard), 1)
			}

			began = time.Now()
			replica := c.Replicas(1)[0]
			assert.Equal(t, replica, c.Failover(1))
			assert.Equal(t, []*redistest.Server{c.Nodes()[1]}, c.Replicas(1))
			t.Logf("failover in good order took %v", time.Since(began))

			began = time.Now()
			lost := c.Master(2)
			lost.Kill()
			next := c.NextMaster(2, lost)
			t.Logf("a lost master was replaced after %v", time.Since(began))
			c.Settle()
			require.Empty(t, c.Replicas(2))
			lost.Restart()
			c.Settle()
			require.Equal(t, []*redistest.Server{lost}, c.Replicas(2))
			require.Equal(t, next, c.Master(2))
			assert.NoError(t, rdb.Set(ctx, c.Key(0, "after"), "v", 0).Err())
		})
	}
}

func TestAClusterWithoutReplicasNeedsNone(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, "redis-server", 2, 0)
	assert.Empty(t, c.Replicas(0))
	assert.Equal(t, 0, c.Shard(0))
	assert.Equal(t, 0, c.Shard(8191))
	assert.Equal(t, 1, c.Shard(8192))
	assert.Equal(t, -1, c.Shard(16384))
}
