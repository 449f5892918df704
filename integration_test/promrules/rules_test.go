package promrules_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/prom"
)

// source is a client of which the test sets the numbers.
type source struct {
	mu sync.Mutex
	n  monitor.Numbers
}

func (s *source) Sample(to *monitor.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.n
	to.Nodes = []monitor.Node{{Name: "redis:6379", Numbers: n}}
}

func (s *source) change(fn func(*monitor.Numbers)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(&s.n)
}

// healthy are the numbers of a client that works.
func healthy() monitor.Numbers {
	return monitor.Numbers{
		Main: monitor.Pool{Size: 10, Open: 8, Idle: 3, InUse: 5, MinIdle: 1, MaxIdle: 10}, Pipeline: monitor.Pool{Size: 10, Open: 1, Idle: 1},
		Subscribed: 1, Leases: 2, PeakInUse: 6, PeakDemand: 6, MaxClients: 100, ServerClients: 20,
		Hits: 500, Misses: 10, Dialed: 20, DialErrors: 3, PoolTimeouts: 2, UnknownOutcomes: 1, Leaks: 1,
		Closed: map[string]uint64{"age": 5}, Retries: map[string]uint64{"timeout": 4},
	}
}

// run makes the history of a client whose callers wait that long, and whose numbers
// each changes before every scrape. If alerts is given, it begins with an alert.
func run(t *testing.T, wait time.Duration, each func(*monitor.Numbers), alerts <-chan monitor.Alert, opts ...monitor.Option) history {
	t.Helper()
	src := &source{n: healthy()}
	m, err := monitor.New(src, append(opts, monitor.WithoutDefaults(), monitor.WithLogger(slog.New(slog.DiscardHandler)))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	c, err := prom.NewCollector(m, "cache")
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(c)
	if alerts != nil {
		src.change(each)
		<-alerts
	}
	var waits, commands monitor.Histogram
	return scraped(t, reg, func() {
		waits.Record(wait)
		commands.Record(time.Millisecond)
		src.change(func(n *monitor.Numbers) {
			n.Hits++
			n.Wait, n.Hold, n.Dial, n.Command = waits.Snapshot(), waits.Snapshot(), commands.Snapshot(), commands.Snapshot()
			each(n)
		})
	})
}

// trouble makes the history of a client in every trouble there is.
func trouble(t *testing.T) history {
	t.Helper()
	alerts := make(chan monitor.Alert, 8)
	return run(t, 300*time.Millisecond, func(n *monitor.Numbers) {
		n.Main.InUse, n.Main.Idle, n.Main.Open, n.Main.Waiting = 10, 0, 10, 4
		n.BreakersOpen, n.ServerClients = 1, 90
		n.DialErrors++
		n.PoolTimeouts++
		n.UnknownOutcomes++
		n.Leaks++
		n.LeasesOverdue = 9
	}, alerts, monitor.WithInterval(monitor.MinInterval), monitor.Threshold{Name: "busy", Metric: monitor.PoolUse, Level: monitor.Critical, Limit: 0.4},
		monitor.WithAlertHandler(func(a monitor.Alert) { alerts <- a }))
}

func rules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.Parse(prom.Rules(), false, model.LegacyValidation, promParser, slog.Default())
	for _, err := range errs {
		t.Error(err)
	}
	if t.Failed() || len(groups.Groups) == 0 {
		t.Fatal("no rules")
	}
	return groups.Groups[0].Rules
}

// dashboard is as much as is looked at.
type dashboard struct {
	UID        string
	Title      string
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []struct {
		ID      int
		Type    string
		Title   string
		Targets []struct{ Expr, LegendFormat string }
		GridPos struct{ X, Y, W, H int }
	}
}

func theDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal(prom.Dashboard(), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// filled puts values in for Grafana's variables, those for "all".
func filled(expr string) string {
	return strings.NewReplacer("$__rate_interval", "5m", "$client", ".*", "$node", ".*", "$instance", ".*").Replace(expr)
}

// checkNames says which metrics and labels of an expression the collector does not
// have.
func checkNames(t *testing.T, where, expr string, h history) {
	t.Helper()
	e, err := promParser.ParseExpr(expr)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	var known []string
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		if v, ok := n.(*parser.VectorSelector); ok {
			names := h.labelsOf(v.Name)
			if names == nil {
				if v.Name == "ALERTS" { // Prometheus's own
					return nil
				}
				t.Errorf("%s: there is no metric %s", where, v.Name)
			}
			known = append(known, names...)
			for _, m := range v.LabelMatchers {
				if !slices.Contains(names, m.Name) && names != nil {
					t.Errorf("%s: %s has no label %s", where, v.Name, m.Name)
				}
			}
		}
		return nil
	})
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		var by []string
		switch n := n.(type) {
		case *parser.AggregateExpr:
			by = n.Grouping
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				by = n.VectorMatching.MatchingLabels
			}
		}
		for _, l := range by {
			if !slices.Contains(known, l) {
				t.Errorf("%s: nothing has the label %s", where, l)
			}
		}
		return nil
	})
}

func TestEveryRuleFiresWhenItShouldAndNotBefore(t *testing.T) {
	sections := runbook(t)
	well, bad := run(t, time.Millisecond, func(*monitor.Numbers) {}, nil), trouble(t)
	for _, r := range rules(t) {
		checkNames(t, r.Alert, r.Expr, bad)
		if v := well.eval(t, r.Expr, ended); len(v) != 0 {
			t.Errorf("%s fires when all is well: %v", r.Alert, v)
		}
		for at := ended.Add(-time.Duration(r.For)); !at.After(ended); at = at.Add(every) {
			v := bad.eval(t, r.Expr, at)
			if len(v) == 0 {
				t.Errorf("%s does not fire, %v before the end", r.Alert, ended.Sub(at))
				break
			}
			for _, s := range v {
				if s.Metric.Get("client") != "cache" || s.Metric.Get("instance") == "" || strings.Contains(r.Annotations["summary"], "$labels.node") && s.Metric.Get("node") != "redis:6379" {
					t.Errorf("%s: %v lacks labels that tell where it is", r.Alert, s.Metric)
				}
			}
		}
		if file, section, _ := strings.Cut(r.Annotations["runbook_url"], "#"); !strings.HasSuffix(file, "/docs/RUNBOOK.md") || !slices.Contains(sections, section) {
			t.Errorf("%s: %q is no section of the runbook", r.Alert, r.Annotations["runbook_url"])
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] == "" {
			t.Errorf("%s says too little", r.Alert)
		}
	}
}

// runbook are the sections of docs/RUNBOOK.md, as GitHub names them in links.
func runbook(t *testing.T) (sections []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if title, ok := strings.CutPrefix(line, "#"); ok {
			keep := func(r rune) rune {
				switch {
				case r == ' ':
					return '-'
				case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
					return unicode.ToLower(r)
				}
				return -1
			}
			sections = append(sections, strings.Map(keep, strings.TrimSpace(strings.TrimLeft(title, "#"))))
		}
	}
	return sections
}

// A pool that leaks exhaust, and a server that is unreachable, are one page each.
func TestOneCauseIsOnePage(t *testing.T) {
	h := trouble(t)
	firing := func(fire ...string) (names []string) {
		h := maps.Clone(h)
		for _, name := range fire {
			ls := labels.FromStrings("__name__", "ALERTS", "alertname", name, "alertstate", "firing", "job", "shop", "instance", "shop-1:8080",
				"client", "cache", "node", "redis:6379", "severity", "critical", "pool", "main")
			h[ls.String()] = &series{labels: ls, samples: []chunks.Sample{sample{ended.UnixMilli(), 1}}}
		}
		for _, r := range rules(t) {
			if len(h.eval(t, r.Expr, ended)) > 0 {
				names = append(names, r.Alert)
			}
		}
		return names
	}
	all := firing()
	for _, tt := range []struct {
		alert  string
		silent []string
	}{
		{"RedisClientPoolExhausted", []string{"RedisClientPoolUseHigh", "RedisClientLeasesOverdue", "RedisClientPoolTimeouts", "RedisClientSlowAcquire"}},
		{"RedisClientBreakerOpen", []string{"RedisClientDialFailures"}},
	} {
		want := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return slices.Contains(tt.silent, name) })
		if got := firing(tt.alert); len(got) != len(all)-len(tt.silent) || !slices.Equal(got, want) {
			t.Errorf("while %s fires: %v, want %v", tt.alert, got, want)
		}
	}
}

// What the monitor raises alerts for by itself, the rules have as well.
func TestTheRulesHaveTheLimitsOfTheDefaultThresholds(t *testing.T) {
	text := string(prom.Rules())
	for _, d := range monitor.DefaultThresholds() {
		_, after, ok := strings.Cut(text, "# Default threshold "+d.Name+".")
		if !ok {
			t.Errorf("there is no rule for %s", d.Name)
			continue
		}
		if _, excluded, _ := strings.Cut(text, "redis_client_alert_active{alert!~"); !strings.Contains(excluded, d.Name) {
			t.Errorf("%s has two rules: its own, and that of all thresholds", d.Name)
		}
		rule, _, _ := strings.Cut(after, "annotations:")
		if !strings.Contains(rule, "severity: "+d.Level.String()) {
			t.Errorf("%s is %s, the rule is not: %s", d.Name, d.Level, rule)
		}
		if limit := fmt.Sprintf(">= %v", d.Limit); d.Limit < 1 && !strings.Contains(rule, limit) {
			t.Errorf("%s begins at %v, the rule does not: %s", d.Name, d.Limit, rule)
		}
	}
}

func TestEveryPanelOfTheDashboardShowsSomething(t *testing.T) {
	d, h := theDashboard(t), trouble(t)
	var panels, exprs int
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		if p.GridPos.W < 1 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s is off the grid: %+v", p.Title, p.GridPos)
		}
		if p.Type == "row" {
			continue
		}
		panels++
		for _, target := range p.Targets {
			exprs++
			expr := filled(target.Expr)
			checkNames(t, p.Title, expr, h)
			v := h.eval(t, expr, ended)
			if len(v) == 0 {
				t.Errorf("%s: %s shows nothing", p.Title, expr)
			}
			for _, s := range v {
				for _, l := range []string{"client", "node", "pool", "reason", "state", "to", "level"} {
					if strings.Contains(target.LegendFormat, "{{"+l+"}}") && !s.Metric.Has(l) {
						t.Errorf("%s: the legend %q wants %s of %v", p.Title, target.LegendFormat, l, s.Metric)
					}
				}
			}
		}
	}
	if panels < 20 || exprs < panels || d.UID == "" || d.Title == "" {
		t.Errorf("%d panels with %d expressions: %q", panels, exprs, d.Title)
	}
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		expr, ok := strings.CutPrefix(v.Definition, "label_values(")
		if expr, label, both := strings.Cut(strings.TrimSuffix(filled(expr), ")"), ", "+v.Name); !ok || !both || label != "" {
			t.Errorf("variable %s: %s", v.Name, v.Definition)
		} else {
			checkNames(t, "variable "+v.Name, expr, h)
			if !slices.Contains(h.labelsOf("redis_client_connections"), v.Name) {
				t.Errorf("there is no label %s", v.Name)
			}
		}
	}
}

// What the collector shows can be seen on the dashboard.
func TestEveryMetricIsOnTheDashboard(t *testing.T) {
	text := string(prom.Dashboard())
	for _, s := range trouble(t) {
		name := s.labels.Get(model.MetricNameLabel)
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, suffix)
		}
		if !strings.Contains(text, name) {
			t.Errorf("%s is nowhere", name)
		}
	}
}
