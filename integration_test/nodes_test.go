package integration_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// A ClusterClient and a Ring of go-redis repeat by themselves, a cluster whatever
// its MaxRetries is. Managed ones repeat no write either, single or in a pipeline.
func TestOnClustersAndRingsNothingHappensTwiceWhileConnectionsAreKilled(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) ([]*redistest.Server, redis.UniversalClient){
		"cluster": func(t *testing.T) ([]*redistest.Server, redis.UniversalClient) {
			c := redistest.StartCluster(t, "redis-server", 3, 0)
			rdb, err := managed.NewCluster(c.Options(), managed.WithLogger(discard))
			if err != nil {
				t.Fatal(err)
			}
			return c.Nodes(), rdb
		},
		"ring": func(t *testing.T) ([]*redistest.Server, redis.UniversalClient) {
			a, b := redistest.Start(t), redistest.Start(t)
			rdb, err := managed.NewRingClient(&redis.RingOptions{Addrs: map[string]string{"a": a.Addr(), "b": b.Addr()}}, managed.WithLogger(discard))
			if err != nil {
				t.Fatal(err)
			}
			return []*redistest.Server{a, b}, rdb
		},
	} {
		t.Run(name, func(t *testing.T) {
			servers, rdb := start(t)
			defer rdb.Close()
			d := lasting(2*time.Second, 6*time.Second)
			ctx := upTo(t, d+40*time.Second)
			tags := tagsOf(ctx, t, servers, rdb)
			books := make([]*ledger, len(servers))
			for i := range books {
				books[i] = newLedger()
			}
			until := time.Now().Add(d)
			var safe few
			var reads atomic.Int64
			var wg sync.WaitGroup
			for g := range 24 {
				wg.Go(func() {
					at := g % len(servers)
					tag, book := tags[at], books[at]
					for i := 0; time.Now().Before(until); i++ {
						key := func(s string) string { return fmt.Sprintf("{%s}:%d:%d:%s", tag, g, i, s) }
						book.note(key("a"), rdb.Incr(ctx, key("a")).Err())
						safe.add(rdb.Set(ctx, key("set"), i, 0).Err())
						safe.add(rdb.Get(ctx, key("set")).Err())
						reads.Add(2)
						cmds, _ := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
							p.Incr(ctx, key("b"))
							p.Get(ctx, key("set"))
							p.Incr(ctx, key("c"))
							return nil
						})
						book.note(key("b"), cmds[0].Err())
						book.note(key("c"), cmds[2].Err())
						cmds, _ = rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, key("d")); return nil })
						book.note(key("d"), cmds[0].Err())
					}
				})
			}
			kills := 0
			everyTick(20*time.Millisecond, d, &wg, func() {
				for _, s := range servers {
					kills += s.KillClients(t)
				}
			})
			safe.none(t, "GET and SET", reads.Load())
			_ = rdb.Close()
			for i, s := range servers {
				v := books[i].reconcile(t, s)
				for key, err := range books[i].never {
					t.Logf("%s: %v", key, err)
					break
				}
				if v.calls == v.unknown+v.failed {
					t.Errorf("server %d: nothing succeeded", i)
				}
				t.Logf("server %d: %v", i, v)
			}
			t.Logf("%d connections killed; %d safe commands", kills, reads.Load())
		})
	}
}

// tagsOf finds a hash tag whose keys are on each of the servers.
func tagsOf(ctx context.Context, t *testing.T, servers []*redistest.Server, rdb redis.UniversalClient) []string {
	t.Helper()
	tags, left := make([]string, len(servers)), len(servers)
	for n := 0; left > 0; n++ {
		tag := fmt.Sprint("t", n)
		key := "{" + tag + "}"
		if err := rdb.Set(ctx, key, 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
		for i, s := range servers {
			if tags[i] == "" && s.Admin().Get(ctx, key).Err() == nil {
				tags[i], left = tag, left-1
			}
		}
	}
	return tags
}
