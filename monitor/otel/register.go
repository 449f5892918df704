package otel

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/export"
)

// Registration is the result of Register. It is safe for concurrent use.
type Registration struct {
	settings *settings
	reader   *export.Reader
	reg      metric.Registration
	ints     map[*export.Family]metric.Int64Observable
	floats   map[*export.Family]metric.Float64Observable
	ops      *operations // nil: without WithOperations
	once     sync.Once
	err      error

	histograms map[*export.Family]metric.Float64Histogram
	mu         sync.Mutex
	seen       map[seriesKey]monitor.Distribution
}

// Register exports everything through mp, for a program that has a MeterProvider but does not
// control its readers. Other programs can use [NewProducer] instead, which exports the same. client
// and options are as for NewProducer. It starts the Monitor, so that peaks and alerts cover its
// periods. A nil provider or Monitor, an empty name, and invalid options are errors.
//
// OpenTelemetry has no asynchronous histogram, so each collection records the new values since the
// last one, as durations within 6.25 % of the true ones, at about 0.1 µs each. Every collection
// queries the Monitor's source twice: for a plain cluster client that is one CLUSTER SLOTS each.
func Register(mp metric.MeterProvider, m *monitor.Monitor, client string, opts ...Option) (*Registration, error) {
	fail := func(err error) (*Registration, error) {
		return nil, fmt.Errorf("lifeguard/monitor/otel: Register: %w", err)
	}
	if mp == nil {
		return fail(errors.New("the MeterProvider is nil"))
	}
	s, err := newSettings(client, opts)
	if err != nil {
		return fail(err)
	}
	r := &Registration{settings: s, ints: map[*export.Family]metric.Int64Observable{}, floats: map[*export.Family]metric.Float64Observable{},
		histograms: map[*export.Family]metric.Float64Histogram{}, seen: map[seriesKey]monitor.Distribution{}}
	meter := mp.Meter(scopeName, metric.WithInstrumentationVersion(version()), metric.WithSchemaURL(semconv.SchemaURL))
	var all []metric.Observable
	for _, f := range export.Families() {
		if f.Kind == export.Histogram {
			if s.timed(f) {
				continue
			}
			h, err := meter.Float64Histogram(f.Otel, metric.WithDescription(f.Help), metric.WithUnit(f.Unit),
				metric.WithExplicitBucketBoundaries(seconds(s.bucketsOf(f))...))
			if err != nil {
				return fail(fmt.Errorf("%s: %w", f.Otel, err))
			}
			r.histograms[f] = h
			continue
		}
		o, err := r.instrument(meter, f)
		if err != nil {
			return fail(fmt.Errorf("%s: %w", f.Otel, err))
		}
		all = append(all, o)
	}
	if r.reader, err = export.New(m); err != nil {
		return fail(err)
	}
	if r.reg, err = meter.RegisterCallback(r.observe, all...); err != nil {
		r.reader.Close()
		return fail(err)
	}
	if s.ops != nil {
		if r.ops, err = s.operations(meter); err != nil {
			_ = r.Unregister()
			return fail(err)
		}
	}
	return r, nil
}

// instrument makes the instrument of a family. Times are floats, in seconds; all other values are
// counts.
func (r *Registration) instrument(meter metric.Meter, f *export.Family) (metric.Observable, error) {
	desc, unit := metric.WithDescription(f.Help), metric.WithUnit(f.Unit)
	if f.Unit == "s" {
		o, err := meter.Float64ObservableCounter(f.Otel, desc, unit)
		r.floats[f] = o
		return o, err
	}
	var o metric.Int64Observable
	var err error
	switch f.Kind {
	case export.Counter:
		o, err = meter.Int64ObservableCounter(f.Otel, desc, unit)
	case export.UpDown:
		o, err = meter.Int64ObservableUpDownCounter(f.Otel, desc, unit)
	default:
		o, err = meter.Int64ObservableGauge(f.Otel, desc, unit)
	}
	r.ints[f] = o
	return o, err
}

func (r *Registration) observe(ctx context.Context, to metric.Observer) error {
	r.mu.Lock() // readers collect at any time, possibly at once
	defer r.mu.Unlock()
	for _, p := range r.reader.Read() {
		set := r.settings.attributes(&p)
		attrs := metric.WithAttributeSet(set)
		if o, ok := r.floats[p.Family]; ok {
			to.ObserveFloat64(o, p.Value, attrs)
		} else if o, ok := r.ints[p.Family]; ok {
			to.ObserveInt64(o, int64(p.Value), attrs)
		} else if h, ok := r.histograms[p.Family]; ok {
			key := seriesKey{p.Family, set.Equivalent()}
			for value, n := range p.Dist.Sub(r.seen[key]).Buckets() {
				for range n {
					h.Record(ctx, value.Seconds(), attrs)
				}
			}
			r.seen[key] = p.Dist
		}
	}
	return nil
}

// Unregister stops the export. Calls after the first do nothing.
func (r *Registration) Unregister() error {
	r.once.Do(func() {
		r.reader.Close()
		if r.ops != nil {
			r.ops.off.Store(true)
		}
		r.err = r.reg.Unregister()
	})
	return r.err
}
