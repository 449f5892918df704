package promrules_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

const (
	every = 15 * time.Second // between scrapes
	span  = 20 * time.Minute
)

var (
	began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ended = began.Add(span)
)

// history is what a Prometheus would have stored.
type history map[string]*series

type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

// scraped asks reg as a Prometheus would over span; before each scrape, step is called.
func scraped(t testing.TB, reg prometheus.Gatherer, step func()) history {
	t.Helper()
	h := history{}
	for at := began; !at.After(ended); at = at.Add(every) {
		step()
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				h.enter(f.GetName(), m, at)
			}
		}
	}
	return h
}

func (h history) enter(name string, m *dto.Metric, at time.Time) {
	put := func(name string, v float64, more ...string) {
		b := labels.NewBuilder(labels.FromStrings(more...))
		b.Set("__name__", name).Set("job", "shop").Set("instance", "shop-1:8080")
		for _, l := range m.GetLabel() {
			b.Set(l.GetName(), l.GetValue())
		}
		ls := b.Labels()
		s := h[ls.String()]
		if s == nil {
			s = &series{labels: ls}
			h[ls.String()] = s
		}
		s.samples = append(s.samples, sample{at.UnixMilli(), v})
	}
	switch {
	case m.Counter != nil:
		put(name, m.Counter.GetValue())
	case m.Gauge != nil:
		put(name, m.Gauge.GetValue())
	case m.Histogram != nil:
		put(name+"_count", float64(m.Histogram.GetSampleCount()))
		put(name+"_sum", m.Histogram.GetSampleSum())
		for _, b := range m.Histogram.GetBucket() {
			put(name+"_bucket", float64(b.GetCumulativeCount()), "le", strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64))
		}
		put(name+"_bucket", float64(m.Histogram.GetSampleCount()), "le", "+Inf")
	default:
		panic(fmt.Sprintf("%s is of no kind that is known", name))
	}
}

// labelsOf returns the names of the labels of all series of a metric, nil if there is
// no such metric.
func (h history) labelsOf(metric string) (names []string) {
	for _, s := range h {
		if s.labels.Get("__name__") == metric {
			s.labels.Range(func(l labels.Label) {
				if !slices.Contains(names, l.Name) {
					names = append(names, l.Name)
				}
			})
		}
	}
	return names
}

var promParser = parser.NewParser(parser.Options{})

// eval returns what expr is at a moment.
func (h history) eval(t testing.TB, expr string, at time.Time) promql.Vector {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, Parser: promParser})
	defer func() { _ = engine.Close() }()
	q, err := engine.NewInstantQuery(context.Background(), h, nil, expr, at)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	defer q.Close()
	v, err := q.Exec(context.Background()).Vector()
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return slices.Clone(v)
}

// Querier implements storage.Queryable.
func (h history) Querier(int64, int64) (storage.Querier, error) {
	return &storage.MockQuerier{SelectMockFunction: func(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
		var found []storage.Series
		for _, s := range h {
			if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.labels.Get(m.Name)) }) {
				found = append(found, storage.NewListSeries(s.labels, s.samples))
			}
		}
		slices.SortFunc(found, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
		return &seriesSet{all: found, at: -1}
	}}, nil
}

type seriesSet struct {
	all []storage.Series
	at  int
}

func (s *seriesSet) Next() bool                        { s.at++; return s.at < len(s.all) }
func (s *seriesSet) At() storage.Series                { return s.all[s.at] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

// sample is a chunks.Sample.
type sample struct {
	at int64
	v  float64
}

func (s sample) T() int64                      { return s.at }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.v }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }
