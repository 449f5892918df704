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
	// DefaultBreakerAfter is how long a node must have failed for its breaker to open.
	DefaultBreakerAfter = 5 * time.Second
	// DefaultBreakerProbe is how long a breaker stays open before one call tries the node.
	DefaultBreakerProbe = time.Second

	// breakerFailures is the least number of failures in a row: with little
	// traffic, two of them can lie far apart.
	breakerFailures = 3
)

// BreakerPolicy says when to stop trying a node. Only failures of connections
// count: to dial, to write, to read in time. Replies, errors among them, do not,
// nor do pool timeouts and what the caller's own context ended.
type BreakerPolicy struct {
	// After is how long a node must have failed, without one success in between,
	// for its breaker to open; shorter outages are waited for. Zero means 5 s,
	// negative switches the breaker off.
	After time.Duration
	// Probe is how long the breaker stays open before one call is let through to
	// see whether the node is back. Zero means 1 s; negative is refused.
	Probe time.Duration
}

func (p BreakerPolicy) validate() error {
	if p.Probe < 0 {
		return fmt.Errorf("lifeguard/retry: Breaker.Probe is %v: it must not be negative", p.Probe)
	}
	return nil
}

// breaker keeps the clock of failures; gobreaker keeps the states. While nothing
// fails, a call reads one flag.
type breaker struct {
	node    string
	after   time.Duration
	probe   time.Duration
	changed func(node string, m move)

	dirty atomic.Bool // something has failed since the last success

	mu       sync.Mutex
	cb       *gobreaker.TwoStepCircuitBreaker[struct{}]
	since    time.Time // of the first failure in a row
	failures int
	opened   time.Time
	cause    error
	moves    []move // changes of state that changed is still to be told of
}

type move struct {
	from, to gobreaker.State
	cause    error
}

// errNeither ends a probe that has learned nothing about the node.
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

// unlock unlocks mu and tells of the changes that were made under it. Nobody else's
// code runs under the lock: a logger may use the same client.
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
func (b *breaker) clean() bool { return b == nil || !b.dirty.Load() }

// open reports whether it lets nothing through, or one probe at most.
func (b *breaker) open() bool {
	if b.clean() {
		return false
	}
	b.mu.Lock()
	defer b.unlock()
	return b.cb.State() != gobreaker.StateClosed
}

// allow lets a call through or refuses it. If end is not nil, the call is the
// probe, and end must be called with what came of it.
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

// stillOpen is what a call gets that has opened the breaker, or failed as its
// probe, with nothing sent: the same as all others meanwhile. If it went on, it
// would be the next probe, and so on. Otherwise it is nil.
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

// record takes note of a call that was not the probe.
func (b *breaker) record(f failure) {
	if b == nil {
		return
	}
	switch {
	case f.node:
		b.failed(f.err)
	case f.outcome == Answered && b.dirty.Load():
		b.mu.Lock()
		defer b.unlock()
		if b.cb.State() == gobreaker.StateClosed { // else only the probe's word counts
			b.reset()
		}
	}
}

func (b *breaker) failed(err error) {
	b.mu.Lock()
	defer b.unlock()
	if b.cb.State() != gobreaker.StateClosed {
		return // a call from before it opened
	}
	if b.failures == 0 {
		b.since = time.Now()
	}
	b.failures++
	b.cause = err
	b.dirty.Store(true)
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
	b.dirty.Store(false)
}

// remaining is how long it takes until the breaker can open, 0 if it may any time or
// there is none.
func (b *breaker) remaining() time.Duration {
	if b.clean() {
		return 0
	}
	b.mu.Lock()
	defer b.unlock()
	return max(b.after-time.Since(b.since), 0)
}
