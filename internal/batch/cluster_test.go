package batch_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

func TestInAClusterEveryCallerGetsItsOwnReply(t *testing.T) {
	cluster := redistest.StartCluster(t, "redis-server", 3, 0)
	c := clusterClient(t, cluster.Options())
	w := &ways{}
	c.ClusterClient.AddHook(w)
	callers(t, c.Adaptive(always), w)
}

func TestInAClusterCommandsOfSeveralKeysAreDirect(t *testing.T) {
	cluster := redistest.StartCluster(t, "redis-server", 3, 0)
	c := clusterClient(t, cluster.Options())
	w := &ways{}
	c.ClusterClient.AddHook(w)
	a := c.Adaptive(always)
	ctx := t.Context()
	require.NoError(t, a.Set(ctx, "{k}1", "1", 0).Err())
	require.NoError(t, a.Set(ctx, "{k}2", "2", 0).Err())
	require.EqualValues(t, 2, w.batches.Load())
	require.Equal(t, []any{"1", "2"}, must(a.MGet(ctx, "{k}1", "{k}2").Result()))
	require.EqualValues(t, 2, must(a.Del(ctx, "{k}1", "{k}2").Result()))
	require.NoError(t, a.Publish(ctx, "channel", "x").Err())
	require.EqualValues(t, 2, w.batches.Load())
	require.NoError(t, a.Close())
	require.ErrorIs(t, a.Get(ctx, "k").Err(), redis.ErrClosed)
}

// A caller gives up while go-redis pauses before it follows a MOVED. It then gives the error
// of the batch's ctx to all commands, also to those that were answered.
func TestInAClusterACallerWhoGivesUpHasNoAnsweredCommandOfItsBatchSentAgain(t *testing.T) {
	cluster := redistest.StartCluster(t, "redis-server", 3, 0)
	first, second := cluster.Master(0), cluster.Master(1)
	opt := cluster.Options()
	opt.MinRetryBackoff, opt.MaxRetryBackoff = time.Second, time.Second
	opt.ClusterSlots = func(context.Context) ([]redis.ClusterSlot, error) { // which is wrong for the second key
		return []redis.ClusterSlot{{Start: 0, End: 16383, Nodes: []redis.ClusterNode{{Addr: first.Addr()}}}}, nil
	}
	c := clusterClient(t, opt)
	a := c.Adaptive(always, managed.WithBatchDelay(50*time.Millisecond))
	answered, moved := cluster.Key(0, "answered"), cluster.Key(1, "moved")
	require.NoError(t, c.Set(t.Context(), cluster.Key(0, "connected"), 1, 0).Err())
	short, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	var err error
	all.Go(func() { err = a.Incr(context.Background(), answered).Err() })
	all.Go(func() { _ = a.Incr(short, moved).Err() })
	redistest.Eventually(t, "the first is executed", soon, func() bool { return first.Admin().Exists(t.Context(), answered).Val() == 1 })
	cancel()
	all.Wait()
	require.Equal(t, "1", first.Admin().Get(t.Context(), answered).Val(), "executed once")
	if err != nil {
		require.ErrorIs(t, err, retry.ErrUnknownOutcome)
	}
	require.Equal(t, redis.Nil, second.Admin().Get(t.Context(), moved).Err())
}

func TestInAClusterUnderKillsNothingIsCarriedOutTwiceOrLostInSilence(t *testing.T) {
	cluster := redistest.StartCluster(t, "redis-server", 3, 0)
	policy := retry.Default()
	policy.Budget = retry.NewBudget(1, 1000)
	c := clusterClient(t, cluster.Options(), managed.WithRetry(policy))
	a := c.Adaptive(always)
	ap, err := c.Batched()
	require.NoError(t, err)
	ctx := t.Context()
	require.NoError(t, c.Ping(ctx).Err())
	via := func(caller int) redis.Cmdable {
		if caller%2 == 0 {
			return ap
		}
		return a
	}
	outcome := incrUnderKills(t, time.Second, 10*time.Millisecond, via, cluster.Nodes()...)
	judge := redis.NewClusterClient(cluster.Options())
	defer judge.Close()
	unknown := checkOutcomes(t, judge, outcome)
	t.Logf("%d INCRs, %d unknown outcomes", len(outcome), unknown)
	require.NotZero(t, unknown, "kills met batches")
}
