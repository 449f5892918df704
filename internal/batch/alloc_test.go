//go:build !race

package batch_test

import (
	"runtime"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/batch"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestABatchedCommandAllocatesLessThanABareOne(t *testing.T) {
	opt := redistest.Options(t)
	bare, c := redis.NewClient(opt), client(t, opt)
	defer bare.Close()
	a := c.Adaptive(always)
	key := t.Name()
	require.NoError(t, bare.Set(t.Context(), key, "v", 0).Err())
	defer bare.Del(t.Context(), key)
	measure := func(c redis.Cmdable) float64 {
		const callers, calls = 64, 200
		var wg sync.WaitGroup
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range callers {
			wg.Go(func() {
				for range calls {
					c.Get(t.Context(), key)
				}
			})
		}
		wg.Wait()
		runtime.ReadMemStats(&after)
		return float64(after.Mallocs-before.Mallocs) / (callers * calls)
	}
	measure(bare)
	measure(a)
	b, m := measure(bare), measure(a)
	t.Logf("bare %.2f, batched %.2f", b, m)
	require.Less(t, m, b-1)
}

func BenchmarkPick(b *testing.B) {
	opt := redistest.Options(b)
	a := client(b, opt).Adaptive()
	b.Run("few in flight", func(b *testing.B) {
		for b.Loop() {
			batch.ProbeOf(a).Pick()
			batch.ProbeOf(a).Finish()
		}
	})
	b.Run("many in flight", func(b *testing.B) {
		for range 8 {
			batch.ProbeOf(a).Pick()
		}
		for b.Loop() {
			batch.ProbeOf(a).Pick()
			batch.ProbeOf(a).Finish()
		}
	})
}
