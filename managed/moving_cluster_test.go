package managed_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// migrated is a cluster of one shard, which owner serves.
type migrated struct {
	*maintained
	owner atomic.Pointer[notifier]
}

func (m *migrated) slots(context.Context) ([]redis.ClusterSlot, error) {
	return []redis.ClusterSlot{{End: 16383, Nodes: []redis.ClusterNode{{Addr: m.owner.Load().addr()}}}}, nil
}

// clusterBesideBare runs f with a bare cluster client, where c is nil, and with a managed one.
func clusterBesideBare(t *testing.T, poolSize int, readTimeout time.Duration, f func(t *testing.T, m *migrated, rdb redis.UniversalClient, c *managed.ClusterClient)) {
	s := redistest.Start(t)
	start := func(t *testing.T) (*migrated, *redis.ClusterOptions) {
		m := &migrated{maintained: startMaintained(t, s)}
		m.owner.Store(m.old)
		return m, &redis.ClusterOptions{ClusterSlots: m.slots, ReadTimeout: readTimeout, PoolSize: poolSize,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeEnabled}}
	}
	t.Run("bare", func(t *testing.T) {
		m, opt := start(t)
		rdb := redis.NewClusterClient(opt)
		t.Cleanup(func() { _ = rdb.Close() })
		f(t, m, rdb, nil)
	})
	t.Run("managed", func(t *testing.T) {
		m, opt := start(t)
		c := managed.NewClusterClient(opt, managed.WithLogger(quiet))
		t.Cleanup(func() { _ = c.Close() })
		f(t, m, c, c)
	})
}

func TestAClusterFollowsSlotsThatHaveMigrated(t *testing.T) {
	clusterBesideBare(t, 0, 0, func(t *testing.T, m *migrated, rdb redis.UniversalClient, c *managed.ClusterClient) {
		stop := traffic(t, rdb)
		redistest.Eventually(t, "traffic on both pools", soon, func() bool { return m.old.asked() >= 2 })
		m.owner.Store(m.next)
		require.NotZero(t, m.old.push("SMIGRATED", 2, []string{m.old.addr(), m.next.addr(), "0-16383"}))
		redistest.Eventually(t, "traffic on both pools of the new owner", soon, func() bool { return m.next.asked() >= 2 })
		answered := stop()
		require.EqualValues(t, answered, m.count(t), "each call was carried out once")
		if c != nil {
			redistest.Eventually(t, "the books have all that is open", soon, func() bool { return len(c.Conns()) == m.open() })
			require.Empty(t, c.CloseReasons())
		}
	})
}

func TestReadsMayTakeLongerWhileSlotsMigrate(t *testing.T) {
	clusterBesideBare(t, 1, 400*time.Millisecond, func(t *testing.T, m *migrated, rdb redis.UniversalClient, _ *managed.ClusterClient) {
		ctx := t.Context()
		require.NoError(t, rdb.Incr(ctx, "counter").Err())
		require.Equal(t, 1, m.old.push("SMIGRATING", 1, "0-16383"))
		require.NoError(t, rdb.Incr(ctx, "counter").Err())
		m.Pause()
		defer time.AfterFunc(700*time.Millisecond, m.Resume).Stop()
		require.NoError(t, rdb.Incr(ctx, "counter").Err())
		require.EqualValues(t, 3, m.count(t))
		require.Equal(t, 1, m.old.told(), "its connection is kept")
	})
}
