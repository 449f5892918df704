package bench_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor/dashboard"
	"github.com/lifeguard-redis/lifeguard/monitor/otel"
	"github.com/lifeguard-redis/lifeguard/monitor/prom"
)

// call is a way to use a client: by a bare one, and by a managed one.
type call struct {
	name    string
	bare    func(*redis.Client) func() error
	managed func(*managed.Client) func() error
}

// calls are the ways to use a client that are compared. key holds 64 bytes.
func calls(ctx context.Context, key string) map[string]call {
	value := strings.Repeat("x", 64)
	same := func(name string, f func(redis.Cmdable) func() error) call {
		return call{name, func(c *redis.Client) func() error { return f(c) }, func(c *managed.Client) func() error { return f(c) }}
	}
	get := func(c redis.Cmdable) func() error {
		return func() error {
			got, err := c.Get(ctx, key).Result()
			if err == nil && got != value {
				err = errors.New("a wrong value came back")
			}
			return err
		}
	}
	return map[string]call{
		"get": same("GET, 64 B", get),
		"set": same("SET, 64 B", func(c redis.Cmdable) func() error {
			return func() error { return c.Set(ctx, key, value, time.Hour).Err() }
		}),
		"lease": {"lease, PING, release",
			func(c *redis.Client) func() error {
				return func() error {
					conn := c.Conn()
					err := conn.Ping(ctx).Err()
					_ = conn.Close()
					return err
				}
			},
			func(c *managed.Client) func() error {
				return func() error {
					conn, err := c.Acquire(ctx)
					if err != nil {
						return err
					}
					err = conn.Ping(ctx).Err()
					conn.Release()
					return err
				}
			}},
		"pipeline": same("pipeline of 100 GETs", func(c redis.Cmdable) func() error {
			return func() error {
				_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
					for range 100 {
						p.Get(ctx, key)
					}
					return nil
				})
				return err
			}
		}),
		"adaptive": {"GET by Adaptive",
			func(c *redis.Client) func() error { return get(c) },
			func(c *managed.Client) func() error { return get(c.Adaptive()) }},
	}
}

// trio is what is compared: two bare clients, and a managed one.
type trio struct {
	bare, control *redis.Client
	managed       *managed.Client
	key           string
	ways          map[string]call
}

func newTrio(t *testing.T, opt *redis.Options, key string, opts ...managed.Option) *trio {
	t.Helper()
	man, err := managed.New(opt, opts...)
	if err != nil {
		t.Fatal(err)
	}
	x := &trio{bare: redis.NewClient(opt), control: redis.NewClient(opt), managed: man, key: key}
	t.Cleanup(func() { _, _, _ = x.bare.Close(), x.control.Close(), x.managed.Close() })
	ctx := context.WithoutCancel(t.Context())
	if err := x.bare.Set(ctx, key, strings.Repeat("x", 64), time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	x.ways = calls(ctx, key)
	return x
}

// run compares one way to call with n callers.
func (x *trio) run(t *testing.T, way string, n int) []round {
	w := x.ways[way]
	return pair(loop(t, n, w.bare(x.bare)), loop(t, n, w.managed(x.managed)), loop(t, n, w.bare(x.control)))
}

// Each ratio is to the mean of the two bare clients.
func throughput(r round) float64 {
	return 2 * r.managed.perSecond() / (r.bare.perSecond() + r.control.perSecond())
}
func cpuTime(r round) float64 {
	return 2 * r.managed.cpuPerOp() / (r.bare.cpuPerOp() + r.control.cpuPerOp())
}
func noise(r round) float64 { return r.control.perSecond() / r.bare.perSecond() }
func cpuNoise(r round) float64 {
	return r.control.cpuPerOp() / r.bare.cpuPerOp()
}
func moreAllocs(r round) float64 { return r.managed.allocsPerOp() - r.bare.allocsPerOp() }

func (x *trio) line(t *testing.T, way string, n int) string {
	rs := x.run(t, way, n)
	return fmt.Sprintf("| %s, %s | %s | %s | %s | %s | %s |\n", x.ways[way].name, goroutines(n),
		estimated(rs, throughput).ratio(), estimated(rs, noise).ratio(), estimated(rs, cpuTime).ratio(), estimated(rs, cpuNoise).ratio(), estimated(rs, moreAllocs).count())
}

const heading = "| | throughput, managed / bare | control: bare / bare | CPU per call, managed / bare | control: bare / bare | allocations per call, managed - bare |\n|---|---|---|---|---|---|\n"

// awaitSteadyState waits until a new client leaves out go-redis's look at the socket, which it
// does not for the first 5 seconds.
func awaitSteadyState() {
	if *measure || *guard {
		time.Sleep(5500 * time.Millisecond)
	}
}

func TestEachWayToCallIsMeasuredBesideTheBareClient(t *testing.T) {
	x := newTrio(t, redistest.Options(t), redistest.UniqueKey(t, "calls"))
	awaitSteadyState()
	var table strings.Builder
	fmt.Fprintf(&table, "One run of %d rounds of 3 x %v for each line, %s, %d processors.\n\n%s", *rounds, *slice, runtime.Version(), runtime.GOMAXPROCS(0), heading)
	for _, row := range []struct {
		way     string
		callers []int
	}{{"get", []int{1, 8, 64, 256}}, {"set", []int{1, 8, 64, 256}}, {"lease", []int{1, 16, 64}}, {"pipeline", []int{1, 8, 64}}, {"adaptive", []int{1, 8, 64, 256}}} {
		for _, n := range row.callers {
			table.WriteString(x.line(t, row.way, n))
		}
	}
	table.WriteString(clusterLine(t, 64))
	t.Logf("\n%s", table.String())
	if *write {
		replaceTable(t, "../../docs/PERFORMANCE.md", "the table of calls", table.String())
	}
}

// far is a connection to a server that is so far away: what is read arrives that much
// later than what was written last.
type far struct {
	net.Conn
	away  time.Duration
	wrote atomic.Int64 // UnixNano
	*pauser
}

func (f *far) Write(b []byte) (int, error) {
	f.wrote.Store(time.Now().UnixNano())
	return f.Conn.Write(b)
}

func (f *far) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	if err != nil {
		return n, err
	}
	return n, f.pause(time.Until(time.Unix(0, f.wrote.Load()).Add(f.away)))
}

// SyscallConn lets the clients check the socket, as on any connection.
func (f *far) SyscallConn() (syscall.RawConn, error) {
	return f.Conn.(syscall.Conn).SyscallConn()
}

func (f *far) Close() error {
	f.close()
	return f.Conn.Close()
}

func TestADistantServerIsMeasuredBesideTheBareClient(t *testing.T) {
	var table strings.Builder
	fmt.Fprintf(&table, "One run of %d rounds of 3 x %v for each line, %s, %d processors, 64 callers. The delay is made in the connection.\n\n%s", *rounds, *slice, runtime.Version(), runtime.GOMAXPROCS(0), heading)
	for _, away := range []time.Duration{200 * time.Microsecond, time.Millisecond} {
		opt := redistest.Options(t)
		dial := redis.NewDialer(&redis.Options{DialTimeout: 5 * time.Second})
		opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			p, err := newPauser()
			if err != nil {
				_ = c.Close()
				return nil, err
			}
			return &far{Conn: c, away: away, pauser: p}, nil
		}
		x := newTrio(t, opt, redistest.UniqueKey(t, "far"))
		awaitSteadyState()
		for _, way := range []string{"get", "lease", "pipeline", "adaptive"} {
			table.WriteString(strings.Replace(x.line(t, way, 64), ", 64 goroutines", fmt.Sprintf(", %v away", away), 1))
		}
	}
	t.Logf("\n%s", table.String())
	if *write {
		replaceTable(t, "../../docs/PERFORMANCE.md", "the table of a server far away", table.String())
	}
}

// idleHook is the part of a hook that the client pays for.
type idleHook struct{}

func (idleHook) DialHook(next redis.DialHook) redis.DialHook { return next }
func (idleHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return next(ctx, cmd) }
}
func (idleHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return next(ctx, cmds) }
}

func TestEachFeatureIsMeasuredBesideTheBareClient(t *testing.T) {
	opt := redistest.Options(t)
	x := newTrio(t, opt, redistest.UniqueKey(t, "features"))
	ctx := context.WithoutCancel(t.Context())

	clone := *opt
	node := conntrack.NewTracker(conntrack.Config{}).NewNode(&clone)
	tracked := redis.NewClient(&clone)
	(&conntrack.Hook{Node: node}).Install(tracked, nil, nil)
	node.Bind(tracked)
	defer func() { node.Close(); _ = tracked.Close() }()
	heard := newTrio(t, opt, x.key, managed.WithEventHandler(func(hooks.Event) {})).managed
	shown := newTrio(t, opt, x.key).managed
	page, err := dashboard.New(shown.PoolMonitor())
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	server := httptest.NewServer(page)
	defer server.Close()
	resp, err := http.Get(server.URL + "/?get=stream")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the page's events: %s", resp.Status)
	}
	go func() { // who looks at the page
		for buf := make([]byte, 4096); ; {
			if _, err := resp.Body.Read(buf); err != nil {
				return
			}
		}
	}()
	scraped, collected := newTrio(t, opt, x.key).managed, newTrio(t, opt, x.key).managed
	collector, err := prom.NewCollector(scraped.PoolMonitor(), "bench")
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector)
	producer, err := otel.NewProducer(collected.PoolMonitor(), "bench")
	if err != nil {
		t.Fatal(err)
	}
	reader := metric.NewManualReader(metric.WithProducer(producer))
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	defer func() { _ = provider.Shutdown(ctx) }()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		every := time.NewTicker(time.Second)
		defer every.Stop()
		for {
			if _, err := registry.Gather(); err != nil {
				t.Error(err)
			}
			if err := reader.Collect(ctx, &metricdata.ResourceMetrics{}); err != nil {
				t.Error(err)
			}
			select {
			case <-every.C:
			case <-stop:
				return
			}
		}
	}()
	hooked := newTrio(t, opt, x.key).managed
	hooked.AddHook(idleHook{})
	awaitSteadyState()
	var table strings.Builder
	fmt.Fprintf(&table, "One run of %d rounds of 3 x %v for each line, %s, %d processors, GET of 64 B.\n\n%s", *rounds, *slice, runtime.Version(), runtime.GOMAXPROCS(0), heading)
	for _, n := range []int{8, 64} {
		for _, f := range []struct {
			name string
			c    redis.Cmdable
		}{{"tracked connections", tracked}, {"+ retry and monitor: a managed client", x.managed}, {"+ an event handler", heard}, {"+ the page open", shown}, {"+ a Prometheus collector, gathered each second", scraped}, {"+ an OTel producer, collected each second", collected}, {"+ a hook that does nothing", hooked}} {
			get := func() error { return f.c.Get(ctx, x.key).Err() }
			rs := pair(loop(t, n, x.ways["get"].bare(x.bare)), loop(t, n, get), loop(t, n, x.ways["get"].bare(x.control)))
			fmt.Fprintf(&table, "| %s, %s | %s | %s | %s | %s | %s |\n", f.name, goroutines(n), estimated(rs, throughput).ratio(), estimated(rs, noise).ratio(),
				estimated(rs, cpuTime).ratio(), estimated(rs, cpuNoise).ratio(), estimated(rs, moreAllocs).count())
		}
	}
	t.Logf("\n%s", table.String())
	if *write {
		replaceTable(t, "../../docs/PERFORMANCE.md", "the table of features", table.String())
	}
}

// A managed client's pool hands out its connections in turn, so one caller uses all of them, and each
// is colder in the caches of both processes than the one that a bare client uses all the time.
func TestTheOrderOfThePoolIsMeasuredBesideTheBareClient(t *testing.T) {
	const open = 20
	opt := redistest.Options(t)
	opt.PoolSize, opt.MinIdleConns = open, open
	x := newTrio(t, opt, redistest.UniqueKey(t, "order"))
	inTurn := *opt
	inTurn.PoolFIFO = true
	fifo := redis.NewClient(&inTurn)
	defer func() { _ = fifo.Close() }()
	for _, c := range []redis.UniversalClient{x.bare, x.control, x.managed, fifo} {
		redistest.Eventually(t, "all connections are open", 10*time.Second, func() bool { return c.PoolStats().TotalConns == open })
	}
	awaitSteadyState()
	var table strings.Builder
	fmt.Fprintf(&table, "One run of %d rounds of 3 x %v for each line, %s, %d processors, GET of 64 B, %d open connections, 1 caller.\n\n%s", *rounds, *slice, runtime.Version(), runtime.GOMAXPROCS(0), open,
		strings.ReplaceAll(heading, "managed", "this"))
	for _, f := range []struct {
		name string
		c    redis.Cmdable
	}{{"a bare client with `PoolFIFO`", fifo}, {"a managed client", x.managed}} {
		rs := pair(loop(t, 1, x.ways["get"].bare(x.bare)), loop(t, 1, func() error { return f.c.Get(t.Context(), x.key).Err() }), loop(t, 1, x.ways["get"].bare(x.control)))
		fmt.Fprintf(&table, "| %s | %s | %s | %s | %s | %s |\n", f.name, estimated(rs, throughput).ratio(), estimated(rs, noise).ratio(),
			estimated(rs, cpuTime).ratio(), estimated(rs, cpuNoise).ratio(), estimated(rs, moreAllocs).count())
	}
	t.Logf("\n%s", table.String())
	if *write {
		replaceTable(t, "../../docs/PERFORMANCE.md", "the table of the pool's order", table.String())
	}
}
