package bench_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// clusterLine compares Adaptive on a cluster of three masters with a bare ClusterClient, each call
// of n callers for another key.
func clusterLine(t *testing.T, n int) string {
	ctx := context.WithoutCancel(t.Context())
	opt := redistest.StartCluster(t, "redis-server", 3, 0).Options()
	one, other := redis.NewClusterClient(opt), redis.NewClusterClient(opt)
	man, err := managed.NewCluster(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _, _ = one.Close(), other.Close(), man.Close() }()
	keys := make([]string, 64)
	for i := range keys {
		keys[i] = fmt.Sprint("key ", i)
		if err := one.Set(ctx, keys[i], keys[i], time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
	}
	get := func(c redis.Cmdable) subject {
		return loops(t, n, func(g int) func() error {
			i := g
			return func() error {
				i++
				key := keys[i%len(keys)]
				got, err := c.Get(ctx, key).Result()
				if err == nil && got != key {
					err = errors.New("a wrong value came back")
				}
				return err
			}
		})
	}
	awaitSteadyState()
	rs := pair(get(one), get(man.Adaptive()), get(other))
	return fmt.Sprintf("| GET by Adaptive on a cluster of 3 masters, %s | %s | %s | %s | %s | %s |\n", goroutines(n),
		estimated(rs, throughput).ratio(), estimated(rs, noise).ratio(), estimated(rs, cpuTime).ratio(), estimated(rs, cpuNoise).ratio(), estimated(rs, moreAllocs).count())
}
