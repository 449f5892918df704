package otel

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/export"
)

// Producer gives a reader everything that a Monitor knows: pass it to metric.WithProducer. Sums and
// histograms are cumulative, whatever temporality the reader prefers. It is safe for concurrent
// use.
type Producer struct {
	settings *settings
	reader   *export.Reader
	made     time.Time
	ops      *operations // nil: without WithOperations
	timed    *metric.ManualReader

	mu     sync.Mutex
	series map[seriesKey]*series
}

var _ metric.Producer = (*Producer)(nil)

type seriesKey struct {
	family *export.Family
	attrs  attribute.Distinct
}

// series remembers a sum or a histogram as last produced.
type series struct {
	start time.Time
	count uint64
	at    time.Time
}

// NewProducer makes a Producer, and starts the Monitor, so that peaks and alerts cover its periods.
// client is a unique name for the watched client; it is in db.client.connection.pool.name, as
// "cache" for what is about the whole client, else as "cache/main", "cache/pipeline" and
// "cache/pubsub". A nil Monitor, an empty name, and invalid options are errors.
//
// Every collection queries the Monitor's source twice: for a plain cluster client that is one
// CLUSTER SLOTS each.
func NewProducer(m *monitor.Monitor, client string, opts ...Option) (*Producer, error) {
	s, err := newSettings(client, opts)
	if err != nil {
		return nil, fmt.Errorf("lifeguard/monitor/otel: NewProducer: %w", err)
	}
	r, err := export.New(m)
	if err != nil {
		return nil, fmt.Errorf("lifeguard/monitor/otel: NewProducer: %w", err)
	}
	p := &Producer{settings: s, reader: r, made: time.Now(), series: map[seriesKey]*series{}}
	if s.ops == nil {
		return p, nil
	}
	p.timed = metric.NewManualReader()
	provider := metric.NewMeterProvider(metric.WithReader(p.timed))
	if p.ops, err = s.operations(provider.Meter(scopeName)); err != nil {
		r.Close()
		return nil, fmt.Errorf("lifeguard/monitor/otel: NewProducer: %w", err)
	}
	return p, nil
}

// Close detaches the Producer from the Monitor; closing the Monitor does that as well. Produce
// still works. Calls after the first do nothing. It returns nil.
func (p *Producer) Close() error {
	p.reader.Close()
	if p.ops != nil {
		p.ops.off.Store(true)
	}
	return nil
}

// Produce implements metric.Producer.
func (p *Producer) Produce(ctx context.Context) ([]metricdata.ScopeMetrics, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	points, now := p.reader.Read(), time.Now()
	var metrics []metricdata.Metrics
	for i := 0; i < len(points); {
		first := i
		for i++; i < len(points) && points[i].Family == points[first].Family; i++ {
		}
		f := points[first].Family
		if p.settings.timed(f) {
			continue
		}
		metrics = append(metrics, metricdata.Metrics{Name: f.Otel, Description: f.Help, Unit: f.Unit, Data: p.data(points[first:i], now)})
	}
	if p.timed != nil {
		var rm metricdata.ResourceMetrics
		if err := p.timed.Collect(ctx, &rm); err != nil {
			return nil, fmt.Errorf("lifeguard/monitor/otel: Produce: %w", err)
		}
		for _, sm := range rm.ScopeMetrics {
			metrics = append(metrics, sm.Metrics...)
		}
	}
	for key, known := range p.series {
		if !known.at.Equal(now) { // the node has left
			delete(p.series, key)
		}
	}
	if len(metrics) == 0 {
		return nil, nil
	}
	return []metricdata.ScopeMetrics{{Scope: instrumentation.Scope{Name: scopeName, Version: version(), SchemaURL: semconv.SchemaURL}, Metrics: metrics}}, nil
}

// data returns the points of one family. Times are floats, in seconds; all other values are counts.
func (p *Producer) data(points []export.Point, now time.Time) metricdata.Aggregation {
	switch f := points[0].Family; {
	case f.Kind == export.Histogram:
		h := metricdata.Histogram[float64]{Temporality: metricdata.CumulativeTemporality}
		for i := range points {
			h.DataPoints = append(h.DataPoints, p.histogram(&points[i], now))
		}
		return h
	case f.Kind == export.Gauge:
		return metricdata.Gauge[int64]{DataPoints: numbers[int64](p, points, now)}
	case f.Unit == "s":
		return metricdata.Sum[float64]{Temporality: metricdata.CumulativeTemporality, IsMonotonic: f.Kind == export.Counter, DataPoints: numbers[float64](p, points, now)}
	default:
		return metricdata.Sum[int64]{Temporality: metricdata.CumulativeTemporality, IsMonotonic: f.Kind == export.Counter, DataPoints: numbers[int64](p, points, now)}
	}
}

func numbers[N int64 | float64](p *Producer, points []export.Point, now time.Time) (out []metricdata.DataPoint[N]) {
	for i := range points {
		pt := &points[i]
		attrs := p.settings.attributes(pt)
		d := metricdata.DataPoint[N]{Attributes: attrs, Time: now, Value: N(pt.Value)}
		switch pt.Family.Kind {
		case export.Counter:
			d.StartTime = p.start(seriesKey{pt.Family, attrs.Equivalent()}, uint64(pt.Value), now)
		case export.UpDown:
			d.StartTime = p.made
		}
		out = append(out, d)
	}
	return out
}

func (p *Producer) histogram(pt *export.Point, now time.Time) metricdata.HistogramDataPoint[float64] {
	limits, attrs := p.settings.bucketsOf(pt.Family), p.settings.attributes(pt)
	d := metricdata.HistogramDataPoint[float64]{Attributes: attrs, StartTime: p.start(seriesKey{pt.Family, attrs.Equivalent()}, pt.Dist.Count, now), Time: now,
		Count: pt.Dist.Count, Sum: pt.Dist.Sum.Seconds(), Bounds: make([]float64, len(limits)), BucketCounts: make([]uint64, len(limits)+1)}
	if pt.Dist.Count > 0 {
		d.Max = metricdata.NewExtrema(pt.Dist.Max.Seconds())
	}
	var before uint64
	for i, l := range limits {
		below := pt.Dist.Below(l)
		d.Bounds[i], d.BucketCounts[i] = l.Seconds(), below-before
		before = below
	}
	d.BucketCounts[len(limits)] = pt.Dist.Count - before
	return d
}

// start returns when a series began: when the Producer was made, or when counting last restarted.
func (p *Producer) start(key seriesKey, count uint64, now time.Time) time.Time {
	s := p.series[key]
	switch {
	case s == nil:
		s = &series{start: p.made}
		p.series[key] = s
	case count < s.count:
		s.start = s.at
	}
	s.count, s.at = count, now
	return s.start
}

// version is the version of this module in the program, "" if unknown.
var version = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return versionIn(info)
})

func versionIn(info *debug.BuildInfo) string {
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == scopeName && m.Version != "(devel)" {
			return strings.TrimPrefix(m.Version, "v")
		}
	}
	return ""
}
