package browser_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/dashboard"
)

// TestAxeFindsNothing looks at the page with axe-core, which is not part of this
// repository: LIFEGUARD_AXE names its axe.min.js (npm pack axe-core).
func TestAxeFindsNothing(t *testing.T) {
	path := os.Getenv("LIFEGUARD_AXE")
	if path == "" {
		redistest.Missing(t, "LIFEGUARD_AXE does not name an axe.min.js (npm pack axe-core)")
	}
	axe, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(p *tab, what string) {
		p.Helper()
		found, err := chromedp.Run(p.ctx, chromedp.Evaluate[[]string](`axe.run(document, { resultTypes: ['violations', 'passes'] }).then((r) =>
			(r.passes.length < 5 ? ['it has looked at next to nothing'] : []).concat(r.violations.flatMap((v) => v.nodes.map((n) => v.id + ': ' + v.help + ': ' + n.html.slice(0, 160) + ' ' + (n.failureSummary ?? '')))))`, chromedp.EvalAwaitPromise))
		p.must(err)
		for _, f := range found {
			t.Errorf("%s: %s", what, f)
		}
	}
	inject := func(p *tab) {
		p.Helper()
		_, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](string(axe)+"; !!window.axe"))
		p.must(err)
	}

	rdb, at := serve(t, 10, dashboard.WithActions())
	hold(t, rdb, 10, "report")
	go func() { _ = rdb.BLPop(t.Context(), time.Minute, "queue").Err() }()
	for _, size := range [][2]int64{{1440, 900}, {390, 844}} {
		p := open(t, at, size[0], size[1])
		inject(p)
		p.wait(`document.querySelector('#alerts .alert')`)
		p.press("1")
		p.wait(`document.querySelector('#panel-leases .group')`)
		p.click("#panel-leases .group .link")
		for _, scheme := range []string{"dark", "light"} {
			p.scheme(scheme)
			for i := range 6 {
				p.press(fmt.Sprint(i + 1))
				p.still("document.body.innerText.length > 0")
				check(p, fmt.Sprintf("%s, %d wide, table %d", scheme, size[0], i+1))
			}
			eval[any](p, `document.getElementById('help').showModal()`)
			check(p, scheme+", the help")
			eval[any](p, `document.getElementById('help').close()`)
		}
		eval[any](p, `document.querySelector('#panel-leases .child .link')?.click()`)
		p.wait(`document.getElementById('stack').open`)
		check(p, "a stack")
	}

	m, err := monitor.New(many{1000})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	at, stop := stoppable(t, m)
	p := open(t, at, 1440, 900)
	inject(p)
	p.press("3")
	p.wait(`document.querySelectorAll('#panel-conns tbody tr').length === 100`)
	check(p, "a thousand connections")
	p.mu.Lock()
	p.away = true
	p.mu.Unlock()
	stop()
	p.wait(`document.getElementById('status').dataset.state === 'lost'`)
	for _, scheme := range []string{"dark", "light"} {
		p.scheme(scheme)
		check(p, scheme+", server gone")
	}
}
