//go:build !race

package managed_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// The race detector allocates by itself, so these are not built with it.

func TestAManagedCommandAllocatesNoMoreThanABareOne(t *testing.T) {
	bare, c := twins(t)
	ctx := context.Background()
	require.NoError(t, bare.Set(ctx, t.Name(), "v", 0).Err())
	key := t.Name()
	for name, run := range map[string]func(c redis.Cmdable){
		"GET":  func(c redis.Cmdable) { c.Get(ctx, key) },
		"SET":  func(c redis.Cmdable) { c.Set(ctx, key, "v", 0) },
		"PING": func(c redis.Cmdable) { c.Ping(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			// Of several measurements the smallest: a background goroutine may add to
			// one, nothing takes away.
			least := func(c redis.Cmdable) float64 {
				n := testing.AllocsPerRun(200, func() { run(c) })
				for range 4 {
					n = min(n, testing.AllocsPerRun(200, func() { run(c) }))
				}
				return n
			}
			b, m := least(bare), least(c)
			t.Logf("bare %v, managed %v", b, m)
			require.LessOrEqual(t, m, b)
		})
	}
	require.NoError(t, bare.Del(ctx, t.Name()).Err())
}

// Of the hooks of a Conn 4 or 5, the lease and what its caller holds; one fewer for go-redis's
// look at the socket. The aim is 3, see docs/PERFORMANCE.md.
func TestALeaseWithACommandCostsAtMostSixAllocationsMoreThanABareConn(t *testing.T) {
	bare, c := twins(t)
	ctx := context.Background()
	require.NoError(t, c.Ping(ctx).Err())
	b := testing.AllocsPerRun(500, func() {
		conn := bare.Conn()
		_ = conn.Ping(ctx)
		_ = conn.Close()
	})
	m := testing.AllocsPerRun(500, func() {
		conn, err := c.Acquire(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Ping(ctx)
		conn.Release()
	})
	t.Logf("bare %v, managed %v", b, m)
	require.LessOrEqual(t, m, b+6)
}
