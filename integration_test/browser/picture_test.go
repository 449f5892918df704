package browser_test

import (
	"context"
	"flag"
	"log/slog"
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
	worked   = flag.Duration("worked", 92*time.Second, "for how long the client of the pictures works before")
)

// TestPictures makes those of the documentation: a shop whose load goes up and down and whose
// connections get cut once, until a job that leaks leases has exhausted the pool.
func TestPictures(t *testing.T) {
	if *pictures == "" {
		return // it tests nothing
	}
	server := redistest.Start(t)
	opt := server.Options()
	opt.PoolSize = 24
	opt.PoolTimeout = 5 * time.Second
	rdb, err := managed.New(opt, managed.WithLeakThreshold(20*time.Second), managed.WithLogger(slog.New(slog.DiscardHandler)),
		managed.WithMonitor(monitor.WithInterval(time.Second), monitor.WithAlertHandler(func(monitor.Alert) {})))
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
	wg.Go(func() { leak(ctx, rdb, began) })
	wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-time.After(35 * time.Second):
			server.KillClients(t)
		}
	})

	p := open(t, at, 1440, 1080)
	time.Sleep(*worked)
	p.wait(shown)
	p.save("dashboard-dark.png", 1440, 1080, 1.5)
	p.scheme("light")
	p.save("dashboard-light.png", 1440, 1080, 1.5)
	p.scheme("dark")
	p.save("dashboard-phone.png", 390, 1500, 2)
}

// shown is when there is something to see.
const shown = `document.getElementById('alerts').innerText.includes('Pool exhausted') && document.getElementById('alerts').innerText.includes('leak threshold') && document.querySelectorAll('#panel-leases tbody tr').length > 1 && parseInt(document.querySelectorAll('#tiles .big')[1].innerText) > 9`

func (p *tab) save(name string, width, height int64, scale float64) {
	p.Helper()
	p.size(width, height, scale)
	time.Sleep(time.Second) // the charts get their new size
	p.must(os.MkdirAll(*pictures, 0o755))
	p.must(os.WriteFile(filepath.Join(*pictures, name), p.picture(), 0o644))
}
