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

// Two of the three are the lease's hook of its Conn, two the lease and what its caller holds; one is
// saved when go-redis checks the socket. A ctx that can end costs five more: two to ask the pool
// whether the Acquire may have to dial, three to watch the ctx during the command.
func TestALeaseWithACommandMakesThreeAllocationsMoreThanABareConnAndEightIfItsCtxCanEnd(t *testing.T) {
	bare, c := twins(t)
	ends, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, x := range []struct {
		ctx  context.Context
		more float64
	}{{context.Background(), 3}, {ends, 8}} {
		require.NoError(t, c.Ping(x.ctx).Err())
		b := testing.AllocsPerRun(500, func() {
			conn := bare.Conn()
			_ = conn.Ping(x.ctx)
			_ = conn.Close()
		})
		m := testing.AllocsPerRun(500, func() {
			conn, err := c.Acquire(x.ctx)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Ping(x.ctx)
			conn.Release()
		})
		t.Logf("bare %v, managed %v", b, m)
		require.LessOrEqual(t, m, b+x.more)
	}
}
