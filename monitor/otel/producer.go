package otel

import (
	"context"
	"errors"
	"fmt"
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

// Producer makes histograms of the distributions of a Monitor. Give it to a reader,
// with metric.WithProducer. They are cumulative, whatever temporality the reader
// prefers. It needs no Close. It is safe for concurrent use.
type Producer struct {
	m        *monitor.Monitor
	settings *settings
	made     time.Time

	mu     sync.Mutex
	series map[seriesKey]*series
}

var _ metric.Producer = (*Producer)(nil)

type seriesKey struct {
	family *export.Family
	attrs  attribute.Distinct
}

// series is what a histogram was when it was last produced.
type series struct {
	start time.Time
	count uint64
	at    time.Time
}

// NewProducer makes a Producer; client and options are as for [Register]. A nil
// Monitor, an empty name, and options that cannot be are errors.
func NewProducer(m *monitor.Monitor, client string, opts ...Option) (*Producer, error) {
	if m == nil {
		return nil, fmt.Errorf("lifeguard/monitor/otel: NewProducer: %w", errors.New("the Monitor is nil"))
	}
	s, err := newSettings(client, opts)
	if err != nil {
		return nil, fmt.Errorf("lifeguard/monitor/otel: NewProducer: %w", err)
	}
	return &Producer{m: m, settings: s, made: time.Now(), series: map[seriesKey]*series{}}, nil
}

// Produce implements metric.Producer.
func (p *Producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.m.Stats()
	var metrics []metricdata.Metrics
	points := export.Durations(&s)
	for i := 0; i < len(points); {
		f := points[i].Family
		h := metricdata.Histogram[float64]{Temporality: metricdata.CumulativeTemporality}
		for ; i < len(points) && points[i].Family == f; i++ {
			h.DataPoints = append(h.DataPoints, p.histogram(&points[i], s.Time))
		}
		metrics = append(metrics, metricdata.Metrics{Name: f.Otel, Description: f.Help, Unit: f.Unit, Data: h})
	}
	for key, known := range p.series {
		if !known.at.Equal(s.Time) { // the node has left
			delete(p.series, key)
		}
	}
	if len(metrics) == 0 {
		return nil, nil
	}
	return []metricdata.ScopeMetrics{{Scope: instrumentation.Scope{Name: scopeName, SchemaURL: semconv.SchemaURL}, Metrics: metrics}}, nil
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

// start is when a series began: when the Producer was made, or later, if it began
// anew since.
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
