package browser_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// marked waits until every chart has a mark in a color of the style sheet whose event is what text
// says: the time at the cursor names it there.
func (p *tab) marked(color, text string) {
	p.Helper()
	p.press("5")
	p.wait(fmt.Sprintf(`document.querySelectorAll('#panel-alerts table')[1].innerText.includes(%q)`, text))
	// The heads of the marks are above the plot, where nothing else is drawn.
	p.wait(fmt.Sprintf(`[...document.querySelectorAll('#charts .chart')].filter((chart) => chart.querySelector('.plot')).every((chart) => {
		const canvas = chart.querySelector('canvas'), copy = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
		copy.canvas.width = canvas.width;
		copy.canvas.height = 2;
		copy.fillStyle = getComputedStyle(document.documentElement).getPropertyValue('--%s').trim();
		copy.fillRect(0, 0, 1, 1);
		const [r, g, b] = copy.getImageData(0, 0, 1, 1).data;
		copy.clearRect(0, 0, 1, 1);
		copy.drawImage(canvas, 0, -5);
		const d = copy.getImageData(0, 0, canvas.width, 1).data, over = chart.querySelector('.u-over'), box = over.getBoundingClientRect();
		const left = canvas.getBoundingClientRect().left;
		for (let x = 0; x < canvas.width; x++) {
			if (d[4 * x + 3] < 200 || Math.abs(d[4 * x] - r) + Math.abs(d[4 * x + 1] - g) + Math.abs(d[4 * x + 2] - b) > 30) continue;
			over.dispatchEvent(new MouseEvent('mouseenter'));
			over.dispatchEvent(new MouseEvent('mousemove', { bubbles: true, clientX: left + x / devicePixelRatio, clientY: box.top + 20 }));
			if (chart.querySelector('.at').textContent.includes(%q)) return true;
		}
		return false;
	})`, color, text))
}

func TestWhatHappenedIsAMarkOnEachChart(t *testing.T) {
	start(t)
	s := redistest.Start(t)
	policy := retry.Default()
	policy.Breaker.After = -1
	rdb, err := managed.New(s.Options(), managed.WithRetry(policy), managed.WithLogger(slog.New(slog.DiscardHandler)),
		managed.WithMonitor(monitor.WithInterval(50*time.Millisecond), monitor.WithAlertHandler(func(monitor.Alert) {})))
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	fails := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // it is retried until then
		defer cancel()
		return rdb.Set(ctx, "k", 1, 0).Err() != nil
	}
	fails()
	p := open(t, page(t, rdb.PoolMonitor()), 1440, 900)

	rdb.Reset(t.Context())
	p.marked("amber", "closed: Reset or EvictIdle")

	fails()
	p.must(s.Admin().Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err())
	p.until("a write finds out that the server is a replica now", fails)
	p.marked("amber", "closed: failover, its server became a replica")

	s.Kill()
	p.until("a write finds out that the server is gone", fails)
	p.marked("red", "Cannot connect to "+s.Addr())
}

func TestOnAPhoneTheLeasesFitTheirTable(t *testing.T) {
	rdb, at := serve(t, 10)
	hold(t, rdb, 3, "export")
	p := open(t, at, 390, 844)
	p.press("1") // the page asks only for tables that are in sight
	p.wait(`document.querySelector('#panel-leases .group')`)
	p.click("#panel-leases .group .link")
	p.wait(`document.querySelectorAll('#panel-leases .child').length === 3`)
	if wide := eval[string](p, `(() => { const s = document.querySelector('#panel-leases .scroll'); return s.scrollWidth > s.clientWidth ? s.scrollWidth + ' of ' + s.clientWidth : ''; })()`); wide != "" {
		t.Error("the table is wider than the page: " + wide)
	}
}
