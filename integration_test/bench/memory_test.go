package bench_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// heapOfHeld returns the bytes of the heap that one held connection takes besides the connection
// itself: of a bare Conn, and of a lease.
func heapOfHeld(t *testing.T) (bare, lease float64) {
	ctx := context.WithoutCancel(t.Context())
	n := 16
	if *measure {
		n = 400
	}
	opt := redistest.Options(t)
	opt.PoolSize = n
	opt.ReadBufferSize, opt.WriteBufferSize = 4096, 4096
	each := func(hold func() (free func())) float64 {
		all := make([]func(), n)
		var before, after uint64
		for range 2 { // the first time opens the connections
			before = heap()
			for i := range all {
				all[i] = hold()
			}
			after = heap()
			for i, free := range all {
				free()
				all[i] = nil
			}
		}
		return float64(int64(after)-int64(before)) / float64(n)
	}
	fail := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	c := redis.NewClient(opt)
	defer c.Close()
	bare = each(func() func() {
		conn := c.Conn()
		fail(conn.Ping(ctx).Err())
		return func() { _ = conn.Close() }
	})
	m, err := managed.New(opt)
	fail(err)
	defer m.Close()
	lease = each(func() func() {
		conn, err := m.Acquire(ctx)
		fail(err)
		fail(conn.Ping(ctx).Err())
		return conn.Release
	})
	return bare, lease
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
