package retry

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

const (
	// DefaultBreakerAfter is how long a node must have been failing before its breaker opens.
	DefaultBreakerAfter = 5 * time.Second
	// DefaultBreakerProbe is how long a breaker stays open before one call probes the node.
	DefaultBreakerProbe = time.Second

	// breakerFailures is the least number of consecutive failures: under light traffic, two
	// failures can be far apart.
	breakerFailures = 3
)

// BreakerPolicy says when to stop sending to a node. Only connection failures count: a dial, a
// write, or a read that fails or times out. Replies, including error replies, do not count; nor do
// pool timeouts or calls that ended because the caller's own context ended.
type BreakerPolicy struct {
	// After is how long a node must have been failing, without one success, before its breaker
	// opens; calls wait out shorter outages. Zero means 5 s, negative disables the breaker.
	After time.Duration
	// Probe is how long the breaker stays open before one call is let through to probe the node.
	// Zero means 1 s; negative is an error.
	Probe time.Duration
}

func (p BreakerPolicy) validate() error {
	if p.Probe < 0 {
		return fmt.Errorf("lifeguard/retry: Breaker.Probe is %v: it must not be negative", p.Probe)
	}
	return nil
}

// breaker records when failures began; gobreaker holds the states. While nothing fails, a call
// reads one flag only.
type breaker struct {
	node    string
	after   time.Duration
	probe   time.Duration
	changed func(node string, m move)

	hasFailed atomic.Bool // something has failed since the last success

	mu       sync.Mutex
	cb       *gobreaker.TwoStepCircuitBreaker[struct{}]
	since    time.Time // time of the first failure in the current run
	failures int
	opened   time.Time
	cause    error
	moves    []move // state changes that have not been reported to changed yet
}

type move struct {
	from, to gobreaker.State
	cause    error
}

// errNeither ends a probe that showed nothing about the node.
var errNeither = errors.New("neither")

func newBreaker(node string, p BreakerPolicy, changed func(node string, m move)) *breaker {
	if p.After < 0 {
		return nil
	}
	b := &breaker{node: node, after: p.After, probe: p.Probe, changed: changed}
	if b.after == 0 {
		b.after = DefaultBreakerAfter
	}
	if b.probe == 0 {
		b.probe = DefaultBreakerProbe
	}
	b.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:        node,
		MaxRequests: 1,
		Timeout:     b.probe,
		// Called by failed, below, which holds mu.
		ReadyToTrip: func(gobreaker.Counts) bool {
			return b.failures >= breakerFailures && time.Since(b.since) >= b.after
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errNeither) },
		OnStateChange: func(_ string, from, to gobreaker.State) { // under mu
			b.moves = append(b.moves, move{from, to, b.cause})
		},
	})
	return b
}

// unlock unlocks mu, then reports the changes that were made under it. No callback runs under the
// lock: a logger may use this same client.
func (b *breaker) unlock() {
	moves := b.moves
	b.moves = nil
	b.mu.Unlock()
	if b.changed == nil {
		return
	}
	for _, m := range moves {
		b.changed(b.node, m)
	}
}

// clean reports whether nothing has failed since the last success.
func (b *breaker) clean() bool { return b == nil || !b.hasFailed.Load() }

// open reports whether the breaker lets nothing through, or only one probe.
func (b *breaker) open() bool {
	if b.clean() {
		return false
	}
	b.mu.Lock()
	defer b.unlock()
	return b.cb.State() != gobreaker.StateClosed
}

// allow lets a call through or refuses it. If end is not nil, the call is the probe, and end must
// be called with its result.
func (b *breaker) allow() (end func(failure), err error) {
	if b.clean() {
		return nil, nil
	}
	b.mu.Lock()
	defer b.unlock()
	if b.cb.State() == gobreaker.StateClosed {
		return nil, nil
	}
	done, err := b.cb.Allow()
	if err != nil {
		return nil, b.refusal()
	}
	return func(f failure) {
		b.mu.Lock()
		defer b.unlock()
		switch {
		case f.node:
			done(f.err)
			b.cause = f.err
		case f.outcome == Answered:
			done(nil)
			b.reset()
		default:
			done(errNeither)
		}
	}, nil
}

func (b *breaker) refusal() error {
	return &BreakerOpenError{Node: b.node, Since: b.opened, Cause: b.cause}
}

// stillOpen returns the error for a call that opened the breaker, or that failed as its probe, with
// nothing sent: the same error that all other calls get meanwhile. If such a call went on, it would
// become the next probe, again and again. It returns nil in all other cases.
func (b *breaker) stillOpen(f failure) error {
	if b == nil || !f.node || f.outcome != NotSent {
		return nil
	}
	b.mu.Lock()
	defer b.unlock()
	if b.cb.State() != gobreaker.StateOpen {
		return nil
	}
	return b.refusal()
}

// record records the result of a call that was not the probe.
func (b *breaker) record(f failure) {
	if b == nil {
		return
	}
	switch {
	case f.node:
		b.failed(f.err)
	case f.outcome == Answered && b.hasFailed.Load():
		b.mu.Lock()
		defer b.unlock()
		if b.cb.State() == gobreaker.StateClosed { // otherwise only the probe's result counts
			b.reset()
		}
	}
}

func (b *breaker) failed(err error) {
	b.mu.Lock()
	defer b.unlock()
	if b.cb.State() != gobreaker.StateClosed {
		return // a call that started before the breaker opened
	}
	if b.failures == 0 {
		b.since = time.Now()
	}
	b.failures++
	b.cause = err
	b.hasFailed.Store(true)
	done, cbErr := b.cb.Allow()
	if cbErr != nil {
		return
	}
	done(err)
	if b.cb.State() == gobreaker.StateOpen {
		b.opened = time.Now()
	}
}

func (b *breaker) reset() {
	b.failures, b.cause = 0, nil
	b.hasFailed.Store(false)
}

// remaining returns how long it takes at least until the breaker can open: 0 if it may open at any
// time, or if there is no breaker.
func (b *breaker) remaining() time.Duration {
	if b.clean() {
		return 0
	}
	b.mu.Lock()
	defer b.unlock()
	return max(b.after-time.Since(b.since), 0)
}
