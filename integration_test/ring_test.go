package integration_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// ringOf starts n servers and gives options for a ring of them.
func ringOf(t *testing.T, program string, n int) ([]*redistest.Server, *redis.RingOptions) {
	opt := &redis.RingOptions{Addrs: map[string]string{}}
	var servers []*redistest.Server
	for i := range n {
		s := redistest.Start
		if program == "valkey-server" {
			s = redistest.StartValkey
		}
		servers = append(servers, s(t, "--appendonly", "yes", "--appendfsync", "no"))
		opt.Addrs[fmt.Sprint("shard", i)] = servers[i].Addr()
	}
	return servers, opt
}

func guardedRing(t testing.TB, opt *redis.RingOptions, opts ...managed.Option) *managed.Ring {
	t.Helper()
	r, err := managed.NewRingClient(opt, append([]managed.Option{managed.WithLogger(discard)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// keyOn is a prefix of keys that a ring puts on the server.
func keyOn(t testing.TB, r *managed.Ring, s *redistest.Server) string {
	t.Helper()
	for i := range 1000 {
		key := fmt.Sprintf("{%d}", i)
		if shard, err := r.GetShardClientForKey(key); err == nil && shard.Options().Addr == s.Addr() {
			return key
		}
	}
	t.Fatalf("no key for %s", s.Addr())
	return ""
}

func TestARingKeepsItsPromises(t *testing.T) {
	eachProgram(t, func(t *testing.T, program string) {
		servers, opt := ringOf(t, program, 3)
		before := fmt.Sprintf("%+v", *opt)
		rdb := guardedRing(t, opt)
		ctx := upTo(t, 60*time.Second)
		var prefixes []string
		for _, s := range servers {
			key := keyOn(t, rdb, s)
			prefixes = append(prefixes, key)
			conn, err := rdb.Acquire(ctx, key)
			if err != nil {
				t.Fatal(err)
			}
			if l := rdb.Leases(); len(l) != 1 || l[0].Conn.Node != s.Addr() {
				t.Errorf("leases: %v", l)
			}
			conn.Release()
			if conn, err = rdb.TryAcquire(ctx, key); err != nil {
				t.Fatal(err)
			}
			conn.Release()
			if conn, err = rdb.AcquireNode(ctx, s.Addr()); err != nil {
				t.Fatal(err)
			}
			conn.Release()
			if err := rdb.AcquireFunc(ctx, key, func(conn *managed.Conn) error { return conn.Set(ctx, key, "v", 0).Err() }); err != nil {
				t.Fatal(err)
			}
		}
		if after := fmt.Sprintf("%+v", *opt); after != before {
			t.Errorf("the options were changed:\n%s\n%s", before, after)
		}
		if n, err := rdb.Warm(ctx, 4); n != 12 || err != nil {
			t.Errorf("Warm: %d, %v", n, err)
		}
		if n := rdb.EvictIdle(ctx); n < 12 {
			t.Errorf("EvictIdle ended %d", n)
		}
		if _, err := rdb.Warm(ctx, 4); err != nil {
			t.Error(err)
		}
		rdb.SetMaxAge(200 * time.Millisecond)
		redistest.Eventually(t, "all end by age but what go-redis's own health check uses", 5*time.Second, func() bool {
			return rdb.CloseReasons()[hooks.ReasonAge] >= 12
		})
		rdb.SetMaxAge(0)

		// Chaos.
		work := startLoad(t, rdb, false, 4, prefixes...)
		kills := 0
		for end := time.Now().Add(lasting(1500*time.Millisecond, 5*time.Second)); time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
			for _, s := range servers {
				kills += s.KillClients(t)
			}
		}
		work.end()
		work.safe.none(t, "SET and GET", work.calls.Load())
		t.Log(kills, "connections killed;", work.twice(rdb))

		// One of them goes down and comes back.
		work = startLoad(t, rdb, true, 4, prefixes[0]+"b:", prefixes[1]+"b:") // lossy: a ring moves the keys of a shard that is down
		down := startLoad(t, rdb, true, 2, prefixes[2]+"b:")
		time.Sleep(200 * time.Millisecond)
		servers[2].Kill()
		time.Sleep(1500 * time.Millisecond)
		servers[2].Restart()
		at := time.Now()
		down.mark(at)
		_, last := down.recovered(2, 10*time.Second)
		t.Logf("callers of the lost shard had a success %v after its return", last.Round(time.Millisecond))
		work.end()
		down.end()
		work.safe.none(t, "SET and GET on the other shards", work.calls.Load())
		down.safe.none(t, "SET and GET on the lost shard", down.calls.Load())
		t.Log("others: ", work.twice(rdb))
		redistest.Eventually(t, "the ring counts the shard again", 10*time.Second, func() bool { return rdb.Len() == 3 })
		t.Log("lost shard: ", down.twice(rdb))
		if err := rdb.CloseGracefully(ctx); err != nil {
			t.Error(err)
		}
		if err := rdb.Get(ctx, "k").Err(); !errors.Is(err, redis.ErrClosed) {
			t.Errorf("after CloseGracefully: %v", err)
		}
		redistest.Eventually(t, "nothing is left", 5*time.Second, func() bool { return normals(t, servers...) == 0 && len(rdb.Conns()) == 0 })
	})
}

func TestNodesComeAndGoInARing(t *testing.T) {
	t.Parallel()
	servers, opt := ringOf(t, "redis-server", 3)
	all := opt.Addrs
	opt.Addrs = map[string]string{"shard0": all["shard0"], "shard1": all["shard1"]}
	rdb := guardedRing(t, opt, managed.WithBlockingPool(1))
	ctx := context.Background()
	rdb.SetAddrs(all)
	key := keyOn(t, rdb, servers[2])
	if err := rdb.Set(ctx, key, "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := rdb.BLPop(ctx, 10*time.Millisecond, key+"none").Err(); err != redis.Nil {
		t.Fatal(err)
	}
	// Maintenance may just be asking the new shard something on a connection of its own.
	redistest.Eventually(t, "the new shard sees the connections that are tracked", 5*time.Second, func() bool {
		tracked := 0
		for _, i := range rdb.Conns() {
			if i.Node == servers[2].Addr() {
				tracked++
			}
		}
		seen := normals(t, servers[2])
		return seen == tracked && seen > 0
	})
	rdb.SetAddrs(map[string]string{"shard0": all["shard0"], "shard1": all["shard1"]})
	redistest.Eventually(t, "a shard that left has taken its connections with it, those of its blocking pool too", 15*time.Second, func() bool {
		_ = rdb.Set(ctx, keyOn(t, rdb, servers[0]), "v", 0)
		time.Sleep(20 * time.Millisecond)
		return normals(t, servers[2]) == 0
	})
	redistest.Eventually(t, "and is known no more", 15*time.Second, func() bool {
		_ = rdb.Set(ctx, keyOn(t, rdb, servers[0]), "v", 0)
		time.Sleep(20 * time.Millisecond)
		_, err := rdb.AcquireNode(ctx, servers[2].Addr())
		return err != nil
	})
}
