package managed_test

import (
	"context"
	"testing"
	"time"
	"fmt"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func TestMain(m *testing.M) { redistest.Main(m) }

func TestSmoke(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 2
	opt.PoolTimeout = 200*time.Millisecond
	c := managed.NewClient(opt, managed.WithEventHandler(func(e hooks.Event) { fmt.Println(e) }))
	ctx := context.Background()
	fmt.Println(c.Set(ctx, "a", "b", 0).Err(), c.Get(ctx, "a"))
	conn, err := c.Acquire(ctx)
	fmt.Println(err, conn.Info())
	fmt.Println(conn.Get(ctx, "a"))
	conn2, err := c.TryAcquire(ctx)
	fmt.Println(err, conn2.Info())
	_, err = c.TryAcquire(ctx)
	fmt.Println(err)
	fmt.Println(c.Get(ctx, "a").Err())
	_, err = c.Acquire(conn.Context())
	fmt.Println(err)
	conn.Do(ctx, "MULTI")
	conn.Release()
	conn.Release()
	fmt.Println(conn.Get(ctx, "a").Err())
	conn2.Discard()
	for _, i := range c.Conns() { fmt.Println(i) }
	p := c.Pipeline()
	p.Get(ctx, "a")
	p.Exec(ctx)
	ctx2, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	conn, _ = c.Acquire(ctx)
	t0 := time.Now()
	fmt.Println(conn.BLPop(ctx2, 0, "nolist").Err(), time.Since(t0))
	conn.Release()
	for _, i := range c.Conns() { fmt.Println(i) }
	fmt.Printf("%+v\n", c.PoolStats())
	c.Close()
}

func BenchmarkAcquire(b *testing.B) {
	opt := redistest.Options(b)
	ctx := context.Background()
	b.Run("bare", func(b *testing.B) {
		c := redis.NewClient(opt)
		defer c.Close()
		c.Ping(ctx)
		b.ReportAllocs()
		for b.Loop() { conn := c.Conn(); conn.Close() }
	})
	b.Run("managed", func(b *testing.B) {
		c := managed.NewClient(opt)
		defer c.Close()
		c.Ping(ctx)
		b.ReportAllocs()
		for b.Loop() { conn, err := c.Acquire(ctx); if err != nil { b.Fatal(err) }; conn.Release() }
	})
}

func BenchmarkGet(b *testing.B) {
	opt := redistest.Options(b)
	ctx := context.Background()
	bare := redis.NewClient(opt)
	defer bare.Close()
	c := managed.NewClient(opt)
	defer c.Close()
	bare.Set(ctx, "bench", "0123456789012345678901234567890123456789012345678901234567890123", 0)
	for _, n := range []int{1, 8, 64, 256} {
		run := func(b *testing.B, c redis.UniversalClient) {
			b.ReportAllocs()
			var wg sync.WaitGroup
			per := b.N/n + 1
			for range n { wg.Go(func() { for range per { if err := c.Get(ctx, "bench").Err(); err != nil { panic(err) } } }) }
			wg.Wait()
		}
		b.Run(fmt.Sprint("bare-", n), func(b *testing.B) { run(b, bare) })
		b.Run(fmt.Sprint("managed-", n), func(b *testing.B) { run(b, c) })
	}
}
