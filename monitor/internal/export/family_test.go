package export_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/export"
)

var kinds = map[export.Kind]string{export.Gauge: "gauge", export.UpDown: "gauge, can be added", export.Counter: "counter", export.Histogram: "histogram"}

func TestTheDocumentationHasEveryMetric(t *testing.T) {
	b, err := os.ReadFile("../../../docs/MONITORING.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "| `redis_client_") {
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	for _, f := range export.Families() {
		var labels []string
		if f.Node {
			labels = append(labels, "`node`")
		}
		for _, l := range f.Labels {
			labels = append(labels, "`"+l+"`")
		}
		row := "| `" + f.Prom + "` | `" + f.Otel + "` | " + kinds[f.Kind] + " | " + strings.Join(labels, " ") + " | " + strings.TrimSuffix(f.Help, ".") + " |"
		if i := slices.Index(rows, row); i >= 0 {
			rows = slices.Delete(rows, i, i+1)
		} else {
			t.Errorf("missing: %s", row)
		}
	}
	for _, row := range rows {
		t.Errorf("there is no such metric: %s", row)
	}
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range export.Families() {
		for _, name := range []string{f.Prom, f.Otel} {
			if seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
		}
		if (f.Kind == export.Counter) != strings.HasSuffix(f.Prom, "_total") {
			t.Errorf("%s is a %s", f.Prom, kinds[f.Kind])
		}
	}
}

// Each metric goes away if a field of it is not known, so each names its fields
// rightly.
func TestEveryFieldOfNumbersIsInAMetricThatNeedsIt(t *testing.T) {
	points := func(unknown ...string) map[string]bool {
		m, err := monitor.New(source(func(s *monitor.Sample) {
			one := map[string]uint64{"x": 1}
			var h monitor.Histogram
			h.Record(1)
			s.Nodes = []monitor.Node{{Name: "a:1", Numbers: monitor.Numbers{Main: monitor.Pool{Size: 1, Open: 1, Idle: 1, MaxIdle: 1}, MaxClients: 1, ServerClients: 1, Instances: 1,
				Closed: one, Retries: one, HealthChanges: one, Dial: h.Snapshot()}}}
			s.Gap("x", unknown...)
		}))
		if err != nil {
			t.Fatal(err)
		}
		r, err := export.New(m)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { r.Close(); _ = m.Close() }()
		names := map[string]bool{}
		for _, p := range r.Read() {
			names[p.Family.Prom] = true
		}
		return names
	}
	all, untimed := points(), points("wait") // untimed: of a client that does not time its waits
	for _, f := range export.Families() {
		if !all[f.Prom] && !untimed[f.Prom] && f.Prom != "redis_client_alert_active" {
			t.Errorf("%s is not there", f.Prom)
		}
	}
	sums := []string{"idle", "in_use", "waiting"} // of what the pools say
	for _, field := range monitor.Fields() {
		if len(points(field)) == len(all) && len(points(field, "wait")) == len(untimed) && !slices.Contains(sums, field) {
			t.Errorf("no metric needs %s", field)
		}
	}
}

type source func(*monitor.Sample)

func (s source) Sample(to *monitor.Sample) { s(to) }
