package browser_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
)

// TestLooks makes pictures of the page in every trouble and size, for somebody to look
// at, into the folder of -pictures.
func TestLooks(t *testing.T) {
	if *pictures == "" {
		return // it tests nothing
	}
	sizes := [][2]int64{{1440, 900}, {1024, 600}, {640, 480}, {390, 844}}
	look := func(p *tab, name string) {
		eval[bool](p, `(window.scrollTo(0, 0), true)`)
		for _, scheme := range []string{"dark", "light"} {
			p.scheme(scheme)
			for _, s := range sizes {
				p.save(fmt.Sprintf("%s-%s-%dx%d.png", name, scheme, s[0], s[1]), s[0], s[1], 1)
			}
		}
		p.scheme("dark")
		p.save(name+"-whole.png", 1440, 2000, 1)
		p.save(name+"-phone-whole.png", 390, 3400, 1)
		p.size(1440, 900, 1)
	}
	client := func(s *redistest.Server, size int, opts ...managed.Option) *managed.Client {
		opt := s.Options()
		opt.PoolSize, opt.PoolTimeout = size, 300*time.Millisecond
		rdb, err := managed.New(opt, append(opts, managed.WithLogger(slog.New(slog.DiscardHandler)), managed.WithLeakThreshold(2*time.Second),
			managed.WithMonitor(monitor.WithInterval(100*time.Millisecond), monitor.WithAlertHandler(func(monitor.Alert) {})))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = rdb.Close() })
		return rdb
	}
	work := func(rdb *managed.Client, n int) {
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				for ctx.Err() == nil {
					_ = rdb.Get(ctx, "cart").Err()
					time.Sleep(time.Duration(1+i) * time.Millisecond)
				}
			})
		}
		t.Cleanup(func() { cancel(); wg.Wait() })
	}

	t.Run("leak", func(t *testing.T) {
		rdb := client(redistest.Start(t), 24, managed.WithBlockingPool(4))
		work(rdb, 3)
		hold(t, rdb, 7, "export")
		for range 3 {
			hold(t, rdb, 1, "nightly report")
		}
		go func() { _ = rdb.BLPop(t.Context(), time.Minute, "queue").Err() }()
		p := open(t, page(t, rdb.PoolMonitor()), 1440, 900)
		p.wait(`document.getElementById('alerts').innerText.includes('Leases overdue')`)
		p.click("#panel-leases .group .link")
		look(p, "leak")
	})
	t.Run("exhausted", func(t *testing.T) {
		s := redistest.Start(t)
		rdb := client(s, 10)
		at := page(t, rdb.PoolMonitor()) // it records from now on
		work(rdb, 4)
		time.Sleep(4 * time.Second)
		s.KillClients(t)
		time.Sleep(4 * time.Second)
		hold(t, rdb, 10, "export")
		p := open(t, at, 1440, 900)
		p.wait(`document.getElementById('alerts').innerText.includes('Pool exhausted') && document.getElementById('alerts').innerText.includes('leak threshold')`)
		time.Sleep(5 * time.Second)
		look(p, "exhausted")
	})
	t.Run("thousand", func(t *testing.T) {
		m, err := monitor.New(many{1000})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		p := open(t, page(t, m), 1440, 900)
		p.press("3")
		p.wait(`document.querySelectorAll('#panel-conns tbody tr').length === 100`)
		look(p, "thousand")
	})
	t.Run("redis-gone", func(t *testing.T) {
		s := redistest.Start(t)
		rdb := client(s, 10)
		work(rdb, 4)
		p := open(t, page(t, rdb.PoolMonitor()), 1440, 900)
		time.Sleep(3 * time.Second)
		s.Kill()
		p.wait(`document.querySelector('#alerts .alert')`)
		time.Sleep(3 * time.Second)
		p.press("5")
		look(p, "redis-gone")
	})
	t.Run("page-gone", func(t *testing.T) {
		rdb := client(redistest.Start(t), 10)
		work(rdb, 4)
		hold(t, rdb, 2, "report")
		at, stop := stoppable(t, rdb.PoolMonitor())
		p := open(t, at, 1440, 900)
		p.wait(`document.querySelector('#panel-leases tbody tr')`)
		time.Sleep(3 * time.Second)
		p.mu.Lock()
		p.away = true
		p.mu.Unlock()
		stop()
		p.wait(`document.getElementById('status').dataset.state === 'lost'`)
		look(p, "page-gone")
	})
	t.Run("cluster", func(t *testing.T) {
		c := redistest.StartCluster(t, "redis-server", 6, 1)
		rdb, err := managed.NewCluster(&redis.ClusterOptions{Addrs: c.Addrs(), PoolSize: 5}, managed.WithLogger(slog.New(slog.DiscardHandler)),
			managed.WithMonitor(monitor.WithInterval(100*time.Millisecond), monitor.WithAlertHandler(func(monitor.Alert) {})))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = rdb.Close() })
		for i := range 200 {
			_ = rdb.Set(t.Context(), fmt.Sprint("key", i), i, 0).Err()
			_ = rdb.Pipeline().Process(t.Context(), redis.NewStringCmd(t.Context(), "get", fmt.Sprint("key", i)))
		}
		at := page(t, rdb.PoolMonitor())
		for i := range 4 {
			conn, err := rdb.Acquire(managed.WithLabel(t.Context(), "export"), fmt.Sprint("key", i))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(conn.Release)
		}
		p := open(t, at, 1440, 900)
		time.Sleep(3 * time.Second)
		p.press("5")
		look(p, "cluster")
	})
	t.Run("fleet", func(t *testing.T) {
		s := redistest.Start(t)
		for i := range 12 {
			rdb := client(s, 10+i)
			pub, err := fleet.Publish(rdb.PoolMonitor(), rdb, fleet.WithService([]string{"checkout", "search", "a-service-with-quite-a-long-name"}[i%3]), fleet.WithInterval(time.Second))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = pub.Close() })
			hold(t, rdb, i%4*3, "export")
		}
		src, err := fleet.NewSource(client(s, 2))
		if err != nil {
			t.Fatal(err)
		}
		m, err := monitor.New(src, monitor.WithInterval(500*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Close() })
		p := open(t, page(t, m), 1440, 900)
		time.Sleep(4 * time.Second)
		look(p, "fleet")
	})
	entries, _ := os.ReadDir(*pictures)
	for _, e := range entries {
		t.Log(filepath.Join(*pictures, e.Name()))
	}
}
