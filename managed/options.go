package managed

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// Option changes how a managed client works. An invalid value makes New fail
// with an error that names the option and the value.
type Option func(*settings) error

type settings struct {
	log            *slog.Logger
	onEvent        func(hooks.Event)
	leakThreshold  time.Duration
	stacks         StackMode
	acquireTimeout time.Duration
	validateAfter  time.Duration
	now            func() time.Time
}

func defaults() settings {
	return settings{
		log:           slog.Default(),
		leakThreshold: time.Minute,
		validateAfter: 30 * time.Second,
	}
}

func bad(option string, value any, why string) error {
	return fmt.Errorf("lifeguard/managed: %s(%v): %s", option, value, why)
}

// StackMode says how much of the call stack of an Acquire is kept.
type StackMode int

const (
	StackFull StackMode = iota // up to 24 frames: reported with leaks, listed by Leases
	StackSite                  // file and line of the Acquire only: about 0.5 us less per lease
)

// WithLogger sets where leaks and other trouble are logged. Default:
// slog.Default(). nil is an error; to silence it, give a logger that discards.
func WithLogger(l *slog.Logger) Option {
	return func(s *settings) error {
		if l == nil {
			return bad("WithLogger", "nil", "give a logger, one that discards for silence")
		}
		s.log = l
		return nil
	}
}

// WithEventHandler sets a function that hears of every connection and lease:
// opened, failed, leased, released, leaked, reclaimed, closed and why. It is
// called in order, by one goroutine at a time, never by the caller of a command;
// it may block and may use the client. If it falls 65536 events behind, further
// ones are dropped and that is logged. Default: none. nil is an error.
func WithEventHandler(f func(hooks.Event)) Option {
	return func(s *settings) error {
		if f == nil {
			return bad("WithEventHandler", "nil", "give a function")
		}
		s.onEvent = f
		return nil
	}
}

// WithLeakThreshold sets how long a lease may be held before that is reported,
// once, with the stack of its Acquire; and once more when it comes back. Default
// 1 minute. 0 or negative: never.
func WithLeakThreshold(d time.Duration) Option {
	return func(s *settings) error { s.leakThreshold = d; return nil }
}

// WithLeaseStacks sets how much of the call stack is kept for each lease.
// Default StackFull.
func WithLeaseStacks(m StackMode) Option {
	return func(s *settings) error {
		if m != StackFull && m != StackSite {
			return bad("WithLeaseStacks", int(m), "give StackFull or StackSite")
		}
		s.stacks = m
		return nil
	}
}

// WithAcquireTimeout bounds how long an Acquire waits for a connection, besides
// its ctx. Default 0: Options.PoolTimeout of go-redis bounds the wait for a slot.
// Negative is an error.
func WithAcquireTimeout(d time.Duration) Option {
	return func(s *settings) error {
		if d < 0 {
			return bad("WithAcquireTimeout", d, "must not be negative")
		}
		s.acquireTimeout = d
		return nil
	}
}

// WithValidateAfter sets how long a connection may have been idle (no network
// traffic) for an Acquire to hand it out without a real PING. Default 30 s.
// 0: every Acquire sends a PING. Negative: none does.
func WithValidateAfter(d time.Duration) Option {
	return func(s *settings) error { s.validateAfter = d; return nil }
}
