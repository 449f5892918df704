package browser_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/dashboard"
)

// patience bounds everything that is waited for.
const patience = 30 * time.Second

var chromium struct {
	once  sync.Once
	ctx   context.Context
	err   error
	close func()
}

func TestMain(m *testing.M) {
	redistest.Main(m, func() {
		if chromium.close != nil {
			chromium.close()
		}
	})
}

// program is the browser, "" if there is none.
func program() string {
	if p := os.Getenv("LIFEGUARD_CHROMIUM"); p != "" {
		return p
	}
	for _, name := range []string{"chromium-headless-shell", "headless_shell", "chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			return p
		}
	}
	return ""
}

// start starts the one browser of all tests.
func start(t testing.TB) context.Context {
	t.Helper()
	path := program()
	if path == "" {
		redistest.Missing(t, "no Chromium: none of its names is on PATH, and LIFEGUARD_CHROMIUM names none")
	}
	chromium.once.Do(func() {
		opts := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path)}
		if os.Getuid() == 0 { // its sandbox refuses root
			opts = append(opts, chromedp.NoSandbox)
		}
		chromium.ctx, chromium.close = chromedp.NewContext(context.Background(), chromedp.WithAllocatorOptions(opts...))
		chromium.err = chromedp.Do(chromium.ctx)
		if chromium.err == nil {
			_, chromium.err = chromedp.Run(chromium.ctx, chromedp.Evaluate[int]("1"))
		}
	})
	if chromium.err != nil {
		t.Fatalf("%s: %v", path, chromium.err)
	}
	return chromium.ctx
}

// tab is a page under test. Every test fails that wrote an error to the console or
// asked for anything from anywhere else.
type tab struct {
	testing.TB
	ctx context.Context

	mu       sync.Mutex
	away     bool // errors of the network are expected
	problems []string
}

// open shows url in a new tab of a size; a width below 600 is a phone.
func open(t testing.TB, at string, width, height int64) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(start(t))
	t.Cleanup(cancel)
	p := &tab{TB: t, ctx: ctx}
	home, err := url.Parse(at)
	p.must(err)
	console := chromedp.Console(ctx)
	go func() {
		for m, err := range console {
			if err != nil {
				return
			}
			if m.Type == "error" || m.Type == "warning" || m.IsException() {
				p.problem("console: " + m.String())
			}
		}
	}()
	requests := chromedp.Events(ctx, network.RequestWillBeSent)
	go func() {
		for e, err := range requests {
			if err != nil {
				return
			}
			if to, err := url.Parse(e.Request.URL); err != nil || to.Host != home.Host {
				p.problem("a request to " + e.Request.URL)
			}
		}
	}()
	_, err = chromedp.Call(ctx, network.Enable, network.EnableParams{})
	p.must(err)
	p.size(width, height, 1)
	p.scheme("dark")
	p.must(chromedp.Do(ctx, chromedp.Navigate(at)))
	p.wait(`document.getElementById('status').dataset.state === 'live'`)
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, s := range p.problems {
			t.Error(s)
		}
	})
	return p
}

func (p *tab) problem(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.away || !strings.Contains(what, "net::ERR") {
		p.problems = append(p.problems, what)
	}
}

func (p *tab) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *tab) size(width, height int64, scale float64) {
	p.Helper()
	_, err := chromedp.Call(p.ctx, emulation.SetDeviceMetricsOverride,
		emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: scale, Mobile: width < 600})
	p.must(err)
}

// scheme is what the system has: "dark" or "light".
func (p *tab) scheme(name string) {
	p.Helper()
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
	p.must(err)
}

// eval is what an expression gives on the page.
func eval[T any](p *tab, js string) T {
	p.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](js))
	if err != nil {
		p.Fatalf("%s: %v", js, err)
	}
	return v
}

// wait waits until an expression is true.
func (p *tab) wait(js string) {
	p.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		ok, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool]("!!("+js+")"))
		if err == nil && ok {
			return
		}
		if time.Now().After(deadline) {
			p.Fatalf("not within %v: %s (%v); the page says: %s", patience, js, err, eval[string](p, "document.body.innerText"))
		}
	}
}

// still waits until an expression has been the same for ten frames.
func (p *tab) still(js string) {
	p.Helper()
	_, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](`new Promise((done) => { let last, n = 0; const look = () => { const v = `+js+
		`; n = v === last ? n + 1 : 0; last = v; n > 10 ? done(true) : requestAnimationFrame(look); }; look(); })`, chromedp.EvalAwaitPromise))
	p.must(err)
}

// until waits until ok.
func (p *tab) until(what string, ok func() bool) {
	p.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// press presses keys, one after the other. A character is given with its key, as a
// keyboard does, so that the page can keep it from being typed.
func (p *tab) press(keys string) {
	p.Helper()
	for _, r := range keys {
		if r < ' ' || r > '~' { // one of package kb
			p.must(chromedp.Do(p.ctx, chromedp.KeyEvent(string(r))))
			continue
		}
		down := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: string(r), Text: string(r)}
		_, err := chromedp.Call(p.ctx, input.DispatchKeyEvent, down)
		p.must(err)
		_, err = chromedp.Call(p.ctx, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyUp, Key: string(r)})
		p.must(err)
	}
}

func (p *tab) click(selector string) {
	p.Helper()
	p.must(chromedp.Do(p.ctx, chromedp.Click(chromedp.CSS(selector))))
}

func (p *tab) picture() []byte {
	p.Helper()
	b, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	p.must(err)
	return b
}

// pixels are those of a chart.
func (p *tab) pixels(chart string) string {
	p.Helper()
	data := eval[string](p, `document.querySelector('#plot-`+chart+` canvas').toDataURL()`)
	_, b64, ok := strings.Cut(data, ",")
	if _, err := base64.StdEncoding.DecodeString(b64); !ok || err != nil {
		p.Fatalf("no picture of %s: %v", chart, err)
	}
	return b64
}

// serve is a managed client with its page.
func serve(t testing.TB, size int, opts ...dashboard.Option) (*managed.Client, string) {
	t.Helper()
	start(t)
	opt := redistest.Start(t).Options()
	opt.PoolSize = size
	rdb, err := managed.New(opt, managed.WithMonitor(monitor.WithInterval(50*time.Millisecond), monitor.WithAlertHandler(func(monitor.Alert) {}),
		monitor.Threshold{Name: "pool_use_warning", Metric: monitor.PoolUse, Limit: 0.8, CoolDown: -1}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb, page(t, rdb.PoolMonitor(), opts...)
}

// page serves the page of a Monitor, and says where.
func page(t testing.TB, m *monitor.Monitor, opts ...dashboard.Option) string {
	t.Helper()
	at, _ := stoppable(t, m, opts...)
	return at
}

// stoppable is page, and a way to end the server.
func stoppable(t testing.TB, m *monitor.Monitor, opts ...dashboard.Option) (at string, stop func()) {
	t.Helper()
	h, err := dashboard.New(m, append([]dashboard.Option{dashboard.WithInterval(100 * time.Millisecond), dashboard.WithTitle("orders")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/debug/redis", h)
	server := httptest.NewServer(mux)
	stop = func() { h.Close(); server.Close() }
	t.Cleanup(stop)
	return server.URL + "/debug/redis", stop
}

// busy makes commands until the test ends.
func busy(t testing.TB, rdb *managed.Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := rdb.Get(ctx, "some-secret-key").Err(); err != nil && !errors.Is(err, redis.Nil) && ctx.Err() == nil {
				t.Error(err)
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// hold takes leases until the test ends.
func hold(t testing.TB, rdb *managed.Client, n int, label string) {
	t.Helper()
	for range n {
		conn, err := rdb.Acquire(managed.WithLabel(t.Context(), label))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Release() })
	}
}
