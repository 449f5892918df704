package browser_test

import (
	"context"
	"flag"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/dashboard"
)

var (
	pictures = flag.String("pictures", "", "a folder to put pictures of the page into")
	worked   = flag.Duration("worked", 130*time.Second, "for how long the client of the pictures works before")
)

// TestPictures makes those of the documentation: a shop under load that goes up and
// down, with jobs that hold leases, and connections that get cut.
func TestPictures(t *testing.T) {
	if *pictures == "" {
		return // it tests nothing
	}
	server := redistest.Start(t)
	opt := server.Options()
	opt.PoolSize = 24
	opt.PoolTimeout = 5 * time.Second
	rdb, err := managed.New(opt, managed.WithLeakThreshold(20*time.Second), managed.WithLogger(slog.New(slog.DiscardHandler)),
		managed.WithMonitor(monitor.WithInterval(time.Second), monitor.WithAlertHandler(func(monitor.Alert) {}),
			monitor.Threshold{Name: "pool_use_warning", Metric: monitor.PoolUse, Limit: 0.8, CoolDown: -1}))
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	at := page(t, rdb.PoolMonitor(), dashboard.WithInterval(time.Second), dashboard.WithTitle("shop, main Redis"))

	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	began := time.Now()
	for i := range 40 {
		wg.Go(func() { shop(ctx, rdb, i, began) })
	}
	wg.Go(func() { report(ctx, rdb) })
	wg.Go(func() {
		for _, after := range []time.Duration{35 * time.Second, 60 * time.Second} {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Until(began.Add(after))):
				server.KillClients(t)
			}
		}
	})

	p := open(t, at, 1440, 1080)
	time.Sleep(*worked)
	for range 3 { // the tide takes longer than what is waited for at once
		if eval[bool](p, shown) {
			break
		}
		time.Sleep(patience)
	}
	p.wait(shown)
	p.save("dashboard-dark.png", 1440, 1080, 1.5)
	p.scheme("light")
	p.save("dashboard-light.png", 1440, 1080, 1.5)
	p.scheme("dark")
	p.save("dashboard-phone.png", 390, 1500, 2)
}

// shown is when there is something to see.
const shown = `document.querySelectorAll('#panel-leases tbody tr').length > 2 && !document.getElementById('alerts').hidden && /[0-9]{2}/.test(document.querySelector('#tiles .big').firstChild.data)`

func (p *tab) save(name string, width, height int64, scale float64) {
	p.Helper()
	p.size(width, height, scale)
	time.Sleep(time.Second) // the charts get their new size
	p.must(os.MkdirAll(*pictures, 0o755))
	p.must(os.WriteFile(filepath.Join(*pictures, name), p.picture(), 0o644))
}

// shop is one of many who make commands, and now and then take a lease; the more the
// tide is in.
func shop(ctx context.Context, rdb *managed.Client, i int, began time.Time) {
	for ctx.Err() == nil {
		tide := 0.5 + 0.5*math.Sin(time.Since(began).Seconds()/11)
		if float64(i) > 8+32*tide {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		switch {
		case i%4 == 0:
			_ = rdb.AcquireFunc(managed.WithLabel(ctx, "checkout"), checkout)
		default:
			_ = rdb.Get(ctx, "cart").Err()
			_ = rdb.Set(ctx, "cart", "full", time.Minute).Err()
		}
		time.Sleep(time.Duration(1+i%7) * time.Millisecond)
	}
}

func checkout(c *managed.Conn) error {
	ctx := c.Context()
	if err := c.Do(ctx, "watch", "stock").Err(); err != nil {
		return err
	}
	time.Sleep(150 * time.Millisecond)
	return c.Get(ctx, "stock").Err()
}

// report holds leases for long.
func report(ctx context.Context, rdb *managed.Client) {
	for ctx.Err() == nil {
		a, err := rdb.Acquire(managed.WithLabel(ctx, "nightly report"))
		if err != nil {
			continue
		}
		_ = a.Get(ctx, "orders").Err()
		b, err := rdb.Acquire(managed.WithLabel(ctx, "export of invoices"))
		if err == nil {
			_ = b.HGetAll(ctx, "invoices").Err()
			select {
			case <-ctx.Done():
			case <-time.After(40 * time.Second):
			}
			b.Release()
		}
		a.Release()
	}
}
