package browser_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/dashboard"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// value is what the legend of a chart says of one of its lines.
func value(chart, line string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('[aria-labelledby=title-%s] .legend li')].find((l) => l.innerText.startsWith(%q)).querySelector('b').innerText`, chart, line)
}

func TestChartsMove(t *testing.T) {
	rdb, at := serve(t, 10)
	p := open(t, at, 1440, 900)
	p.wait(value("connections", "in use") + ` === '0'`)
	before := p.pixels("connections")
	var held []*managed.Conn
	for range 3 {
		c, err := rdb.Acquire(t.Context())
		p.must(err)
		held = append(held, c)
	}
	p.wait(value("connections", "in use") + ` === '3'`)
	p.wait(value("use", "in use") + ` === '30 %'`)
	p.until("the chart of connections is another picture", func() bool { return p.pixels("connections") != before })
	for _, c := range held {
		c.Release()
	}
	p.wait(value("connections", "in use") + ` === '0'`)

	busy(t, rdb)
	p.wait(`parseFloat(` + value("commands", "commands") + `) > 10`)
	p.wait(value("times", "p99") + `.match(/ms|µs/)`)
	p.wait(`document.getElementById('plot-commands').getAttribute('aria-label').match(/^Commands per second, the last .*: commands [0-9]/)`)
}

func takeForReport(ctx context.Context, rdb *managed.Client) (*managed.Conn, error) {
	return rdb.Acquire(managed.WithLabel(ctx, "nightly report"))
}

func TestALeaseAppearsWithItsStackAndDisappears(t *testing.T) {
	rdb, at := serve(t, 10)
	p := open(t, at, 1440, 900)
	p.wait(`document.querySelector('#panel-leases .empty').innerText === 'No lease is held.'`)
	conn, err := takeForReport(t.Context(), rdb)
	p.must(err)
	const row = `document.querySelector('#panel-leases tbody tr')`
	p.wait(row + `?.innerText.includes('nightly report')`)
	p.wait(row + `.innerText.includes('page_test.go:')`)
	p.click("#panel-leases tbody .link")
	p.wait(`document.getElementById('stack').open && document.getElementById('stack-text').innerText.includes('takeForReport')`)
	p.press(kb.Escape)
	p.wait(`!document.getElementById('stack').open`)
	if !eval[bool](p, `document.activeElement.matches('#panel-leases tbody .link')`) {
		t.Error("the focus is not back on what opened the stack")
	}
	conn.Release()
	p.wait(`document.querySelector('#panel-leases tbody tr') === null`)
	p.wait(`document.getElementById('tab-leases').innerText.includes('0')`)
}

func TestACommandInFlightIsShown(t *testing.T) {
	rdb, at := serve(t, 10)
	p := open(t, at, 1440, 900)
	p.press("2")
	done := make(chan error, 1)
	go func() { done <- rdb.BLPop(context.Background(), time.Minute, "some-secret-key").Err() }()
	p.wait(`document.querySelector('#panel-busy tbody tr')?.innerText.includes('blpop')`)
	p.press("3")
	p.wait(`document.querySelector('#panel-conns tbody tr')?.innerText.includes('main')`)
	if eval[bool](p, `document.documentElement.outerHTML.includes('some-secret-key')`) {
		t.Error("the name of a key is on the page")
	}
	p.must(rdb.LPush(t.Context(), "some-secret-key", "some value").Err())
	p.must(<-done)
	p.press("2")
	p.wait(`document.querySelector('#panel-busy tbody tr') === null`)
}

func TestAnAlertShowsAndIsOver(t *testing.T) {
	rdb, at := serve(t, 2)
	p := open(t, at, 1440, 900)
	a, err := takeForReport(t.Context(), rdb)
	p.must(err)
	b, err := rdb.Acquire(t.Context())
	p.must(err)
	p.wait(`document.querySelector('#alerts .alert')?.innerText.includes('pool use')`)
	p.wait(`document.getElementById('alerts').innerText.includes('nightly report')`)
	a.Release()
	b.Release()
	p.wait(`document.getElementById('alerts').hidden`)
	p.press("5")
	p.wait(`document.querySelector('#panel-alerts tbody')?.innerText.includes('Pool nearly full')`)
}

func TestTheKeyboardIsEnough(t *testing.T) {
	rdb, at := serve(t, 10)
	hold(t, rdb, 1, "held")
	p := open(t, at, 1440, 900)
	active := `document.activeElement`

	p.press(kb.Tab)
	p.wait(active + `.matches('.skip') && ` + active + `.getBoundingClientRect().top >= 0`)
	seen := map[string]bool{}
	for range 60 { // everything can be reached, and the focus is seen everywhere
		p.press(kb.Tab)
		seen[eval[string](p, active+`.id || `+active+`.textContent`)] = true
		if !eval[bool](p, active+` === document.body || parseFloat(getComputedStyle(`+active+`).outlineWidth) >= 1.5`) {
			t.Errorf("the focus cannot be seen on %s", eval[string](p, active+".outerHTML"))
		}
	}
	for _, id := range []string{"pause", "theme", "help-button", "plot-connections", "plot-churn", "tab-leases", "filter"} {
		if !seen[id] {
			t.Errorf("Tab does not reach %s; it reached %v", id, seen)
		}
	}

	p.press("?")
	p.wait(`document.getElementById('help').open && document.getElementById('help').innerText.includes('Pause')`)
	p.press("p") // belongs to the dialog
	p.press(kb.Escape)
	p.wait(`!document.getElementById('help').open`)
	p.wait(`document.getElementById('status').innerText === 'Live'`)

	p.press("p")
	p.wait(`document.getElementById('status').innerText === 'Paused'`)
	p.press("p")
	p.wait(`document.getElementById('status').innerText === 'Live'`)

	p.press("1")
	p.wait(active + `.id === 'tab-leases'`)
	p.press(kb.ArrowRight)
	p.wait(active + `.id === 'tab-busy' && ` + active + `.getAttribute('aria-selected') === 'true'`)
	p.press(kb.ArrowLeft)
	p.press("/")
	p.wait(active + `.id === 'filter'`)
	if eval[string](p, active+`.value`) != "" {
		t.Error("the shortcut was typed, too")
	}
	p.press("no such lease?") // no shortcut while one types
	p.wait(`document.querySelector('#panel-leases .empty').innerText.includes('no such lease?')`)
	if eval[bool](p, `document.getElementById('help').open`) {
		t.Error("a ? in the filter opened the help")
	}
	eval[any](p, `document.getElementById('plot-connections').focus()`)
	p.press(kb.ArrowLeft)
	p.wait(`document.getElementById('say').innerText.match(/in use [0-9]+, idle [0-9]+/)`)
	p.press("r")
	p.wait(`document.querySelector('[data-range="900"]').getAttribute('aria-pressed') === 'true'`)
}

func TestPauseStopsWhatIsShownAndNotWhatIsRecorded(t *testing.T) {
	rdb, at := serve(t, 10)
	p := open(t, at, 1440, 900)
	p.wait(value("connections", "in use") + ` === '0'`)
	p.click("#pause")
	p.wait(`document.getElementById('status').innerText === 'Paused'`)
	before := p.pixels("connections")
	conn, err := rdb.Acquire(t.Context())
	p.must(err)
	time.Sleep(500 * time.Millisecond) // five points
	if p.pixels("connections") != before || eval[string](p, value("connections", "in use")) != "0" {
		t.Error("the chart went on")
	}
	p.click("#pause")
	p.wait(value("connections", "in use") + ` === '1'`)
	p.wait(`document.querySelector('#panel-leases tbody tr')`)
	conn.Release()
}

func TestANarrowWindowDoesNotScrollSideways(t *testing.T) {
	rdb, at := serve(t, 2)
	hold(t, rdb, 2, "a label that is rather long, so that it does not fit in anywhere at all")
	for _, width := range []int64{320, 390, 768, 1024} {
		p := open(t, at, width, 800)
		p.wait(`document.querySelector('#alerts .alert')`)
		for i := range 6 {
			p.press(fmt.Sprint(i + 1))
			if wide := eval[int](p, `document.documentElement.scrollWidth`); int64(wide) > width {
				t.Errorf("%d wide, and the page is %d wide with table %d", width, wide, i+1)
			}
		}
		small := eval[string](p, `[...document.querySelectorAll('button, select, input')].filter((e) => e.offsetParent && e.getBoundingClientRect().height < 24 && !e.matches('.link, th button')).map((e) => e.outerHTML).join()`)
		if small != "" {
			t.Errorf("too small for a finger: %s", small)
		}
	}
}

func TestDarkAndLightFollowTheSystemAndCanBeChosen(t *testing.T) {
	_, at := serve(t, 2)
	p := open(t, at, 1440, 900)
	const background = `getComputedStyle(document.body).backgroundColor`
	dark := eval[string](p, background)
	chart := p.pixels("connections")
	p.scheme("light")
	p.wait(background + ` !== '` + dark + `'`)
	light := eval[string](p, background)
	p.until("the chart has other colours", func() bool { return p.pixels("connections") != chart })
	p.press("t") // light, though the system is dark
	p.press("t") // dark
	p.wait(background + ` === '` + dark + `'`)
	p.must(chromedp.Do(p.ctx, chromedp.Reload()))
	p.wait(background + ` === '` + dark + `' && document.getElementById('theme').innerText.includes('dark')`)
	p.press("t") // as the system has it
	p.wait(background + ` === '` + light + `'`)
}

// contrast is the lowest contrast of text on the page, by WCAG, and where.
const contrast = `(() => {
  const rgb = (c) => c.match(/[\d.]+/g).map(Number);
  const lum = ([r, g, b]) => [r, g, b].map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; })
    .reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] === 1) return c; } return [255, 255, 255]; };
  let worst = [99, ''];
  for (const e of document.querySelectorAll('body *')) {
    if (!e.checkVisibility() || ![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    const a = lum(rgb(getComputedStyle(e).color)), b = lum(ground(e));
    const c = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (c < worst[0]) worst = [c, e.outerHTML.slice(0, 120)];
  }
  const line = (v) => { const d = document.createElement('i'); d.className = 'c-' + v; document.body.append(d); const c = lum(rgb(getComputedStyle(d).color)); d.remove(); return c; };
  const panel = lum(ground(document.querySelector('.chart')));
  for (const v of ['blue', 'teal', 'amber', 'red', 'violet', 'grey']) {
    const c = (Math.max(line(v), panel) + 0.05) / (Math.min(line(v), panel) + 0.05);
    if (c < 3) worst = [Math.min(worst[0], c), 'line ' + v];
  }
  return worst;
})()`

func TestItCanBeReadAndHeard(t *testing.T) {
	rdb, at := serve(t, 2, dashboard.WithActions())
	hold(t, rdb, 2, "held")
	p := open(t, at, 1440, 900)
	p.wait(`document.querySelector('#alerts .alert')`)
	for _, scheme := range []string{"dark", "light"} {
		p.scheme(scheme)
		p.wait(`matchMedia('(prefers-color-scheme: ` + scheme + `)').matches`)
		for i := range 6 {
			p.press(fmt.Sprint(i + 1))
			if w := eval[[]any](p, contrast); w[0].(float64) < 4.5 {
				t.Errorf("%s, table %d: a contrast of %.2f: %v", scheme, i+1, w[0], w[1])
			}
		}
	}
	for what, js := range map[string]string{
		"a table without a caption or heads of columns": `[...document.querySelectorAll('table')].filter((t) => !t.caption?.innerText && !t.caption?.textContent || !t.querySelector('th[scope=col]'))`,
		"a control without a name":                      `[...document.querySelectorAll('button, select, input')].filter((e) => e.checkVisibility() && !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.[0]?.textContent.trim()))`,
		"a chart without words":                         `[...document.querySelectorAll('.plot')].filter((e) => e.getAttribute('role') !== 'img' || !e.getAttribute('aria-label'))`,
		"an image without a text":                       `[...document.querySelectorAll('img')].filter((e) => !e.hasAttribute('alt'))`,
		"a tab without its panel":                       `[...document.querySelectorAll('[role=tab]')].filter((e) => document.getElementById(e.getAttribute('aria-controls'))?.getAttribute('role') !== 'tabpanel')`,
		"an id that is there twice":                     `[...document.querySelectorAll('[id]')].filter((e) => document.querySelectorAll('[id="' + e.id + '"]').length > 1)`,
	} {
		if found := eval[string](p, js+`.map((e) => e.outerHTML.slice(0, 200)).join('\n')`); found != "" {
			t.Errorf("%s: %s", what, found)
		}
	}
	if n := eval[int](p, `document.querySelectorAll('h1').length`); n != 1 {
		t.Errorf("%d first headings", n)
	}
}

func TestActionsAskFirst(t *testing.T) {
	rdb, at := serve(t, 10, dashboard.WithActions())
	busyNow, err := rdb.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	busyNow.Release()
	p := open(t, at, 1440, 900)
	p.click(`[data-do="reset"]`)
	p.wait(`document.getElementById('confirm').open`)
	p.press(kb.Escape)
	p.wait(`!document.getElementById('confirm').open`)
	if len(rdb.Conns()) == 0 {
		t.Error("it did not wait for the answer")
	}
	p.click(`[data-do="reset"]`)
	p.wait(`document.getElementById('confirm').open`)
	p.click("#confirm-yes")
	p.wait(`document.getElementById('toast').innerText.match(/[1-9][0-9]* connections? closed/)`)
}

func TestWithoutLeaveThereAreNoActions(t *testing.T) {
	_, at := serve(t, 10)
	p := open(t, at, 1440, 900)
	if eval[bool](p, `document.querySelector('[data-do]') !== null`) {
		t.Error("there are buttons")
	}
	p.mu.Lock()
	p.away = true // the console reports a 403
	p.mu.Unlock()
	if code := eval[int](p, `(() => { const x = new XMLHttpRequest(); x.open('POST', '?do=reset', false); x.send(); return x.status; })()`); code != http.StatusForbidden {
		t.Errorf("status %d", code)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems = nil
}

// many is a Source with many connections.
type many struct{ n int }

func (m many) Sample(s *monitor.Sample) {
	s.Nodes = []monitor.Node{{Name: "10.0.0.1:6379", Numbers: monitor.Numbers{Main: monitor.Pool{Size: m.n, Open: m.n, Idle: m.n}}},
		{Name: "10.0.0.2:6379", Numbers: monitor.Numbers{Main: monitor.Pool{Size: 7}}}}
	s.Gap("what is asked of nobody", "retries")
}

func (m many) Leases() []monitor.Lease { return nil }

func (m many) Connections() (all []monitor.Connection) {
	for i := range m.n {
		all = append(all, monitor.Connection{ID: uint64(i + 1), Node: "10.0.0.1:6379", Local: fmt.Sprintf("10.9.9.9:%d", 10000+i), Pool: "main", State: "idle",
			Age: time.Duration(i) * time.Second, Command: "get"})
	}
	return all
}

func TestAThousandConnectionsAreSortedAndFiltered(t *testing.T) {
	start(t)
	m, err := monitor.New(many{1000})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p := open(t, page(t, m), 1440, 900)
	p.press("3")
	const rows = `[...document.querySelectorAll('#panel-conns tbody tr')]`
	p.wait(rows + `.length === 100`)
	p.wait(rows + `[0].cells[0].innerText === '1'`)
	p.click("#panel-conns th:first-child button")
	p.wait(rows + `[0].cells[0].innerText === '1000' && document.querySelector('#panel-conns th:first-child').getAttribute('aria-sort') === 'descending'`)
	p.press("/")
	p.press("10.9.9.9:10123")
	p.wait(rows + `.length === 1 && ` + rows + `[0].cells[0].innerText === '124'`)
	eval[any](p, `(() => { const f = document.getElementById('filter'); f.value = ''; f.dispatchEvent(new Event('input')); })()`)
	p.wait(rows + `.length === 100`)
	p.click("#panel-conns .more")
	p.wait(rows + `.length === 1000`)
	// All rows are drawn anew every second: that may not take long.
	took := eval[float64](p, `(() => { const from = performance.now(); document.querySelector('#panel-conns th:first-child button').click(); document.body.offsetHeight; return performance.now() - from; })()`)
	t.Logf("1000 rows, sorted and drawn: %.0f ms", took)
	if took > 1500 {
		t.Errorf("1000 rows take %.0f ms", took)
	}

	p.wait(`document.querySelector('#gaps li').innerText === 'what is asked of nobody'`)
	p.wait(value("retries", "retries") + ` === '–'`)
	eval[any](p, `document.activeElement.blur()`)
	p.press("n") // the next node
	p.wait(`document.getElementById('scope').value === '10.0.0.1:6379'`)
	p.press("n")
	p.wait(`document.querySelector('.pools li').innerText.includes('0 of 7') && document.querySelectorAll('.pools li').length === 1`)
}

func TestThePageComesBackWhenTheServerDoes(t *testing.T) {
	start(t)
	m, err := monitor.New(many{1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run := func(ln net.Listener) (stop func()) {
		h, err := dashboard.New(m, dashboard.WithInterval(100*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: h}
		go func() { _ = server.Serve(ln) }()
		return func() { h.Close(); _ = server.Close() }
	}
	stop := run(ln)
	p := open(t, "http://"+ln.Addr().String()+"/debug/redis", 1440, 900)
	p.mu.Lock()
	p.away = true
	p.mu.Unlock()
	stop()
	p.wait(`document.getElementById('status').innerText.includes('No connection')`)
	if ln, err = net.Listen("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	defer run(ln)()
	p.wait(`document.getElementById('status').innerText === 'Live'`)
}

func TestThePageStaysAtItsTop(t *testing.T) {
	rdb, at := serve(t, 10)
	hold(t, rdb, 3, "held")
	for _, size := range [][2]int64{{390, 844}, {640, 480}, {1024, 600}, {1440, 900}} {
		p := open(t, at, size[0], size[1])
		for _, tab := range []string{"alerts", "leases"} { // the one that was seen last is chosen on load
			p.wait(`document.querySelector('#tiles .big').innerText !== '–' && document.querySelector('.plot canvas')`)
			p.still(`window.scrollY`)
			if y := eval[float64](p, `window.scrollY`); y != 0 {
				t.Errorf("%dx%d, with the table of %s: it scrolled to %v", size[0], size[1], tab, y)
			}
			eval[any](p, `localStorage.setItem('lifeguard.tab', '`+tab+`')`)
			p.must(chromedp.Do(p.ctx, chromedp.Reload()))
			p.wait(`document.getElementById('status').dataset.state === 'live'`)
		}
		eval[any](p, `localStorage.clear()`)
	}
}

// pools is a Source with a full pool beside an empty one, on several nodes.
type pools struct{ nodes int }

func (s pools) Sample(to *monitor.Sample) {
	for i := range s.nodes {
		n := monitor.Numbers{Main: monitor.Pool{Size: 10, Open: 10, InUse: i, Idle: 10 - i}, Pipeline: monitor.Pool{Size: 20}}
		to.Nodes = append(to.Nodes, monitor.Node{Name: fmt.Sprintf("10.0.0.%d:6379", i+1), Numbers: n})
	}
	to.Nodes = append(to.Nodes, monitor.Node{Name: "10.0.0.1:6379 (blocking)", Numbers: monitor.Numbers{Main: monitor.Pool{Size: 4, Open: 4, InUse: 4, Waiting: 2}, Pipeline: monitor.Pool{Size: 10}}})
}

func TestEachPoolHasABarTheFullestFirstAndNoSumHidesIt(t *testing.T) {
	start(t)
	for nodes, want := range map[int]string{
		1: "blocking|2 waiting|4 of 4|main|0 of 10|pipeline|0 of 20",
		9: "blocking|10.0.0.1:6379|2 waiting|4 of 4|main|10.0.0.9:6379|8 of 10|main|10.0.0.8:6379|7 of 10|main|10.0.0.7:6379|6 of 10|main|10.0.0.6:6379|5 of 10|main|10.0.0.5:6379|4 of 10",
	} {
		m, err := monitor.New(pools{nodes})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		p := open(t, page(t, m), 1440, 900)
		p.wait(`document.querySelector('.pools li')`)
		got := eval[string](p, `[...document.querySelectorAll('.pools p > *')].map((e) => e.innerText).filter(Boolean).join('|')`)
		if got != want {
			t.Errorf("%d nodes:\ngot  %s\nwant %s", nodes, got, want)
		}
		p.wait(`document.querySelector('#tiles .tile').innerText.replace(/\s+/g, ' ').startsWith('Fullest pool 4 of 4 100 % · blocking')`)
		p.wait(value("use", "in use") + ` === '100 %'`)
		if more := eval[bool](p, `document.querySelector('.pool-panel > .link').checkVisibility()`); more != (nodes > 1) {
			t.Errorf("%d nodes, and there are more pools: %v", nodes, more)
		}
		if width := eval[string](p, `document.querySelector('.pools .fill').style.width`); width != "100%" {
			t.Errorf("the bar of a full pool is %s wide", width)
		}
	}
}

// instances are a fleet on one server; the last one is full.
type instances struct{ n int }

func (f instances) Sample(to *monitor.Sample) {
	sum := monitor.Pool{}
	for i := range f.n {
		p := monitor.Pool{Size: 10, Open: 10, Idle: 10}
		if i == f.n-1 {
			p.InUse, p.Idle, p.Waiting = 10, 0, 3
		}
		sum.Size, sum.Open, sum.Idle, sum.InUse, sum.Waiting = sum.Size+p.Size, sum.Open+p.Open, sum.Idle+p.Idle, sum.InUse+p.InUse, sum.Waiting+p.Waiting
		// A process may have several clients, which then have the same name.
		to.Pools = append(to.Pools, monitor.NamedPool{Name: fmt.Sprintf("checkout on host-%d, PID 7", i/2), Node: "10.0.0.1:6379", Kind: "main", Pool: p},
			monitor.NamedPool{Name: fmt.Sprintf("checkout on host-%d, PID 7", i/2), Node: "10.0.0.1:6379", Kind: "pipeline", Pool: monitor.Pool{Size: 10, Open: 10, Idle: 9, InUse: 1}})
	}
	to.Nodes = []monitor.Node{{Name: "10.0.0.1:6379", Numbers: monitor.Numbers{Main: sum, Pipeline: monitor.Pool{Size: 10 * f.n, Open: 10 * f.n, Idle: 9 * f.n, InUse: f.n}}}}
}

// openFleet opens the page of 60 of them.
func openFleet(t *testing.T) *tab {
	t.Helper()
	start(t)
	m, err := monitor.New(instances{60})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	p := open(t, page(t, m), 1440, 900)
	p.wait(`document.querySelectorAll('.pools li').length === 6`)
	return p
}

func TestThePageOfAFleetShowsTheFullestPoolOfAnInstanceAndNotASum(t *testing.T) {
	p := openFleet(t)
	want := "checkout on host-29, PID 7, main|3 waiting|10 of 10|checkout on host-0, PID 7, pipeline|1 of 10|checkout on host-0, PID 7, pipeline|1 of 10|"
	if got := eval[string](p, `[...document.querySelectorAll('.pools p > *')].map((e) => e.innerText).filter(Boolean).join('|')`); !strings.HasPrefix(got, want) {
		t.Errorf("the bars are %s", got)
	}
	p.wait(`document.querySelector('#tiles .tile').innerText.replace(/\s+/g, ' ').startsWith('Fullest pool 10 of 10 100 % · checkout on host-29, PID 7, main')`)
	p.wait(value("use", "in use") + ` === '100 %'`)
	p.wait(`document.querySelector('.pool-panel > .link').innerText.startsWith('114 more pools, 10 % or less')`)
	p.wait(`document.querySelector('#tab-nodes').click() ?? /100 ?%/.test(document.querySelector('#panel-nodes').innerText)`)
}

// A long list of pools makes its row high, and the charts beside it have to use the room.
func TestChartsFillTheirRowAndShrinkWithIt(t *testing.T) {
	p := openFleet(t)
	filled := `[...document.querySelectorAll('figure.chart')].every((c) => {
		const box = c.getBoundingClientRect(), plot = c.querySelector('.plot').getBoundingClientRect(), canvas = c.querySelector('canvas').getBoundingClientRect();
		return plot.top - c.querySelector('figcaption').getBoundingClientRect().bottom < 10 && box.bottom - plot.bottom < 12 && Math.abs(canvas.height - plot.height) < 2;
	})`
	height := `Math.min(...[...document.querySelectorAll('.plot')].slice(0, 3).map((e) => e.clientHeight))`
	p.wait(height + ` > 200 && ` + filled)
	p.size(390, 844, 1)
	p.wait(height + ` === 150 && ` + filled)
	p.size(1440, 900, 1)
	p.wait(height + ` > 200 && ` + filled)
	eval[bool](p, `(document.querySelector('.pools').style.display = 'none', true)`) // as if there were few
	p.wait(height + ` === 172 && ` + filled)
}

func TestThePageOpensWithWhatHappenedBefore(t *testing.T) {
	start(t)
	rdb, err := managed.New(redistest.Start(t).Options(), managed.WithLogger(slog.New(slog.DiscardHandler)), managed.WithMonitor(monitor.WithInterval(50*time.Millisecond), monitor.WithAlertHandler(func(monitor.Alert) {})))
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	at := page(t, rdb.PoolMonitor())
	hold(t, rdb, 3, "before")
	time.Sleep(1500 * time.Millisecond) // the history has a point a second
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := rdb.PoolMonitor().EvictIdle(t.Context()); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	time.Sleep(1200 * time.Millisecond)
	p := open(t, at, 1440, 900)
	p.press("5")
	p.wait(`document.querySelectorAll('#panel-alerts table')[1].innerText.match(/connections? closed: Reset or EvictIdle/)`)
	eval[any](p, `document.getElementById('plot-connections').focus()`)
	p.press(kb.Home)
	p.wait(`document.getElementById('say').innerText.match(/in use [0-9]/)`)
	if !eval[bool](p, `document.querySelector('#title-connections .at').innerText.match(/^[0-9]{2}:[0-9]{2}:[0-9]{2}/) !== null`) {
		t.Error("the chart does not say what time the cursor is at")
	}
}

func TestLeasesAreGroupedByCallSiteAndAGroupOpens(t *testing.T) {
	rdb, at := serve(t, 40)
	hold(t, rdb, 30, "export")
	one, err := takeForReport(t.Context(), rdb)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Release()
	p := open(t, at, 1440, 900)
	const rows = `[...document.querySelectorAll('#panel-leases tbody tr')]`
	p.wait(rows + `.length === 2 && ` + rows + `[0].innerText.includes('30 ×') && ` + rows + `[0].innerText.includes('oldest')`)
	p.wait(`document.getElementById('tab-leases').innerText.includes('31')`)
	p.click("#panel-leases .group .link")
	p.wait(rows + `.length === 32 && document.querySelectorAll('#panel-leases tr.child').length === 30`)
	p.wait(`document.querySelector('#panel-leases .group .link').getAttribute('aria-expanded') === 'true'`)
	p.press("/")
	p.press("nightly")
	p.wait(rows + `.length === 1 && document.querySelector('#panel-leases .foot span').innerText === '1 of 31 leases match'`)
	eval[any](p, `(() => { const f = document.getElementById('filter'); f.value = 'export'; f.dispatchEvent(new Event('input')); })()`)
	p.wait(`document.querySelector('#panel-leases .foot span').innerText === '30 of 31 leases match'`)
	p.click("#panel-leases .group .link")
	p.wait(rows + `.length === 1`)
}

func TestAnAlertSaysForHowLongAndWhereToReadOn(t *testing.T) {
	rdb, at := serve(t, 2)
	hold(t, rdb, 2, "held")
	p := open(t, at, 1440, 900)
	p.wait(`document.querySelector('#alerts h2')?.innerText.startsWith('Pool exhausted') && document.querySelectorAll('#alerts .alert').length === 1`)
	p.wait(`document.querySelector('#alerts .since').innerText.startsWith('for 1 s, since ')`)
	p.wait(`document.querySelector('#alerts .since').innerText.startsWith('for 2 s, since ')`)
	if link := eval[string](p, `document.querySelector('#alerts a').href`); !strings.HasSuffix(link, "/docs/RUNBOOK.md#callers-get-no-connection") {
		t.Errorf("it links to %s", link)
	}
	p.press("6")
	p.wait(`document.getElementById('panel-totals').innerText.includes('None yet.')`)
}

func TestWhatIsOldIsDimmed(t *testing.T) {
	start(t)
	m, err := monitor.New(many{1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	at, stop := stoppable(t, m)
	p := open(t, at, 1440, 900)
	const color = `getComputedStyle(document.querySelector('#tiles .big')).color`
	p.wait(`document.querySelector('#tiles .big').innerText !== '–'`)
	live := eval[string](p, color)
	p.mu.Lock()
	p.away = true
	p.mu.Unlock()
	stop()
	p.wait(`document.getElementById('status').innerText.match(/^No connection since [0-9:]{8}/)`)
	p.wait(color + ` !== '` + live + `'`)
	p.size(390, 844, 1)
	p.wait(`document.querySelector('.brand h1').scrollWidth <= document.querySelector('.brand h1').clientWidth`)
}

func TestInAnOutageRefusedCallsDoNotLookLikeFastCommands(t *testing.T) {
	start(t)
	s := redistest.Start(t)
	policy := retry.Default()
	policy.Breaker.After = 50 * time.Millisecond
	rdb, err := managed.New(s.Options(), managed.WithRetry(policy), managed.WithLogger(slog.New(slog.DiscardHandler)),
		managed.WithMonitor(monitor.WithInterval(50*time.Millisecond), monitor.WithAlertHandler(func(monitor.Alert) {})))
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	p := open(t, page(t, rdb.PoolMonitor()), 1440, 900)
	done := make(chan struct{})
	defer func() { <-done }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = rdb.Get(ctx, "k").Err()
			time.Sleep(time.Millisecond)
		}
	}()
	s.Kill()
	p.wait(`document.querySelector('#alerts h2')?.innerText.startsWith('Circuit breaker open')`)
	p.wait(`/[0-9]+\/s refused, breaker open/.test(document.querySelectorAll('#tiles .tile')[2].innerText)`)
	p.wait(`document.querySelectorAll('#tiles .big')[3].innerText.trim() === '–'`)
}

func TestTheAlertOfOverdueLeasesNamesNobodyElse(t *testing.T) {
	start(t)
	opt := redistest.Start(t).Options()
	rdb, err := managed.New(opt, managed.WithLeakThreshold(time.Second), managed.WithLogger(slog.New(slog.DiscardHandler)),
		managed.WithMonitor(monitor.WithInterval(50*time.Millisecond), monitor.WithAlertHandler(func(monitor.Alert) {})))
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	hold(t, rdb, 1, "export")
	p := open(t, page(t, rdb.PoolMonitor()), 1440, 900)
	p.wait(`document.querySelector('#alerts h2')?.innerText.startsWith('Leases overdue')`)
	if err := rdb.AcquireFunc(managed.WithLabel(t.Context(), "checkout"), func(*managed.Conn) error {
		p.wait(`document.getElementById('tab-leases').innerText.includes('2')`)
		p.still(`document.querySelector('#alerts .alert').innerText.includes('checkout')`)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if text := eval[string](p, `document.querySelector('#alerts .alert').innerText`); !strings.Contains(text, "export") || strings.Contains(text, "checkout") {
		t.Error(text)
	}
}

func TestNoLabelOfAnAxisIsClipped(t *testing.T) {
	rdb, at := serve(t, 10)
	busy(t, rdb)
	for _, width := range []int64{390, 1440} {
		p := open(t, at, width, 900)
		p.wait(value("commands", "commands") + ` > 0`)
		// What is drawn at the very edge of a canvas is cut off there.
		for _, chart := range []string{"use", "connections", "commands", "times"} {
			if cut := eval[int](p, `(() => { const c = document.querySelector('#plot-`+chart+` canvas'), x = c.getContext('2d'); let n = 0;
				const d = x.getImageData(0, 0, c.width, c.height).data; // at once: reading twice makes the browser warn
				for (let y = 0; y < c.height; y++) for (const at of [0, c.width - 1]) n += d[4 * (y * c.width + at) + 3] > 40 ? 1 : 0;
				return n; })()`); cut > 0 {
				t.Errorf("%d wide: %d pixels of %s are at its edge", width, cut, chart)
			}
		}
	}
}
