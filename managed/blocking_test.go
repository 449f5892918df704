package managed_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// With a main pool of one connection, two blocking commands and others can only run at the same time
// if the blocking ones have a pool of their own. Sentinel clients have the same test in
// integration_test.
func TestABlockingPoolWorksForEachConstructorAndItsClones(t *testing.T) {
	s := redistest.Start(t)
	cluster := redistest.StartOneNodeCluster(t)
	opts := []managed.Option{managed.WithBlockingPool(2), managed.WithLogger(quiet)}
	one := sized(s, 1, soon)
	several := &redis.ClusterOptions{Addrs: []string{cluster.Addr()}, PoolSize: 1}
	shared, err := managed.Shared(fmt.Sprintf("redis://%s/0?pool_size=1", s.Addr()), opts...)
	require.NoError(t, err)
	c := managed.NewClient(one, opts...)
	clients := map[string]redis.UniversalClient{
		"client":          c,
		"its clone":       c.WithTimeout(time.Minute),
		"cluster":         managed.NewClusterClient(several, opts...),
		"ring":            managed.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": s.Addr()}, PoolSize: 1}, opts...),
		"universal":       managed.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{s.Addr()}, PoolSize: 1}, opts...),
		"universal, many": managed.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{cluster.Addr()}, IsClusterMode: true, PoolSize: 1}, opts...),
		"shared":          shared,
		"a clone of it":   shared.WithTimeout(time.Minute),
	}
	for name, rdb := range clients {
		t.Run(name, func(t *testing.T) {
			ctx := deadline(t, soon)
			popped := make(chan error, 2)
			for range 2 {
				go func() { popped <- rdb.BLPop(ctx, soon, "list").Err() }()
			}
			blocked := func() int {
				srv := s
				if _, many := rdb.(*managed.ClusterClient); many {
					srv = cluster
				}
				n := 0
				for _, i := range srv.ClientList(t) {
					if i.Flags == "b" {
						n++
					}
				}
				return n
			}
			redistest.Eventually(t, "both wait", soon, func() bool { return blocked() == 2 })
			require.NoError(t, rdb.RPush(ctx, "list", "a", "b").Err())
			for range 2 {
				require.NoError(t, <-popped)
			}
		})
	}
	for _, name := range []string{"client", "cluster", "ring", "universal", "universal, many", "shared"} {
		require.NoError(t, clients[name].Close())
	}
}
