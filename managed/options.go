package managed

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/testclock"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// Option changes how a managed client works. An invalid value makes New fail with an error that
// names the option and the value.
type Option func(*settings) error

type settings struct {
	log            *slog.Logger
	onEvent        func(hooks.Event)
	leakThreshold  time.Duration
	stacks         StackMode
	acquireTimeout time.Duration
	validateAfter  time.Duration
	maxAge         time.Duration
	maxAgeJitter   float64
	maxIdle        time.Duration
	heartbeat      time.Duration
	detection      FailureDetection
	retry          *retry.Policy
	blockingPool   int
	connLimit      int
	buffers        Buffers
	monitor        []monitor.Option
	monitored      bool             // WithMonitor was given
	now, wall      func() time.Time // clocks for tests
}

const unset = time.Duration(-1 << 62)

func defaults() settings {
	return settings{
		log:           slog.Default(),
		wall:          testclock.Wall(),
		leakThreshold: time.Minute,
		validateAfter: 30 * time.Second,
		maxAge:        unset,
		maxAgeJitter:  -1,
		maxIdle:       unset,
		heartbeat:     -1,
	}
}

// fill takes values from go-redis's options where none of our options was given.
func (s *settings) fill(opt *redis.Options) {
	if s.maxAge == unset {
		s.maxAge = opt.ConnMaxLifetime
	}
	if s.maxAgeJitter < 0 {
		s.maxAgeJitter = 0.1
		if opt.ConnMaxLifetimeJitter > 0 && opt.ConnMaxLifetime > 0 {
			s.maxAgeJitter = min(1, float64(opt.ConnMaxLifetimeJitter)/float64(opt.ConnMaxLifetime))
		}
	}
	if s.maxIdle == unset {
		s.maxIdle = opt.ConnMaxIdleTime
		if s.maxIdle == 0 {
			s.maxIdle = 30 * time.Minute // go-redis's default
		}
	}
	s.maxAge, s.maxIdle = max(s.maxAge, 0), max(s.maxIdle, 0)
	s.detection = s.detection.filled()
}

func bad(option string, value any, why string) error {
	return fmt.Errorf("lifeguard/managed: %s(%v): %s", option, value, why)
}

// WithLogger sets the logger for leaks and other problems. Default: slog.Default(). nil: the
// default; for no logs, pass slog.DiscardHandler.
func WithLogger(l *slog.Logger) Option {
	return func(s *settings) error {
		if l != nil {
			s.log = l
		}
		return nil
	}
}

// WithEventHandler sets a function that is called for every event of a connection, a lease or
// a node's health: see hooks.EventKind. It is called in order, by one goroutine at a time, never by
// the caller of a command; it may block and may use the client. A panic in it is logged. If it falls
// 65536 events behind, the oldest are dropped and that is logged. Default: none. nil: none.
func WithEventHandler(f func(hooks.Event)) Option {
	return func(s *settings) error {
		s.onEvent = f
		return nil
	}
}

// WithLeakThreshold sets how long a lease may be held before that is reported, once, with the stack
// of its Acquire; its later release is reported, too. Default 1 minute. 0 or negative: never.
func WithLeakThreshold(d time.Duration) Option {
	return func(s *settings) error { s.leakThreshold = d; return nil }
}

// WithLeaseStacks sets how much of the call stack is kept for each lease.
// Default StackAuto.
func WithLeaseStacks(m StackMode) Option {
	return func(s *settings) error {
		if m != StackAuto && m != StackFull && m != StackSite {
			return bad("WithLeaseStacks", int(m), "give StackAuto, StackFull or StackSite")
		}
		s.stacks = m
		return nil
	}
}

// WithAcquireTimeout bounds how long an Acquire waits for a connection, in addition to its ctx.
// Default 0: Options.PoolTimeout of go-redis bounds the wait for a slot. Negative is an error.
func WithAcquireTimeout(d time.Duration) Option {
	return func(s *settings) error {
		if d < 0 {
			return bad("WithAcquireTimeout", d, "must not be negative")
		}
		s.acquireTimeout = d
		return nil
	}
}

// WithValidateAfter sets how long a connection may have been idle (no network traffic) for an
// Acquire to return it without a real PING. Default 30 s. 0: every Acquire sends a PING. Negative:
// none does.
func WithValidateAfter(d time.Duration) Option {
	return func(s *settings) error { s.validateAfter = d; return nil }
}

// WithMaxAge sets the age at which a connection is closed: after that it is never used again, and
// when idle it is closed a little earlier. Default: Options.ConnMaxLifetime, which is none. 0:
// none. Negative is an error. While the server accepts no new connections, none is closed for its
// age.
func WithMaxAge(d time.Duration) Option {
	return func(s *settings) error {
		if d < 0 {
			return bad("WithMaxAge", d, "must not be negative; 0 for none")
		}
		s.maxAge = d
		return nil
	}
}

// WithMaxAgeJitter spreads the closing of connections that were opened together: each one's maximum
// age is reduced by a random part of this fraction of it, chosen once. Default:
// Options.ConnMaxLifetimeJitter, else 0.1. 0: none. Outside of 0 to 1 is an error.
func WithMaxAgeJitter(fraction float64) Option {
	return func(s *settings) error {
		if !(fraction >= 0 && fraction <= 1) {
			return bad("WithMaxAgeJitter", fraction, "must be between 0 and 1")
		}
		s.maxAgeJitter = fraction
		return nil
	}
}

// WithMaxIdle sets how long unneeded connections are kept: the pool shrinks to the peak of
// concurrent use over that time plus MinIdleConns; without traffic, to MinIdleConns. If heartbeats
// are due and MinIdleConns is above 0, one more is kept: a heartbeat takes one out of the pool, for
// which go-redis would dial another each time. Default: Options.ConnMaxIdleTime, which is 30
// minutes, negative for never. 0: all are kept. Negative is an error.
func WithMaxIdle(d time.Duration) Option {
	return func(s *settings) error {
		if d < 0 {
			return bad("WithMaxIdle", d, "must not be negative; 0 to keep connections")
		}
		s.maxIdle = d
		return nil
	}
}

// WithHeartbeat sets how long a connection is idle before it gets a real PING, so that neither the
// server nor a load balancer closes it. Default: automatic, which is 3/4 of the server's `timeout`,
// or none if that is 0 or the server does not allow CONFIG GET. 0: none. Negative: automatic.
func WithHeartbeat(d time.Duration) Option {
	return func(s *settings) error { s.heartbeat = max(d, -1); return nil }
}

// WithFailureDetection sets how half-open connections are detected when one connection fails.
// Default: FailureDetection{}, which is on.
func WithFailureDetection(p FailureDetection) Option {
	return func(s *settings) error {
		s.detection = p
		return p.validate()
	}
}
