package integration_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// constructors makes a client of options in both forms.
type constructors struct {
	err    func(bad bool, opts ...managed.Option) (redis.UniversalClient, error) // the form with an error
	panics func(bad bool, opts ...managed.Option) redis.UniversalClient
	null   func() error // nil options
}

func uni[T redis.UniversalClient](c T, err error) (redis.UniversalClient, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

func size(bad bool) int {
	if bad {
		return -7
	}
	return 3
}

func TestConstructorsRefuseBadOptionsByNameAndHaveAPanickingForm(t *testing.T) {
	cluster := func(bad bool) *redis.ClusterOptions {
		return &redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, MinIdleConns: size(bad)}
	}
	sentinels := func(bad bool) *redis.FailoverOptions {
		return &redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{"127.0.0.1:1"}, PoolSize: size(bad)}
	}
	ring := func(bad bool) *redis.RingOptions {
		return &redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}, PoolSize: size(bad)}
	}
	universal := func(bad bool) *redis.UniversalOptions {
		return &redis.UniversalOptions{Addrs: []string{"127.0.0.1:1", "127.0.0.1:2"}, PoolSize: size(bad)}
	}
	for name, c := range map[string]constructors{
		"NewCluster": {
			func(b bool, o ...managed.Option) (redis.UniversalClient, error) {
				return uni(managed.NewCluster(cluster(b), o...))
			},
			func(b bool, o ...managed.Option) redis.UniversalClient {
				return managed.NewClusterClient(cluster(b), o...)
			},
			func() error { _, err := managed.NewCluster(nil); return err }},
		"NewFailover": {
			func(b bool, o ...managed.Option) (redis.UniversalClient, error) {
				return uni(managed.NewFailover(sentinels(b), o...))
			},
			func(b bool, o ...managed.Option) redis.UniversalClient {
				return managed.NewFailoverClient(sentinels(b), o...)
			},
			func() error { _, err := managed.NewFailover(nil); return err }},
		"NewFailoverCluster": {
			func(b bool, o ...managed.Option) (redis.UniversalClient, error) {
				return uni(managed.NewFailoverCluster(sentinels(b), o...))
			},
			func(b bool, o ...managed.Option) redis.UniversalClient {
				return managed.NewFailoverClusterClient(sentinels(b), o...)
			},
			func() error { _, err := managed.NewFailoverCluster(nil); return err }},
		"NewRingClient": {
			func(b bool, o ...managed.Option) (redis.UniversalClient, error) {
				return uni(managed.NewRingClient(ring(b), o...))
			},
			func(b bool, o ...managed.Option) redis.UniversalClient { return managed.NewRing(ring(b), o...) },
			func() error { _, err := managed.NewRingClient(nil); return err }},
		"NewUniversal": {
			func(b bool, o ...managed.Option) (redis.UniversalClient, error) {
				return uni(managed.NewUniversal(universal(b), o...))
			},
			func(b bool, o ...managed.Option) redis.UniversalClient {
				return managed.NewUniversalClient(universal(b), o...)
			},
			func() error { _, err := managed.NewUniversal(nil); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.null(); err == nil || !strings.Contains(err.Error(), "nil") {
				t.Errorf("nil options: %v", err)
			}
			if got, err := c.err(true); err == nil || !strings.Contains(err.Error(), "-7") || got != nil {
				t.Errorf("a bad option: %v, %v", got, err)
			}
			if _, err := c.err(false, managed.WithConnLimit(-1)); err == nil || !strings.Contains(err.Error(), "WithConnLimit(-1)") {
				t.Errorf("a bad option of ours: %v", err)
			}
			if _, err := c.err(false, nil); err == nil {
				t.Error("a nil Option was taken")
			}
			got, err := c.err(false)
			if err != nil {
				t.Fatal(err)
			}
			_ = got.Close()
			_ = c.panics(false).Close()
			defer func() {
				if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "-7") {
					t.Errorf("the panicking form: %v", p)
				}
			}()
			c.panics(true)
		})
	}
	if _, err := managed.NewFailover(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{"127.0.0.1:1"}, RouteRandomly: true}); err == nil {
		t.Error("NewFailover took RouteRandomly, at which go-redis panics")
	}
}

func TestNewUniversalChoosesAsGoRedisDoes(t *testing.T) {
	one, two := []string{"127.0.0.1:1"}, []string{"127.0.0.1:1", "127.0.0.1:2"}
	for _, x := range []struct {
		opt  redis.UniversalOptions
		want string
	}{
		{redis.UniversalOptions{Addrs: one}, "*managed.Client"},
		{redis.UniversalOptions{}, "*managed.Client"},
		{redis.UniversalOptions{Addrs: two}, "*managed.ClusterClient"},
		{redis.UniversalOptions{Addrs: one, IsClusterMode: true}, "*managed.ClusterClient"},
		{redis.UniversalOptions{Addrs: two, MasterName: "m"}, "*managed.Client"},
		{redis.UniversalOptions{Addrs: two, MasterName: "m", IsClusterMode: true}, "*managed.ClusterClient"},
		{redis.UniversalOptions{Addrs: two, MasterName: "m", RouteRandomly: true}, "*managed.ClusterClient"},
		{redis.UniversalOptions{Addrs: two, MasterName: "m", RouteByLatency: true}, "*managed.ClusterClient"},
	} {
		bare := redis.NewUniversalClient(&x.opt)
		got := managed.NewUniversalClient(&x.opt, managed.WithLogger(discard))
		if fmt.Sprintf("%T", got) != x.want || strings.TrimPrefix(fmt.Sprintf("%T", bare), "*redis.") != strings.TrimPrefix(x.want, "*managed.") {
			t.Errorf("%+v: %T, go-redis makes %T", x.opt, got, bare)
		}
		if _, err := got.Warm(context.Background(), -1); err == nil {
			t.Errorf("%T: Warm(-1) gave no error", got)
		}
		_, _ = bare.Close(), got.Close()
	}
}

// sentinelGoroutines are those of go-redis that belong to Sentinels.
func sentinelGoroutines() int {
	buf := make([]byte, 4<<20)
	n := 0
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "sentinelFailover") || strings.Contains(g, "(*channel).init") {
			n++
		}
	}
	return n
}

// go-redis's failover cluster client leaves its subscription to a Sentinel
// behind, with three goroutines (https://github.com/redis/go-redis/issues/3999).
func TestAFailoverClusterClientLeavesNoGoroutineBehind(t *testing.T) {
	set := redistest.StartSentinel(t, "redis-server")
	before := sentinelGoroutines()
	for range 3 {
		rdb := sentinelClients["FailoverClusterClient"](t, set.Options())
		if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if sentinelGoroutines() <= before {
			t.Error("the goroutines that are looked for are not there while the client is open")
		}
		if err := rdb.Close(); err != nil {
			t.Fatal(err)
		}
	}
	redistest.Eventually(t, "no goroutine of a Sentinel's subscription is left", 10*time.Second, func() bool { return sentinelGoroutines() <= before })
	unused := sentinelClients["FailoverClusterClient"](t, set.Options())
	if err := unused.Close(); err != nil {
		t.Error(err)
	}
}

func TestARingOverTLSIsManaged(t *testing.T) {
	t.Parallel()
	s := redistest.StartTLS(t)
	rdb := guardedRing(t, &redis.RingOptions{Addrs: map[string]string{"one": s.Addr()}, TLSConfig: s.TLSConfig()})
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := rdb.Warm(t.Context(), 3); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	for _, i := range rdb.Conns() {
		if !i.TLS {
			t.Errorf("not TLS: %v", i)
		}
	}
	if n := rdb.EvictIdle(t.Context()); n < 3 {
		t.Errorf("EvictIdle ended %d", n)
	}
}

// A cluster that says CLUSTERDOWN to many callers is not asked for its slot map
// by each of them.
func TestReloadsOfTheSlotMapAreLimited(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, "redis-server", 3, 0)
	rdb := guardedCluster(t, c.Options())
	key := c.Key(0, "k")
	if err := rdb.Set(t.Context(), key, "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	c.Nodes()[2].Pause()
	redistest.Eventually(t, "the cluster is down", 10*time.Second, func() bool {
		return redis.IsClusterDownError(c.Nodes()[0].Admin().Set(context.Background(), key, "v", 0).Err())
	})
	asked := func() (n int) {
		for _, s := range c.Nodes()[:2] {
			for line := range strings.Lines(do(t, s, "INFO", "commandstats").(string)) {
				var calls int
				if _, err := fmt.Sscanf(line, "cmdstat_cluster|slots:calls=%d,", &calls); err == nil {
					n += calls
				}
			}
		}
		return n
	}
	before, begin := asked(), time.Now()
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for time.Since(begin) < 2*time.Second {
				ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
				if err := rdb.Set(ctx, key, "v", 0).Err(); err == nil {
					t.Error("a SET on a cluster that is down")
				}
				cancel()
			}
		})
	}
	wg.Wait()
	n, took := asked()-before, time.Since(begin)
	t.Logf("%d looks at the slot map in %v of CLUSTERDOWN for 32 callers", n, took.Round(time.Millisecond))
	if n == 0 || n > int(took/(50*time.Millisecond)) {
		t.Errorf("%d looks at the slot map in %v", n, took)
	}
	c.Nodes()[2].Resume()
	redistest.Eventually(t, "it is served again", 10*time.Second, func() bool { return rdb.Set(context.Background(), key, "v", 0).Err() == nil })
}

func TestWithBlockingPoolWorksForClientsOfSentinels(t *testing.T) {
	set := redistest.StartSentinel(t, "redis-server")
	opt := set.Options()
	opt.PoolSize, opt.ReadTimeout = 1, 5*time.Second
	log := managed.WithLogger(slog.New(slog.DiscardHandler))
	for name, rdb := range map[string]managed.UniversalClient{
		"failover":         managed.NewFailoverClient(opt, managed.WithBlockingPool(2), log),
		"failover cluster": managed.NewFailoverClusterClient(opt, managed.WithBlockingPool(2), log),
	} {
		ctx := upTo(t, 20*time.Second)
		popped := make(chan error, 2)
		for range 2 {
			go func() { popped <- rdb.BLPop(ctx, 10*time.Second, "list").Err() }()
		}
		redistest.Eventually(t, name+": both wait", 10*time.Second, func() bool {
			n := 0
			for _, i := range rdb.Conns() {
				if i.LastCommand == "blpop" {
					n++
				}
			}
			return n == 2
		})
		if err := rdb.RPush(ctx, "list", "a", "b").Err(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for range 2 {
			if err := <-popped; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := rdb.Close(); err != nil {
			t.Error(name, err)
		}
	}
}
