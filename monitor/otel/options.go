package otel

import (
	"errors"
	"fmt"
	"reflect"
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
	ops     Client          // nil: its calls are not timed
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

// WithAttributes adds attributes to all points. Attributes that points have already are errors.
// Default: none.
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

// WithBuckets sets the upper limits of the buckets of all histograms. They must be above 0 and
// ascending. Values within 12.5 % of a limit may be counted on the wrong side of it. Default: for
// db.client.operation.duration those of the semantic conventions, 1 ms to 10 s; otherwise 100 µs to
// 10 s; for lease hold times, 1 ms to 5 min.
func WithBuckets(limits ...time.Duration) Option {
	return func(s *settings) error {
		if err := export.CheckBuckets(limits); err != nil {
			return err
		}
		s.buckets = slices.Clone(limits)
		return nil
	}
}

// WithOperations times each call of the client with a separate hook, so that
// db.client.operation.duration has the attributes db.operation.name (the command; for a pipeline or
// transaction PIPELINE or MULTI, with the command if all are the same) and, for a call that failed,
// error.type: the first word of the server's reply, which is also its db.response.status_code, or
// timeout, canceled, connection, pool_timeout, breaker_open, unknown_outcome, transaction_failed,
// client_closed or _OTHER. It has up to 1000 series. Without this option that metric comes from the
// Monitor: one series per node.
//
// The hook costs each call about half a microsecond, makes a managed.Adaptive send everything
// directly, and cannot be removed: after Unregister or Close it does nothing. Use it once per
// client. A nil client is an error. Default: calls are not timed.
func WithOperations(client Client) Option {
	return func(s *settings) error {
		if v := reflect.ValueOf(client); client == nil || v.Kind() == reflect.Pointer && v.IsNil() {
			return errors.New("WithOperations: the client is nil")
		}
		s.ops = client
		return nil
	}
}

// operationBuckets are what the semantic conventions say of
// db.client.operation.duration:
// https://opentelemetry.io/docs/specs/semconv/db/database-metrics/
var operationBuckets = []time.Duration{time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 500 * time.Millisecond, time.Second, 5 * time.Second, 10 * time.Second}

func (s *settings) bucketsOf(f *export.Family) []time.Duration {
	if f.Otel == operationDuration {
		return s.limits(operationBuckets)
	}
	return s.limits(f.Buckets())
}

// limits returns the given limits, else the default.
func (s *settings) limits(standard []time.Duration) []time.Duration {
	if s.buckets != nil {
		return s.buckets
	}
	return standard
}

// timed reports whether a hook records this metric.
func (s *settings) timed(f *export.Family) bool { return s.ops != nil && f.Otel == operationDuration }

func seconds(limits []time.Duration) (out []float64) {
	for _, l := range limits {
		out = append(out, l.Seconds())
	}
	return out
}
