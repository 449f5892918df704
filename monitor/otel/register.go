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

// Registration is what Register made. It is safe for concurrent use.
type Registration struct {
	settings *settings
	reader   *export.Reader
	reg      metric.Registration
	ints     map[*export.Family]metric.Int64Observable
	floats   map[*export.Family]metric.Float64Observable
	once     sync.Once
	err      error
}

// Register makes asynchronous instruments with mp, of all that is not a distribution,
// for a program that has a MeterProvider and no say in its readers: for the others,
// [NewProducer] has everything, and Register is not needed. client and options are as
// for NewProducer. It starts the Monitor, so that peaks and alerts are of its periods. A
// nil provider or Monitor, an empty name, and options that cannot be are errors.
//
// Every collection asks the Monitor's source twice: of a plain cluster client that is
// one CLUSTER SLOTS each.
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
	r := &Registration{settings: s, ints: map[*export.Family]metric.Int64Observable{}, floats: map[*export.Family]metric.Float64Observable{}}
	meter := mp.Meter(scopeName, metric.WithInstrumentationVersion(version()), metric.WithSchemaURL(semconv.SchemaURL))
	var all []metric.Observable
	for _, f := range export.Families() {
		if f.Kind == export.Histogram {
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
	return r, nil
}

// instrument makes the instrument of a family. Times are in seconds, and floats; all
// else is a count.
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

func (r *Registration) observe(_ context.Context, to metric.Observer) error {
	for _, p := range r.reader.Read() {
		attrs := metric.WithAttributeSet(r.settings.attributes(&p))
		if o, ok := r.floats[p.Family]; ok {
			to.ObserveFloat64(o, p.Value, attrs)
		} else if o, ok := r.ints[p.Family]; ok {
			to.ObserveInt64(o, int64(p.Value), attrs)
		}
	}
	return nil
}

// Unregister ends it: nothing is observed any more. Calls after the first do nothing
// and return what the first did.
func (r *Registration) Unregister() error {
	r.once.Do(func() {
		r.reader.Close()
		r.err = r.reg.Unregister()
	})
	return r.err
}
