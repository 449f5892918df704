package dashboard

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

const (
	// DefaultEvery is the time between two points of the charts without [Every].
	DefaultEvery = time.Second
	// MinEvery and MaxEvery bound it.
	MinEvery = 100 * time.Millisecond
	MaxEvery = time.Minute
)

// Option is a setting of [New].
type Option func(*settings) error

type settings struct {
	every   time.Duration
	title   string
	actions bool
	origins http.CrossOriginProtection
}

// Every sets the time between two points of the charts. Tables are renewed at the
// same pace, but once a second at most. Default 1 s. Less than 100 ms, zero,
// negative and more than a minute are refused.
func Every(d time.Duration) Option {
	return func(s *settings) error {
		if d < MinEvery || d > MaxEvery {
			return fmt.Errorf("lifeguard/dashboard: Every(%v): must be from %v to %v", d, MinEvery, MaxEvery)
		}
		s.every = d
		return nil
	}
}

// Title names the page, so that the pages of several clients can be told apart.
// Default "Redis connections". "" is refused.
func Title(name string) Option {
	return func(s *settings) error {
		if name == "" {
			return errors.New("lifeguard/dashboard: Title: the name is empty")
		}
		s.title = name
		return nil
	}
}

// AllowActions lets those who see the page end connections: the idle ones
// (Monitor.EvictIdle), or all of them, softly (Monitor.Reset). Requests of other
// sites are refused, see [http.CrossOriginProtection]. Default: the page only shows.
func AllowActions() Option {
	return func(s *settings) error {
		s.actions = true
		return nil
	}
}

// TrustOrigin lets an action be asked for by a page of that origin, as in
// "https://ops.example.com". It is needed only behind a reverse proxy that changes the
// Host header and is reached without TLS. Default: none but the page's own. What is no
// origin is refused.
func TrustOrigin(origin string) Option {
	return func(s *settings) error {
		if err := s.origins.AddTrustedOrigin(origin); err != nil {
			return fmt.Errorf("lifeguard/dashboard: TrustOrigin: %w", err)
		}
		return nil
	}
}
