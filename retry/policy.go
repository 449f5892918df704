package retry

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	// DefaultMaxAttempts is the number of times that a command is sent, the first
	// one included.
	DefaultMaxAttempts = 8
	// UnreachableLimit bounds the time that a call without a deadline waits for a node
	// that is unreachable, where no breaker ends it sooner.
	UnreachableLimit = 30 * time.Second
)

// Policy says what is tried again, how often and when. The zero value of each
// field stands for its default. A Policy is not changed by its use.
type Policy struct {
	// MaxAttempts is how often a command is sent at most, the first time
	// included. Attempts in which nothing was sent do not count, nor does waiting
	// for a server that is loading. Zero means 8, negative no limit. 1 means a single
	// attempt: nothing is tried again, a dial that is refused neither.
	MaxAttempts int
	// Backoff is the wait before each retry. Nil means DefaultBackoff.
	Backoff Backoff
	// Budget limits retries in all. Nil means 20 % of this hook's calls plus 10 a
	// second. One Budget may be given to several hooks, which then share it.
	Budget *Budget
	// Classify says how safe a command is to repeat. Nil means SafetyOf.
	Classify Classifier
	// NoRepeatWrites limits repetition to reads, and to what was not sent or was
	// refused. Otherwise an IdempotentWrite is sent again when it is not known whether
	// it was carried out, which another client may see: A's SET, B's SET, A's SET
	// again. Default: false.
	NoRepeatWrites bool
	// IgnoreCounts takes the reply of a repetition for the answer, although it may tell
	// less than the first one: for those who never read what ZREM, SADD, DEL and the
	// like reply. The zero value gives them an [*UnknownOutcomeError] that is Applied
	// instead. See [IdempotentState]; [Idempotent] does the same for one call.
	IgnoreCounts bool
	// PerAttempt limits each attempt, by a ctx of its own. The limit is kept while
	// waiting for the pool; go-redis keeps it on the network only with
	// Options.ContextTimeoutEnabled. It cuts blocking commands short, too, and
	// costs an allocation per command. Zero means no limit; negative is refused.
	PerAttempt time.Duration
	// Breaker stops calls to a node that has failed for long.
	Breaker BreakerPolicy
	// OnRetry, if not nil, is told of each retry before its wait. It is called by
	// the goroutine of the caller, by several at a time, and must not block. A
	// panic in it is recovered.
	OnRetry func(Attempt)
}

// Default returns the policy with every field set to what is used by default:
// 8 attempts, full jitter from 8 to 512 ms, a budget of its own of 20 % and
// 10/s, SafetyOf, a breaker after 5 s.
func Default() Policy {
	return Policy{
		MaxAttempts: DefaultMaxAttempts,
		Backoff:     DefaultBackoff,
		Budget:      NewBudget(DefaultBudgetRatio, DefaultBudgetReserve),
		Classify:    SafetyOf,
		Breaker:     BreakerPolicy{After: DefaultBreakerAfter, Probe: DefaultBreakerProbe},
	}
}

// Validate returns an error that names the first field with a value that cannot
// be used, and the value.
func (p Policy) Validate() error {
	if p.PerAttempt < 0 {
		return fmt.Errorf("lifeguard/retry: PerAttempt is %v: it must not be negative", p.PerAttempt)
	}
	return p.Breaker.validate()
}

func (p Policy) withDefaults() Policy {
	if p.MaxAttempts == 0 {
		p.MaxAttempts = DefaultMaxAttempts
	}
	if p.Backoff == nil {
		p.Backoff = DefaultBackoff
	}
	if p.Budget == nil {
		p.Budget = NewBudget(DefaultBudgetRatio, DefaultBudgetReserve)
	}
	if p.Classify == nil {
		p.Classify = SafetyOf
	}
	return p
}

// Attempt describes an attempt that failed and is followed by another one. It
// holds no arguments and no keys.
type Attempt struct {
	Command  string        // name of the command, "pipeline", or "multi" for a MULTI/EXEC pipeline
	Commands int           // how many commands are sent again, 1 outside of pipelines
	Number   int           // of the attempt that failed, from 1; those in which nothing was sent count here
	Err      error         // why it failed; of a pipeline, that of the least certain command
	Outcome  Outcome       // what Err tells
	Safety   Safety        // class of the command; of a pipeline, of the least safe one that is sent again
	Reason   Reason        // why it is sent again
	Wait     time.Duration // wait before the next attempt, 0 if it waits until the node can be reached
}

// Option is a setting of a hook that is no part of its policy.
type Option func(*Hook)

// WithLogger makes the hook log retries and unknown outcomes at level Debug,
// and changes of breakers at Warn. Nil, the default, logs nothing.
func WithLogger(l *slog.Logger) Option { return func(h *Hook) { h.log = l } }

// WithFacts gives the hook facts that only the owner of the client knows. cut counts the
// connections that were closed while a command was on them: an error that says nothing
// by itself, of a hook that the caller has added, say, is NotSent if none was, and
// unknown otherwise. nodes counts the nodes of a client of several; without one there
// is nothing to wait for. Both may be nil.
func WithFacts(cut *atomic.Uint64, nodes func() int) Option {
	return func(h *Hook) {
		h.cut, h.nodes = cut, nodes
		if nodes != nil {
			h.fanout.Store(true)
		}
	}
}

// WithBreakerHandler sets a function that hears when a breaker opens, with the cause,
// or closes. node is its address or name, as in WithNode and Hook.Node. It is called by
// the goroutine of a caller, under no lock, and must not block. With it nothing is
// logged of breakers. Nil is the default.
func WithBreakerHandler(f func(node string, open bool, cause error)) Option {
	return func(h *Hook) { h.onBreaker = f }
}

// WithNode names the server of a single client in the errors and logs of its
// breaker. The default is no name.
func WithNode(name string) Option { return func(h *Hook) { h.node = name } }

// WithCluster says that the hook's client is a redis.ClusterClient: a MOVED or ASK that
// it gives up on is sent again. [Attach] knows.
func WithCluster() Option { return func(h *Hook) { h.cluster = true } }
