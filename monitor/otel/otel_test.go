package otel_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/monitortest"
	"github.com/lifeguard-redis/lifeguard/monitor/otel"
)

// watched is a Monitor shown to a provider with a reader that is asked by hand.
type watched struct {
	reader *sdk.ManualReader
}

func watch(t testing.TB, m *monitor.Monitor, client string, opts ...otel.Option) watched {
	t.Helper()
	p, err := otel.NewProducer(m, client, opts...)
	if err != nil {
		t.Fatal(err)
	}
	reader := sdk.NewManualReader(sdk.WithProducer(p))
	provider := sdk.NewMeterProvider(sdk.WithReader(reader))
	t.Cleanup(func() { _ = provider.Shutdown(bg); _ = p.Close() })
	return watched{reader}
}

func (w watched) collect(t testing.TB) metricdata.ResourceMetrics {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := w.reader.Collect(bg, &rm); err != nil {
		t.Fatal(err)
	}
	return rm
}

// lines writes every point as "name{attributes}" and "kind value".
func (w watched) lines(t testing.TB) map[string]string {
	t.Helper()
	got := map[string]string{}
	rm := w.collect(t)
	for _, sm := range rm.ScopeMetrics {
		for _, m := range sm.Metrics {
			put := func(attrs attribute.Set, format string, a ...any) {
				var kvs []string
				for _, kv := range attrs.ToSlice() {
					key := strings.NewReplacer("db.client.connection.", "", "lifeguard.", "", "db.", "").Replace(string(kv.Key))
					kvs = append(kvs, key+"="+kv.Value.String())
				}
				key := sorted(m.Name + " " + strings.Join(kvs, " "))
				if _, twice := got[key]; twice {
					t.Errorf("twice: %s", key)
				}
				got[key] = fmt.Sprintf(format, a...) + " " + m.Unit
			}
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					put(p.Attributes, "%s %d", sumKind(d.IsMonotonic), p.Value)
				}
			case metricdata.Sum[float64]:
				for _, p := range d.DataPoints {
					put(p.Attributes, "%s %v", sumKind(d.IsMonotonic), p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range d.DataPoints {
					put(p.Attributes, "gauge %d", p.Value)
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					var sum uint64
					for _, n := range p.BucketCounts {
						sum += n
					}
					if sum != p.Count || len(p.BucketCounts) != len(p.Bounds)+1 || p.StartTime.IsZero() || p.Time.Before(p.StartTime) || d.Temporality != metricdata.CumulativeTemporality {
						t.Errorf("%s: %+v", m.Name, p)
					}
					longest, _ := p.Max.Value()
					put(p.Attributes, "histogram %d %.3f max %v in %v", p.Count, p.Sum, longest, p.BucketCounts)
				}
			default:
				t.Errorf("%s is a %T", m.Name, d)
			}
		}
	}
	return got
}

func sumKind(monotonic bool) string {
	if monotonic {
		return "counter"
	}
	return "updown"
}

func compare(t testing.TB, got, want map[string]string) {
	t.Helper()
	for k, v := range want {
		if k = sorted(k); got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
}

func none(t testing.TB, got map[string]string, prefixes ...string) {
	t.Helper()
	for k, v := range got {
		for _, p := range prefixes {
			if strings.HasPrefix(k, p) {
				t.Errorf("%s is %s: it is not known", k, v)
			}
		}
	}
}

func TestEveryNumberIsShownUnderItsName(t *testing.T) {
	w := watch(t, monitortest.New(t, monitortest.Known()), "cache", otel.WithBuckets(5*time.Millisecond, time.Second))
	const redisAt = "server.address=a server.port=1 system.name=redis"
	three := "histogram 3 3.033 max 3 in [1 1 1] s"
	want := map[string]string{
		"db.client.connection.count pool.name=cache/main state=idle " + redisAt:        "updown 2 {connection}",
		"db.client.connection.count pool.name=cache/main state=used " + redisAt:        "updown 7 {connection}",
		"db.client.connection.count pool.name=cache/pipeline state=idle " + redisAt:    "updown 3 {connection}",
		"db.client.connection.count pool.name=cache/pipeline state=used " + redisAt:    "updown 1 {connection}",
		"db.client.connection.count pool.name=cache/pubsub state=used " + redisAt:      "updown 2 {connection}",
		"db.client.connection.max pool.name=cache/main " + redisAt:                     "updown 10 {connection}",
		"db.client.connection.idle.max pool.name=cache/main " + redisAt:                "updown 8 {connection}",
		"db.client.connection.idle.min pool.name=cache/main " + redisAt:                "updown 2 {connection}",
		"db.client.connection.max pool.name=cache/pipeline " + redisAt:                 "updown 5 {connection}",
		"db.client.connection.pending_requests pool.name=cache/main " + redisAt:        "updown 3 {request}",
		"db.client.connection.pending_requests pool.name=cache/pipeline " + redisAt:    "updown 1 {request}",
		"db.client.connection.timeouts pool.name=cache reason=ctx " + redisAt:          "counter 2 {timeout}",
		"db.client.connection.timeouts pool.name=cache reason=timeout " + redisAt:      "counter 4 {timeout}",
		"db.client.connection.create_time pool.name=cache " + redisAt:                  three,
		"db.client.connection.wait_time pool.name=cache " + redisAt:                    three,
		"db.client.connection.use_time pool.name=cache " + redisAt:                     three,
		"db.client.operation.duration pool.name=cache " + redisAt:                      three,
		"lifeguard.connection.opened pool.name=cache " + redisAt:                       "counter 25 {connection}",
		"lifeguard.connection.closed pool.name=cache reason=age " + redisAt:            "counter 5 {connection}",
		"lifeguard.connection.closed pool.name=cache reason=error " + redisAt:          "counter 7 {connection}",
		"lifeguard.dial.active pool.name=cache " + redisAt:                             "updown 1 {dial}",
		"lifeguard.dial.errors pool.name=cache " + redisAt:                             "counter 8 {error}",
		"lifeguard.node.health_changes pool.name=cache " + redisAt + " to=unreachable": "counter 22 {change}",
		"lifeguard.server.max_clients pool.name=cache " + redisAt:                      "gauge 100 {client}",
		"lifeguard.server.clients pool.name=cache " + redisAt:                          "gauge 42 {client}",
		"lifeguard.pool.requests pool.name=cache result=hit " + redisAt:                "counter 500 {request}",
		"lifeguard.pool.requests pool.name=cache result=miss " + redisAt:               "counter 15 {request}",
		"lifeguard.fleet.instances instance_state=alive pool.name=cache " + redisAt:    "updown 1 {instance}",
		"lifeguard.fleet.instances instance_state=lost pool.name=cache " + redisAt:     "updown 44 {instance}",
		"lifeguard.lease.overdue pool.name=cache " + redisAt:                           "updown 1 {lease}",
		"lifeguard.connection.in_use.peak pool.name=cache " + redisAt:                  "gauge 12 {connection}",
		"lifeguard.connection.demand.peak pool.name=cache " + redisAt:                  "gauge 20 {request}",
		"lifeguard.lease.count pool.name=cache " + redisAt:                             "updown 4 {lease}",
		"lifeguard.lease.leaks pool.name=cache " + redisAt:                             "counter 21 {lease}",
		"lifeguard.retry.count pool.name=cache reason=timeout " + redisAt:              "counter 13 {retry}",
		"lifeguard.retry.budget_refusals pool.name=cache " + redisAt:                   "counter 16 {retry}",
		"lifeguard.command.unknown_outcomes pool.name=cache " + redisAt:                "counter 14 {command}",
		"lifeguard.breaker.open pool.name=cache " + redisAt:                            "updown 1 {breaker}",
		"lifeguard.breaker.transitions pool.name=cache to=open " + redisAt:             "counter 17 {transition}",
		"lifeguard.breaker.transitions pool.name=cache to=closed " + redisAt:           "counter 18 {transition}",
		"lifeguard.breaker.refusals pool.name=cache " + redisAt:                        "counter 19 {call}",
		"lifeguard.pool.size.suggested pool.name=cache " + redisAt:                     "gauge 10 {connection}",
		// May belong to no node: there from the beginning, for the first increase to be seen.
		"lifeguard.retry.budget_refusals pool.name=cache system.name=redis":         "counter 0 {retry}",
		"lifeguard.command.unknown_outcomes pool.name=cache system.name=redis":      "counter 0 {command}",
		"lifeguard.breaker.open pool.name=cache system.name=redis":                  "updown 0 {breaker}",
		"lifeguard.breaker.transitions pool.name=cache to=open system.name=redis":   "counter 0 {transition}",
		"lifeguard.breaker.transitions pool.name=cache to=closed system.name=redis": "counter 0 {transition}",
		"lifeguard.breaker.refusals pool.name=cache system.name=redis":              "counter 0 {call}",
		"lifeguard.alert.count pool.name=cache level=warning system.name=redis":     "updown 0 {alert}",
		"lifeguard.alert.count pool.name=cache level=critical system.name=redis":    "updown 0 {alert}",
		"lifeguard.monitor.gaps pool.name=cache system.name=redis":                  "gauge 0 {gap}",
	}
	got := w.lines(t)
	for k, v := range want {
		if s := sorted(k); got[s] != v {
			t.Errorf("%s is %q, want %q", s, got[s], v)
		}
		delete(got, sorted(k))
	}
	for k, v := range got {
		t.Errorf("%s is %s: nobody expects it", k, v)
	}
}

// sorted sorts the attributes of a line.
func sorted(line string) string {
	parts := strings.Split(line, " ")
	slices.Sort(parts[1:])
	return strings.Join(parts, " ")
}

// The names, units and kinds are those of the conventions, as the package that is
// generated from them has them.
func TestTheConventionsAreKept(t *testing.T) {
	rm := watch(t, monitortest.New(t, monitortest.Known()), "cache").collect(t)
	got := map[string]string{}
	for _, sm := range rm.ScopeMetrics {
		if sm.Scope.Name == "" || !strings.Contains(sm.Scope.SchemaURL, "1.43.0") {
			t.Errorf("scope %+v", sm.Scope)
		}
		for _, m := range sm.Metrics {
			kind := strings.TrimPrefix(fmt.Sprintf("%T", m.Data), "metricdata.")
			if s, ok := m.Data.(metricdata.Sum[int64]); ok {
				kind = sumKind(s.IsMonotonic)
			}
			got[m.Name] = kind + " " + m.Unit
		}
	}
	for _, c := range []struct {
		kind string
		of   interface {
			Name() string
			Unit() string
		}
	}{
		{"updown", dbconv.ClientConnectionCount{}}, {"updown", dbconv.ClientConnectionMax{}}, {"updown", dbconv.ClientConnectionIdleMax{}}, {"updown", dbconv.ClientConnectionIdleMin{}}, {"updown", dbconv.ClientConnectionPendingRequests{}},
		{"counter", dbconv.ClientConnectionTimeouts{}}, {"Histogram[float64]", dbconv.ClientConnectionCreateTime{}},
		{"Histogram[float64]", dbconv.ClientConnectionWaitTime{}}, {"Histogram[float64]", dbconv.ClientConnectionUseTime{}},
		{"Histogram[float64]", dbconv.ClientOperationDuration{}},
	} {
		if want := c.kind + " " + c.of.Unit(); got[c.of.Name()] != want {
			t.Errorf("%s is %q, want %q", c.of.Name(), got[c.of.Name()], want)
		}
		delete(got, c.of.Name())
	}
	for name := range got {
		if !strings.HasPrefix(name, "lifeguard.") {
			t.Errorf("%s is in no convention", name)
		}
	}
}

func TestWhatIsNotKnownIsLeftOut(t *testing.T) {
	src := monitortest.Of(func(s *monitor.Sample) {
		s.Nodes = []monitor.Node{{Name: "/run/redis.sock", Numbers: monitor.Numbers{Main: monitor.Pool{Size: 10, Open: 1, Idle: 1}}}}
		s.Rest.Command = monitortest.Distribution(time.Millisecond)
		s.Gap("x", "nodes.command", "retries", "wait")
	})
	m := monitortest.New(t, src)
	w := watch(t, m, "c", otel.WithAttributes(attribute.String("team", "x")))
	got := w.lines(t)
	compare(t, got, map[string]string{
		"lifeguard.lease.leaks pool.name=c system.name=redis server.address=/run/redis.sock team=x":         "counter 0 {lease}",
		"db.client.operation.duration pool.name=c system.name=redis team=x":                                 "histogram 1 0.001 max 0.001 in [1 0 0 0 0 0 0 0 0 0] s",
		"db.client.connection.max pool.name=c/main system.name=redis server.address=/run/redis.sock team=x": "updown 10 {connection}",
	})
	none(t, got, "lifeguard.retry.count", "db.client.connection.wait_time", "lifeguard.server", "lifeguard.alert.active")
	src.Set(func(*monitor.Sample) { panic("broken") })
	none(t, watch(t, monitortest.New(t, src), "c").lines(t), "db.client.connection.count", "db.client.connection.max", "lifeguard.lease.count")
}

func TestAHistogramThatBeganAnewSaysSo(t *testing.T) {
	src := &monitortest.Source{}
	m := monitortest.New(t, src)
	count := func(n int) {
		src.Set(func(s *monitor.Sample) {
			s.Nodes = []monitor.Node{{Name: "a:1", Numbers: monitor.Numbers{Dial: monitortest.Distribution(slices.Repeat([]time.Duration{time.Second}, n)...)}}}
		})
	}
	p, err := otel.NewProducer(m, "c")
	if err != nil {
		t.Fatal(err)
	}
	start := func() (start, at time.Time) {
		sms, err := p.Produce(bg)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range sms[0].Metrics {
			if m.Name == "db.client.connection.create_time" {
				d := m.Data.(metricdata.Histogram[float64]).DataPoints[0]
				return d.StartTime, d.Time
			}
		}
		t.Fatal("no histogram")
		return
	}
	count(3)
	first, _ := start()
	count(5)
	second, at := start()
	if !second.Equal(first) {
		t.Errorf("it goes on, but %v became %v", first, second)
	}
	count(1)
	if third, _ := start(); !third.Equal(at) {
		t.Errorf("it began anew, but at %v, not %v", third, at)
	}
}

func TestSeveralClientsShareAProvider(t *testing.T) {
	m := monitortest.New(t, monitortest.Known())
	one, err := otel.NewProducer(m, "one")
	if err != nil {
		t.Fatal(err)
	}
	two, err := otel.NewProducer(m, "two")
	if err != nil {
		t.Fatal(err)
	}
	reader := sdk.NewManualReader(sdk.WithProducer(one), sdk.WithProducer(two))
	provider := sdk.NewMeterProvider(sdk.WithReader(reader))
	defer func() { _ = provider.Shutdown(bg) }()
	at := "server.address=a server.port=1 system.name=redis"
	compare(t, watched{reader}.lines(t), map[string]string{
		"lifeguard.lease.count pool.name=one " + at:        "updown 4 {lease}",
		"lifeguard.lease.count pool.name=two " + at:        "updown 4 {lease}",
		"db.client.operation.duration pool.name=two " + at: "histogram 3 3.033 max 3 in [0 1 0 1 0 0 0 1 0 0] s",
	})
}

var sumAndMax = regexp.MustCompile(` [\d.]+ max .* in `)

// One call registers everything. The sums and maxima of distributions are within 6.25 % of
// the producer's, and the buckets the same.
func TestRegisterExportsWhatTheProducerDoes(t *testing.T) {
	m := monitortest.New(t, monitortest.Known())
	reader := sdk.NewManualReader()
	provider := sdk.NewMeterProvider(sdk.WithReader(reader))
	defer func() { _ = provider.Shutdown(bg) }()
	reg, err := otel.Register(provider, m, "c")
	if err != nil {
		t.Fatal(err)
	}
	want, histograms := watch(t, m, "c").lines(t), 0
	for k, v := range want {
		if short := sumAndMax.ReplaceAllString(v, " in "); strings.HasPrefix(v, "histogram") {
			want[k], histograms = short, histograms+1
		}
	}
	for range 2 { // the second collection records nothing twice
		got := watched{reader}.lines(t)
		for k, v := range got {
			got[k] = sumAndMax.ReplaceAllString(v, " in ")
		}
		if !maps.Equal(got, want) || len(got) < 30 || histograms != 4 {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	}
	for range 2 {
		if err := reg.Unregister(); err != nil {
			t.Error(err)
		}
	}
	for k, v := range (watched{reader}).lines(t) {
		if !strings.HasPrefix(v, "histogram") { // a synchronous one keeps what it has
			t.Errorf("after Unregister: %s %s", k, v)
		}
	}
}

func TestADistributionThatGrowsIsRecordedOnceByRegister(t *testing.T) {
	src := &monitortest.Source{}
	m := monitortest.New(t, src)
	has := func(n int) {
		src.Set(func(s *monitor.Sample) {
			s.Nodes = []monitor.Node{{Name: "a:1", Numbers: monitor.Numbers{Command: monitortest.Distribution(slices.Repeat([]time.Duration{time.Second / 2}, n)...)}}}
		})
	}
	reader := sdk.NewManualReader()
	provider := sdk.NewMeterProvider(sdk.WithReader(reader))
	defer func() { _ = provider.Shutdown(bg) }()
	reg, err := otel.Register(provider, m, "c")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reg.Unregister() }()
	for _, step := range []struct{ n, want int }{{2, 2}, {5, 5}, {-1, 5}, {6, 6}, {1, 7}} { // -1: not known; 1: it began anew
		if step.n < 0 {
			src.Set(func(*monitor.Sample) { panic("broken") })
		} else {
			has(step.n)
		}
		got := watched{reader}.lines(t)[sorted("db.client.operation.duration pool.name=c server.address=a server.port=1 system.name=redis")]
		if !strings.HasPrefix(got, fmt.Sprintf("histogram %d ", step.want)) {
			t.Errorf("%d: %q, want %d", step.n, got, step.want)
		}
	}
}

// TestOperationsAreTimedByTheirNameAndError holds the attributes that the semantic
// conventions for Redis ask for against calls of a real server.
func TestOperationsAreTimedByTheirNameAndError(t *testing.T) {
	srv := redistest.Start(t)
	for _, way := range []string{"Register", "NewProducer"} {
		t.Run(way, func(t *testing.T) {
			opt := srv.Options()
			opt.MaxRetries, opt.DB = -1, 2
			rdb := redis.NewClient(opt)
			defer func() { _ = rdb.Close() }()
			m := monitortest.New(t, monitor.FromClient(rdb))
			rdb.Ping(bg) // the handshake's commands go through hooks, too
			reader := sdk.NewManualReader()
			var end func() error
			if way == "Register" {
				provider := sdk.NewMeterProvider(sdk.WithReader(reader))
				defer func() { _ = provider.Shutdown(bg) }()
				reg, err := otel.Register(provider, m, "c", otel.WithOperations(rdb))
				if err != nil {
					t.Fatal(err)
				}
				end = reg.Unregister
			} else {
				p, err := otel.NewProducer(m, "c", otel.WithOperations(rdb))
				if err != nil {
					t.Fatal(err)
				}
				reader = sdk.NewManualReader(sdk.WithProducer(p))
				provider := sdk.NewMeterProvider(sdk.WithReader(reader))
				defer func() { _ = provider.Shutdown(bg) }()
				end = p.Close
			}
			gone, cancel := context.WithCancel(bg)
			cancel()
			rdb.Set(bg, "k", "v", 0)
			rdb.Get(bg, "k")
			rdb.Get(bg, "missing") // no error
			rdb.LPush(bg, "k", 1)
			rdb.Get(gone, "k")
			rdb.Do(bg, "SET secret hunter2")
			rdb.Do(bg, "hunter2")
			rdb.Eval(bg, "return redis.error_reply('My words')", nil)
			get := func(p redis.Pipeliner) error { p.Get(bg, "k"); p.Get(bg, "k"); return nil }
			_, _ = rdb.Pipelined(bg, get)
			_, _ = rdb.TxPipelined(bg, get)
			_, _ = rdb.Pipelined(bg, func(p redis.Pipeliner) error { p.Get(bg, "k"); p.LPush(bg, "k", 1); return nil })
			host, port, _ := net.SplitHostPort(srv.Addr())
			count := func() map[string]string {
				got := map[string]string{}
				for k, v := range (watched{reader}).lines(t) {
					if strings.HasPrefix(k, "db.client.operation.duration") {
						got[k] = strings.Join(strings.Fields(v)[:2], " ")
					}
				}
				return got
			}
			want := map[string]string{}
			for attrs, n := range map[string]int{"set": 1, "get": 2, "lpush error.type=WRONGTYPE response.status_code=WRONGTYPE": 1, "get error.type=canceled": 1,
				"_OTHER error.type=ERR response.status_code=ERR": 2, "eval error.type=_OTHER": 1, "PIPELINE get": 1, "MULTI get": 1,
				"PIPELINE error.type=WRONGTYPE response.status_code=WRONGTYPE": 1} {
				want[sorted("db.client.operation.duration pool.name=c namespace=2 system.name=redis server.address="+host+" server.port="+port+" operation.name="+attrs)] = fmt.Sprintf("histogram %d", n)
			}
			got := count() // those of the handshake as well: go-redis sends them by the hooks
			compare(t, got, want)
			for k := range got {
				if strings.Contains(k, "hunter2") {
					t.Errorf("a secret: %s", k)
				}
			}
			if err := end(); err != nil {
				t.Error(err)
			}
			before := count()
			rdb.Get(bg, "k")
			if after := count(); !maps.Equal(before, after) {
				t.Errorf("after the end: %v, then %v", before, after)
			}
		})
	}
}

func TestARealClientIsShownAsItsServerSeesIt(t *testing.T) {
	srv := redistest.Start(t)
	opt := srv.Options()
	opt.PoolSize, opt.PoolTimeout, opt.MaxRetries = 4, 20*time.Millisecond, -1
	rdb := redis.NewClient(opt)
	defer func() { _ = rdb.Close() }()
	src := monitor.FromClient(rdb)
	rdb.AddHook(src.Hook())
	w := watch(t, monitortest.New(t, src), "real")
	for range 4 {
		conn := rdb.Conn()
		defer func() { _ = conn.Close() }()
		if err := conn.Ping(bg).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := rdb.Ping(bg).Err(); !errors.Is(err, redis.ErrPoolTimeout) {
		t.Fatalf("want a pool timeout, got %v", err)
	}
	host, port, err := net.SplitHostPort(srv.Addr())
	if err != nil {
		t.Fatal(err)
	}
	got := w.lines(t)
	at := fmt.Sprintf("server.address=%s server.port=%s system.name=redis", host, port)
	for k, v := range map[string]string{
		"db.client.connection.count state=used pool.name=real/main ":   fmt.Sprintf("updown %d {connection}", srv.NumClients(t)),
		"db.client.connection.max pool.name=real/main ":                "updown 4 {connection}",
		"db.client.connection.timeouts pool.name=real reason=timeout ": "counter 1 {timeout}",
		"lifeguard.connection.opened pool.name=real ":                  "counter 4 {connection}",
	} {
		if k = sorted(k + at); got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
	for k, n := range map[string]string{"db.client.operation.duration": "histogram 5 ", "db.client.connection.create_time": "histogram 4 "} {
		if v := got[sorted(k+" pool.name=real "+at)]; !strings.HasPrefix(v, n) {
			t.Errorf("%s is %q", k, v)
		}
	}
	none(t, got, "lifeguard.retry", "lifeguard.breaker", "lifeguard.lease", "db.client.connection.wait_time", "db.client.connection.use_time")
}

func TestWhatCannotBeIsRefused(t *testing.T) {
	m := monitortest.New(t, monitortest.Known())
	mp := noop.NewMeterProvider()
	register := func(client string, opts ...otel.Option) error {
		_, err := otel.Register(mp, m, client, opts...)
		return err
	}
	_, noProvider := otel.Register(nil, m, "c")
	_, noMonitor := otel.Register(mp, nil, "c")
	_, noMonitor2 := otel.NewProducer(nil, "c")
	_, noName := otel.NewProducer(m, "")
	for _, c := range []struct {
		want string
		err  error
	}{
		{"the MeterProvider is nil", noProvider},
		{"the Monitor is nil", noMonitor},
		{"the Monitor is nil", noMonitor2},
		{`the client is ""`, noName},
		{"of valid UTF-8", register("\xff")},
		{"an option is nil", register("c", nil)},
		{"there are none", register("c", otel.WithBuckets())},
		{"1s after 1s", register("c", otel.WithBuckets(time.Second, time.Second))},
		{"WithOperations: the client is nil", register("c", otel.WithOperations(nil))},
		{"WithOperations: the client is nil", register("c", otel.WithOperations((*redis.Client)(nil)))},
		{`"db.operation.name" is taken`, register("c", otel.WithAttributes(attribute.String("db.operation.name", "x")))},
		{`"server.port" is taken`, register("c", otel.WithAttributes(attribute.Int("server.port", 1)))},
		{`"lifeguard.reason" is taken`, register("c", otel.WithAttributes(attribute.String("lifeguard.reason", "x")))},
		{`"" has no name`, register("c", otel.WithAttributes(attribute.KeyValue{}))},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) || !strings.HasPrefix(c.err.Error(), "lifeguard/monitor/otel: ") {
			t.Errorf("%s: %v", c.want, c.err)
		}
	}
}

func TestCollectionsAtTheSameTimeAreSafe(t *testing.T) {
	w := watch(t, monitortest.New(t, monitortest.Known()), "c")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				var rm metricdata.ResourceMetrics
				if err := w.reader.Collect(bg, &rm); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkOperations(b *testing.B) {
	h := &hooked{}
	provider := sdk.NewMeterProvider(sdk.WithReader(sdk.NewManualReader()))
	defer func() { _ = provider.Shutdown(bg) }()
	if _, err := otel.Register(provider, monitortest.New(b, monitortest.Known()), "c", otel.WithOperations(h)); err != nil {
		b.Fatal(err)
	}
	cmd := redis.NewCmd(bg, "get", "k")
	call := h.ProcessHook(func(context.Context, redis.Cmder) error { return nil })
	b.ReportAllocs()
	for b.Loop() {
		_ = call(bg, cmd)
	}
}

// hooked is a client that does nothing but run its hook.
type hooked struct{ redis.Hook }

func (h *hooked) AddHook(hook redis.Hook) { h.Hook = hook }
