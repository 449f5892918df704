package dashboard

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	// DefaultInterval is the time between two points of the charts without [WithInterval].
	DefaultInterval = time.Second
	// MinInterval and MaxInterval bound it.
	MinInterval = 100 * time.Millisecond
	MaxInterval = time.Minute
)

// Option is a setting of [New].
type Option func(*settings) error

type settings struct {
	every   time.Duration
	title   string
	actions bool
	origins http.CrossOriginProtection
	hosts   []string // besides localhost and addresses; lower case, without a port
}

// WithInterval sets the time between two points of the charts. Tables are refreshed at the same
// interval, but at most once a second. Default 1 s. Less than 100 ms, zero, negative and more than
// a minute are errors.
func WithInterval(d time.Duration) Option {
	return func(s *settings) error {
		if d < MinInterval || d > MaxInterval {
			return fmt.Errorf("lifeguard/dashboard: WithInterval(%v): must be from %v to %v", d, MinInterval, MaxInterval)
		}
		s.every = d
		return nil
	}
}

// WithTitle sets the title of the page, so that the pages of several clients can be distinguished.
// Default "Redis connections". "" is an error.
func WithTitle(name string) Option {
	return func(s *settings) error {
		if name == "" {
			return errors.New("lifeguard/dashboard: WithTitle: the name is empty")
		}
		s.title = name
		return nil
	}
}

// WithActions lets viewers of the page close connections: the idle ones (Monitor.EvictIdle), or all
// of them, gracefully (Monitor.Reset). Requests from other sites are refused, see
// [http.CrossOriginProtection]. So are requests, of any kind, whose Host is neither an IP address
// nor localhost nor given with [WithAllowedHost]: otherwise an attacker could make a name resolve
// to this server (DNS rebinding), and the attacker's page would count as this one. Default: no
// actions, and Host is not checked.
func WithActions() Option {
	return func(s *settings) error {
		s.actions = true
		return nil
	}
}

// WithTrustedOrigin allows actions from pages of that origin, such as "https://ops.example.com". It
// is needed only behind a reverse proxy that changes the Host header and is reached without TLS.
// Default: only the page's own origin. An invalid origin is an error.
func WithTrustedOrigin(origin string) Option {
	return func(s *settings) error {
		if err := s.origins.AddTrustedOrigin(origin); err != nil {
			return fmt.Errorf("lifeguard/dashboard: WithTrustedOrigin: %w", err)
		}
		return nil
	}
}

// WithAllowedHost names hosts under which the page is reached, such as "ops.example.com", without
// scheme and port, for a page with [WithActions]. Case is ignored. It can be given several times.
// Default: IP addresses and localhost only. Without WithActions it has no effect. An invalid host
// name is an error.
func WithAllowedHost(names ...string) Option {
	return func(s *settings) error {
		for _, name := range names {
			if name == "" || strings.ContainsAny(name, ":/@[] *") {
				return fmt.Errorf("lifeguard/dashboard: WithAllowedHost: %q is no host name: give it without scheme, port and path", name)
			}
			s.hosts = append(s.hosts, plainHost(name))
		}
		return nil
	}
}

// serves reports whether requests for a host, with or without a port, are answered.
func (s *settings) serves(host string) bool {
	if !s.actions {
		return true
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return true
	}
	name = plainHost(name)
	return name == "localhost" || slices.Contains(s.hosts, name)
}

func plainHost(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
