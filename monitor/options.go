package monitor

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Option is a setting of [New]. A [Threshold] is one, too.
type Option interface{ apply(*settings) error }

type optionFunc func(*settings) error

func (f optionFunc) apply(s *settings) error { return f(s) }

type settings struct {
	every      time.Duration
	thresholds []Threshold // the user's
	noDefaults bool
	log        *slog.Logger
	onStats    []func(Stats)
	onAlert    []func(Alert)
}

const (
	// DefaultInterval is the period without [WithInterval].
	DefaultInterval = 10 * time.Second
	// MinInterval is the shortest period.
	MinInterval = 10 * time.Millisecond
)

// WithInterval sets the period of samples: how often callbacks get a Stats and thresholds are
// checked. Default 10 s. Less than 10 ms, zero and negative are errors.
func WithInterval(d time.Duration) Option {
	return optionFunc(func(s *settings) error {
		if d < MinInterval {
			return fmt.Errorf("lifeguard/monitor: WithInterval(%v): it must be at least %v", d, MinInterval)
		}
		s.every = d
		return nil
	})
}

// WithoutDefaults omits the [DefaultThresholds].
func WithoutDefaults() Option {
	return optionFunc(func(s *settings) error { s.noDefaults = true; return nil })
}

// WithLogger sets the logger for alerts that no callback gets, and for callbacks that panic or
// block. Default: slog.Default(). nil: the default.
func WithLogger(l *slog.Logger) Option {
	return optionFunc(func(s *settings) error {
		if l != nil {
			s.log = l
		}
		return nil
	})
}

// WithStatsHandler is [Monitor.OnStats] as an option. nil: none.
func WithStatsHandler(fn func(Stats)) Option {
	return optionFunc(func(s *settings) error {
		if fn != nil {
			s.onStats = append(s.onStats, fn)
		}
		return nil
	})
}

// WithAlertHandler is [Monitor.OnAlert] as an option. nil: none.
func WithAlertHandler(fn func(Alert)) Option {
	return optionFunc(func(s *settings) error {
		if fn != nil {
			s.onAlert = append(s.onAlert, fn)
		}
		return nil
	})
}

var errNilCallback = errors.New("the callback is nil")
