package prom

import (
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"

	"github.com/lifeguard-redis/lifeguard/monitor/internal/export"
)

// Option is a setting of [NewCollector].
type Option func(*settings) error

type settings struct {
	labels  prometheus.Labels
	buckets []time.Duration // nil: the defaults
}

// WithLabels adds labels to all metrics, in addition to client. Names that the metrics have
// already, and invalid names, are errors. Default: none.
func WithLabels(labels prometheus.Labels) Option {
	return func(s *settings) error {
		for _, name := range slices.Sorted(maps.Keys(labels)) {
			switch {
			case !model.LegacyValidation.IsValidLabelName(name):
				return fmt.Errorf("WithLabels: %q is no name of a label: use letters, digits and _", name)
			case reserved(name):
				return fmt.Errorf("WithLabels: the label %q is taken: the metrics have it", name)
			case !utf8.ValidString(labels[name]):
				return fmt.Errorf("WithLabels: the value %q of %s is not valid UTF-8", labels[name], name)
			}
			s.labels[name] = labels[name]
		}
		return nil
	}
}

// WithBuckets sets the upper limits of the buckets of all histograms; +Inf is added. They must be
// above 0 and ascending. Each bucket is a series per node. Values within 12.5 % of a limit may be
// counted on the wrong side of it. Default: 100 µs to 10 s; for lease hold times, 1 ms to 5 min.
func WithBuckets(limits ...time.Duration) Option {
	return func(s *settings) error {
		if err := export.CheckBuckets(limits); err != nil {
			return err
		}
		s.buckets = slices.Clone(limits)
		return nil
	}
}

func (s *settings) bucketsOf(f *export.Family) []time.Duration {
	if s.buckets != nil {
		return s.buckets
	}
	return f.Buckets()
}
