package otel

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/lifeguard-redis/lifeguard/monitor/internal/export"
)

// Option is a setting of [Register] and [NewProducer].
type Option func(*settings) error

type settings struct {
	client  string
	attrs   []attribute.KeyValue
	buckets []time.Duration // nil: the defaults
}

func newSettings(client string, opts []Option) (*settings, error) {
	if !validName(client) {
		return nil, fmt.Errorf("the name of the client is %q: give one, of valid UTF-8", client)
	}
	s := &settings{client: client}
	for _, o := range opts {
		if o == nil {
			return nil, errors.New("an option is nil")
		}
		if err := o(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// WithAttributes adds attributes that all points have. Those that points have
// already are refused. Default: none.
func WithAttributes(attrs ...attribute.KeyValue) Option {
	return func(s *settings) error {
		for _, kv := range attrs {
			switch {
			case !kv.Valid():
				return fmt.Errorf("WithAttributes: the attribute %q has no name or no value", kv.Key)
			case own(kv.Key):
				return fmt.Errorf("WithAttributes: the attribute %q is taken: points have it", kv.Key)
			}
		}
		s.attrs = append(s.attrs, attrs...)
		return nil
	}
}

// WithBuckets sets the upper limits of the buckets of all histograms. They must be
// above 0 and rise. Values within 12.5 % of a limit may be counted on the wrong side of
// it. Default: for db.client.operation.duration those of the semantic conventions, 1 ms
// to 10 s; else 100 µs to 10 s; for holds of leases, 1 ms to 5 min. It has no effect on
// Register, which has no histograms.
func WithBuckets(limits ...time.Duration) Option {
	return func(s *settings) error {
		if len(limits) == 0 {
			return errors.New("WithBuckets: there are none")
		}
		last := time.Duration(0)
		for _, l := range limits {
			if l <= last {
				return fmt.Errorf("WithBuckets: %v after %v: they must be above 0 and rise", l, last)
			}
			last = l
		}
		s.buckets = slices.Clone(limits)
		return nil
	}
}

// operationBuckets are what the semantic conventions say of
// db.client.operation.duration:
// https://opentelemetry.io/docs/specs/semconv/db/database-metrics/
var operationBuckets = []time.Duration{time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 500 * time.Millisecond, time.Second, 5 * time.Second, 10 * time.Second}

func (s *settings) bucketsOf(f *export.Family) []time.Duration {
	switch {
	case s.buckets != nil:
		return s.buckets
	case f.Otel == "db.client.operation.duration":
		return operationBuckets
	}
	return f.Buckets()
}
