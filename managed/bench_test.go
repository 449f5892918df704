package managed_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// twins are a bare and a managed client of the same options.
func twins(t testing.TB) (*redis.Client, *managed.Client) {
	t.Helper()
	opt := redistest.Options(t)
	bare := redis.NewClient(opt)
	t.Cleanup(func() { bare.Close() })
	return bare, client(t, opt)
}

// BenchmarkAcquire compares a lease of an idle connection with go-redis's
// Conn() and Close(), which take nothing.
func BenchmarkAcquire(b *testing.B) {
	bare, c := twins(b)
	ctx := context.Background()
	require.NoError(b, bare.Ping(ctx).Err())
	require.NoError(b, c.Ping(ctx).Err())
	lease := func(b *testing.B, c *managed.Client) {
		b.ReportAllocs()
		for b.Loop() {
			conn, err := c.Acquire(ctx)
			if err != nil {
				b.Fatal(err)
			}
			conn.Release()
		}
	}
	b.Run("bare", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = bare.Conn().Close()
		}
	})
	b.Run("managed", func(b *testing.B) { lease(b, c) })
	b.Run("managed, StackSite", func(b *testing.B) {
		c := client(b, redistest.Options(b), managed.WithLeaseStacks(managed.StackSite))
		require.NoError(b, c.Ping(ctx).Err())
		lease(b, c)
	})
}

// BenchmarkGet is a GET of 64 bytes by so many goroutines at once.
func BenchmarkGet(b *testing.B) {
	bare, c := twins(b)
	ctx := context.Background()
	key := redistest.UniqueKey(b, "k")
	require.NoError(b, bare.Set(ctx, key, strings.Repeat("x", 64), 0).Err())
	b.Cleanup(func() { bare.Del(ctx, key) })
	run := func(b *testing.B, c redis.Cmdable, goroutines int) {
		b.ReportAllocs()
		var wg sync.WaitGroup
		for g := range goroutines {
			n := b.N / goroutines
			if g < b.N%goroutines {
				n++
			}
			wg.Go(func() {
				for range n {
					if err := c.Get(ctx, key).Err(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	for _, n := range []int{1, 8, 64, 256} {
		b.Run(fmt.Sprintf("goroutines=%d/bare", n), func(b *testing.B) { run(b, bare, n) })
		b.Run(fmt.Sprintf("goroutines=%d/managed", n), func(b *testing.B) { run(b, c, n) })
	}
}
