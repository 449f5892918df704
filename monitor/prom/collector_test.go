package prom_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/monitortest"
	"github.com/lifeguard-redis/lifeguard/monitor/prom"
)

// scrape returns what Prometheus would get, line by line, without comments.
func scrape(t testing.TB, reg *prometheus.Registry) map[string]string {
	t.Helper()
	srv := httptest.NewServer(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	defer srv.Close()
	client := srv.Client()
	defer client.CloseIdleConnections()
	resp, err := client.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v %s: %s", err, resp.Status, b)
	}
	lines := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") {
			i := strings.LastIndex(line, " ")
			lines[line[:i]] = line[i+1:]
		}
	}
	return lines
}

func lint(t testing.TB, reg *prometheus.Registry) {
	t.Helper()
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("promlint: %s: %s", p.Metric, p.Text)
	}
}

func registry(t testing.TB, cs ...prometheus.Collector) *prometheus.Registry {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	for _, c := range cs {
		if err := reg.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	return reg
}

func want(t testing.TB, got, want map[string]string) {
	t.Helper()
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
}

// none checks that no line begins with any of the prefixes.
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
	synctest.Test(t, func(t *testing.T) {
		m := monitortest.New(t, monitortest.Known(), monitor.Threshold{Name: "busy", Metric: monitor.PoolUse, Limit: 0.5})
		defer func() { _ = m.Close() }()
		c := newCollector(t, m, "cache", prom.WithBuckets(5*time.Millisecond, time.Second))
		time.Sleep(monitortest.Period)
		synctest.Wait() // the thresholds have been looked at
		reg := registry(t, c)
		lint(t, reg)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				var labels []string
				for _, l := range m.GetLabel() {
					labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
				}
				key := strings.TrimPrefix(f.GetName(), "redis_client_") + "{" + strings.Join(labels, ",") + "}"
				switch {
				case m.Counter != nil:
					got[key] = fmt.Sprint("counter ", m.Counter.GetValue())
				case m.Gauge != nil:
					got[key] = fmt.Sprint("gauge ", m.Gauge.GetValue())
				case m.Histogram != nil:
					h := m.Histogram
					got[key] = fmt.Sprintf("histogram %d %.3f", h.GetSampleCount(), h.GetSampleSum())
					for _, b := range h.GetBucket() {
						got[key] += fmt.Sprintf(" %v:%d", b.GetUpperBound(), b.GetCumulativeCount())
					}
				}
			}
		}
		const at = `{client="cache",node="a:1"}`
		three := "histogram 3 3.033 0.005:1 1:2"
		all := map[string]string{
			`connections{client="cache",node="a:1",pool="main",state="idle"}`:         "gauge 2",
			`connections{client="cache",node="a:1",pool="main",state="in_use"}`:       "gauge 7",
			`connections{client="cache",node="a:1",pool="pipeline",state="idle"}`:     "gauge 3",
			`connections{client="cache",node="a:1",pool="pipeline",state="in_use"}`:   "gauge 1",
			`connections{client="cache",node="a:1",pool="pubsub",state="subscribed"}`: "gauge 2",
			`connections_idle_max{client="cache",node="a:1",pool="main"}`:             "gauge 8",
			`connections_idle_min{client="cache",node="a:1",pool="main"}`:             "gauge 2",
			`connections_limit{client="cache",node="a:1",pool="main"}`:                "gauge 10",
			`connections_limit{client="cache",node="a:1",pool="pipeline"}`:            "gauge 5",
			`waiting_callers{client="cache",node="a:1",pool="main"}`:                  "gauge 3",
			`waiting_callers{client="cache",node="a:1",pool="pipeline"}`:              "gauge 1",
			`connections_opened_total` + at:                                           "counter 25",
			`connections_closed_total{client="cache",node="a:1",reason="age"}`:        "counter 5",
			`connections_closed_total{client="cache",node="a:1",reason="error"}`:      "counter 7",
			`dials_in_progress` + at: "gauge 1",
			`dial_errors_total` + at: "counter 8",
			`health_changes_total{client="cache",node="a:1",to="unreachable"}`: "counter 22",
			`server_max_clients` + at: "gauge 100",
			`server_clients` + at:     "gauge 42",
			`pool_requests_total{client="cache",node="a:1",result="hit"}`:  "counter 500",
			`pool_requests_total{client="cache",node="a:1",result="miss"}`: "counter 15",
			`leases_overdue` + at: "gauge 1",
			`instances{client="cache",instance_state="alive",node="a:1"}`:      "gauge 1",
			`instances{client="cache",instance_state="lost",node="a:1"}`:       "gauge 44",
			`pool_timeouts_total{client="cache",node="a:1",reason="timeout"}`:  "counter 4",
			`pool_timeouts_total{client="cache",node="a:1",reason="ctx"}`:      "counter 2",
			`peak_connections_in_use` + at:                                     "gauge 12",
			`peak_demand` + at:                                                 "gauge 20",
			`leases` + at:                                                      "gauge 4",
			`lease_leaks_total` + at:                                           "counter 21",
			`retries_total{client="cache",node="a:1",reason="timeout"}`:        "counter 13",
			`retry_budget_refusals_total` + at:                                 "counter 16",
			`unknown_outcomes_total` + at:                                      "counter 14",
			`breakers_open` + at:                                               "gauge 1",
			`breaker_transitions_total{client="cache",node="a:1",to="open"}`:   "counter 17",
			`breaker_transitions_total{client="cache",node="a:1",to="closed"}`: "counter 18",
			`breaker_refusals_total` + at:                                      "counter 19",
			// May belong to no node: there from the beginning, for the first increase to be seen.
			`retry_budget_refusals_total{client="cache",node=""}`:                                    "counter 0",
			`unknown_outcomes_total{client="cache",node=""}`:                                         "counter 0",
			`breakers_open{client="cache",node=""}`:                                                  "gauge 0",
			`breaker_transitions_total{client="cache",node="",to="open"}`:                            "counter 0",
			`breaker_transitions_total{client="cache",node="",to="closed"}`:                          "counter 0",
			`breaker_refusals_total{client="cache",node=""}`:                                         "counter 0",
			`dial_duration_seconds` + at:                                                             three,
			`acquire_wait_duration_seconds` + at:                                                     three,
			`lease_hold_duration_seconds` + at:                                                       three,
			`command_duration_seconds` + at:                                                          three,
			`suggested_pool_size` + at:                                                               "gauge 10",
			`alerts_active{client="cache",level="warning"}`:                                          "gauge 1",
			`alerts_active{client="cache",level="critical"}`:                                         "gauge 1", // the open breaker
			`alert_active{alert="busy",client="cache",level="warning",metric="pool_use",node="a:1"}`: "gauge 1",
			`alert_active{alert="breaker_open_critical",client="cache",level="critical",metric="breaker_open",node="a:1"}`: "gauge 1",
			`monitor_gaps{client="cache"}`: "gauge 0",
		}
		want(t, got, all)
		for k, v := range got {
			if _, ok := all[k]; !ok {
				t.Errorf("%s is %s: nobody expects it", k, v)
			}
		}
	})
}

// quiet keeps what is expected out of the log.
func TestWhatIsNotKnownIsLeftOut(t *testing.T) {
	src := monitortest.Of(func(s *monitor.Sample) {
		n := monitor.Numbers{Main: monitor.Pool{Size: 10, Open: 1, Idle: 1}}
		s.Nodes = []monitor.Node{{Name: "a:1", Numbers: n}, {Name: "b:1", Numbers: n}}
		s.Rest.Command = monitortest.Distribution(time.Millisecond)
		s.Gap("x", "nodes.command", "retries", "breaker_closed", "wait")
	})
	got := scrape(t, registry(t, newCollector(t, monitortest.New(t, src), "c")))
	want(t, got, map[string]string{
		`redis_client_connections{client="c",node="b:1",pool="main",state="idle"}`:         "1",
		`redis_client_lease_leaks_total{client="c",node="a:1"}`:                            "0", // known to be none
		`redis_client_command_duration_seconds_count{client="c",node=""}`:                  "1",
		`redis_client_dial_duration_seconds_bucket{client="c",node="a:1",le="+Inf"}`:       "0",
		`redis_client_connections{client="c",node="a:1",pool="pubsub",state="subscribed"}`: "0",
		`redis_client_monitor_gaps{client="c"}`:                                            "1",
	})
	none(t, got, `redis_client_command_duration_seconds_count{client="c",node="a`, "redis_client_retries", "redis_client_breaker_transitions", "redis_client_acquire_wait",
		"redis_client_server_", `redis_client_lease_leaks_total{client="c",node=""`)
	for k := range got {
		if strings.Contains(k, `pool="pipeline"`) {
			t.Errorf("%s: there is no such pool", k)
		}
	}
	src.Set(func(*monitor.Sample) { panic("broken") })
	got = scrape(t, registry(t, newCollector(t, monitortest.New(t, src), "c")))
	none(t, got, "redis_client_connections{", "redis_client_connections_limit", "redis_client_leases", "redis_client_peak", "redis_client_suggested")
}

func TestSeveralClientsShareARegistry(t *testing.T) {
	m := monitortest.New(t, monitortest.Known())
	reg := registry(t, newCollector(t, m, "one", prom.WithLabels(prometheus.Labels{"team": "x"})), newCollector(t, m, "two", prom.WithLabels(prometheus.Labels{"team": "y"})))
	got := scrape(t, reg)
	want(t, got, map[string]string{
		`redis_client_leases{client="one",node="a:1",team="x"}`: "4",
		`redis_client_leases{client="two",node="a:1",team="y"}`: "4",
	})
	lint(t, reg)
	var twice prometheus.AlreadyRegisteredError
	if err := reg.Register(newCollector(t, m, "two", prom.WithLabels(prometheus.Labels{"team": "y"}))); !errors.As(err, &twice) {
		t.Errorf("one name for two clients: %v", err)
	}
}

func peakOf(t testing.TB, c prometheus.Collector) float64 {
	t.Helper()
	for _, f := range gather(t, c) {
		if f.GetName() == "redis_client_peak_connections_in_use" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatal("no peak")
	return 0
}

func TestAPeakBetweenTwoScrapesIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &monitortest.Source{}
		inUse := func(n int) {
			src.Set(func(s *monitor.Sample) {
				s.Nodes = []monitor.Node{{Name: "a:1", Numbers: monitor.Numbers{Main: monitor.Pool{Size: 100, Open: 100, Idle: 100 - n, InUse: n}}}}
			})
		}
		inUse(10)
		m := monitortest.New(t, src, monitor.WithoutDefaults())
		defer func() { _ = m.Close() }()
		c := newCollector(t, m, "c")
		peak := func() float64 { return peakOf(t, c) }
		time.Sleep(time.Second)
		if peak() != 10 {
			t.Error("before")
		}
		inUse(70)
		time.Sleep(monitortest.Period) // the period ends
		inUse(10)
		time.Sleep(monitortest.Period) // and another one
		synctest.Wait()
		if p := peak(); p != 70 {
			t.Errorf("the peak of a past period is forgotten: %v", p)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if p := peak(); p != 10 {
			t.Errorf("it is remembered for ever: %v", p)
		}
	})
}

func TestAPeakIsShownForTwoMinutesWheneverItWas(t *testing.T) {
	for quietPeriods := range 10 {
		synctest.Test(t, func(t *testing.T) {
			src := &monitortest.Source{}
			inUse := func(n int) {
				src.Set(func(s *monitor.Sample) {
					s.Nodes = []monitor.Node{{Name: "a:1", Numbers: monitor.Numbers{Main: monitor.Pool{Size: 100, Open: 100, Idle: 100 - n, InUse: n}}}}
				})
			}
			inUse(10)
			m := monitortest.New(t, src, monitor.WithoutDefaults())
			defer func() { _ = m.Close() }()
			c := newCollector(t, m, "c")
			time.Sleep(time.Duration(quietPeriods)*monitortest.Period + time.Second)
			inUse(70)
			time.Sleep(monitortest.Period)
			inUse(10)
			time.Sleep(4 * monitortest.Period)
			synctest.Wait()
			if got := peakOf(t, c); got != 70 {
				t.Errorf("after %d periods: %v", quietPeriods, got)
			}
		})
	}
}

func TestNamesThatPrometheusDoesNotTakeSpoilNothing(t *testing.T) {
	src := monitortest.Of(func(s *monitor.Sample) {
		monitortest.Node(monitortest.Everything())(s)
		s.Rest = monitortest.Everything()
		s.Nodes[0].Name = ""
		s.Nodes = append(s.Nodes, monitor.Node{Name: "\xff\xfe", Numbers: monitortest.Everything()}, monitor.Node{Name: "�", Numbers: monitortest.Everything()})
		s.Nodes[0].Closed = map[string]uint64{"\xff": 1, "\xfe": 2, "\n\"": 3}
	})
	reg := registry(t, newCollector(t, monitortest.New(t, src), "c"))
	lint(t, reg)
	got := scrape(t, reg)
	want(t, got, map[string]string{
		`redis_client_leases{client="c",node=""}`:        "4",
		`redis_client_leases{client="c",node="unnamed"}`: "4",
		`redis_client_leases{client="c",node="�"}`:       "4",
		`redis_client_leases{client="c",node="�#2"}`:     "4",
	})
}

func TestWhatCannotBeIsRefused(t *testing.T) {
	m := monitortest.New(t, monitortest.Known())
	for name, err := range map[string]error{
		"the Monitor is nil":         second(prom.NewCollector(nil, "c")),
		`the client is ""`:           second(prom.NewCollector(m, "")),
		"of valid UTF-8":             second(prom.NewCollector(m, "\xff")),
		"an option is nil":           second(prom.NewCollector(m, "c", nil)),
		"there are none":             second(prom.NewCollector(m, "c", prom.WithBuckets())),
		"1s after 1s":                second(prom.NewCollector(m, "c", prom.WithBuckets(time.Second, time.Second))),
		"0s after 0s":                second(prom.NewCollector(m, "c", prom.WithBuckets(0))),
		`the label "client" is`:      second(prom.NewCollector(m, "c", prom.WithLabels(prometheus.Labels{"client": "x"}))),
		`the label "reason" is`:      second(prom.NewCollector(m, "c", prom.WithLabels(prometheus.Labels{"reason": "x"}))),
		`"a-b" is no name`:           second(prom.NewCollector(m, "c", prom.WithLabels(prometheus.Labels{"a-b": "x"}))),
		`the label "__x" is`:         second(prom.NewCollector(m, "c", prom.WithLabels(prometheus.Labels{"__x": "x"}))),
		`the value "\xff" of a is n`: second(prom.NewCollector(m, "c", prom.WithLabels(prometheus.Labels{"a": "\xff"}))),
	} {
		if err == nil || !strings.Contains(err.Error(), name) || !strings.HasPrefix(err.Error(), "lifeguard/monitor/prom: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second(_ *prom.Collector, err error) error { return err }

// The server's own CLIENT LIST is the judge.
func TestARealClientIsShownAsItsServerSeesIt(t *testing.T) {
	srv := redistest.Start(t)
	opt := srv.Options()
	opt.PoolSize, opt.PoolTimeout, opt.MaxRetries = 4, 20*time.Millisecond, -1
	rdb := redis.NewClient(opt)
	defer func() { _ = rdb.Close() }()
	src := monitor.FromClient(rdb)
	rdb.AddHook(src.Hook())
	c := newCollector(t, monitortest.New(t, src), "real")
	reg := registry(t, c)
	var held []*redis.Conn
	for range 4 {
		conn := rdb.Conn()
		defer func() { _ = conn.Close() }()
		if err := conn.Ping(bg).Err(); err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	if err := rdb.Ping(bg).Err(); !errors.Is(err, redis.ErrPoolTimeout) {
		t.Fatalf("want a pool timeout, got %v", err)
	}
	node := fmt.Sprintf(`{client="real",node=%q`, srv.Addr())
	got := scrape(t, reg)
	want(t, got, map[string]string{
		`redis_client_connections` + node + `,pool="main",state="in_use"}`:  fmt.Sprint(srv.NumClients(t)),
		`redis_client_connections` + node + `,pool="main",state="idle"}`:    "0",
		`redis_client_connections_limit` + node + `,pool="main"}`:           "4",
		`redis_client_connections_opened_total` + node + `}`:                "4",
		`redis_client_pool_timeouts_total` + node + `,reason="timeout"}`:    "1",
		`redis_client_command_duration_seconds_count` + node + `}`:          "5",
		`redis_client_command_duration_seconds_bucket` + node + `,le="10"}`: "5",
		`redis_client_dial_duration_seconds_count` + node + `}`:             "4",
		`redis_client_dial_errors_total` + node + `}`:                       "0",
	})
	none(t, got, "redis_client_retries", "redis_client_lease", "redis_client_breaker", "redis_client_unknown", "redis_client_acquire_wait", "redis_client_server")
	lint(t, reg)
	for _, conn := range held {
		_ = conn.Close()
	}
	srv.KillClients(t)
	_ = rdb.Ping(bg).Err()
	got = scrape(t, reg)
	if n := got[`redis_client_connections_closed_total`+node+`,reason="removed"}`]; n == "" || n == "0" {
		t.Errorf("closed: %q of %v", n, got)
	}
}

func TestScrapesAtTheSameTimeAreSafe(t *testing.T) {
	m := monitortest.New(t, monitortest.Known(), monitor.WithInterval(monitor.MinInterval))
	reg := registry(t, newCollector(t, m, "c"))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if _, err := reg.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestTheFilesAreGivenAway(t *testing.T) {
	for _, get := range []func() []byte{prom.Dashboard, prom.Rules} {
		b := get()
		if len(b) < 1000 {
			t.Errorf("%d bytes", len(b))
		}
		clear(b)
		if bytes.Equal(b, get()) {
			t.Error("a caller can spoil it for others")
		}
	}
}

func BenchmarkCollect(b *testing.B) {
	c := newCollector(b, monitortest.New(b, monitortest.Known()), "c")
	reg := registry(b, c)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := reg.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
