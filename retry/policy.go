package retry

import (
	"fmt"
	"log/slog"
	"time"
)

const (
	// DefaultMaxAttempts is how many times a command is sent at most, including the first.
	DefaultMaxAttempts = 8
	// UnreachableLimit bounds how long a call without a deadline waits for an unreachable node, if
	// no breaker ends the wait sooner. Where a client of several nodes knows none, there is no breaker,
	// and BreakerPolicy.After is the limit.
	UnreachableLimit = 30 * time.Second
)

// Policy says what is tried again, how often and when. The zero value of each field means its
// default. A Policy is never modified by the hook.
type Policy struct {
	// MaxAttempts is how many times a command is sent at most, including the first. Attempts in
	// which nothing was sent do not count, nor does waiting for a server that is loading. Zero
	// means 8, negative no limit. 1 means a single attempt: nothing is tried again, not even a
	// dial that was refused.
	MaxAttempts int
	// Backoff is the wait before each retry. Nil means DefaultBackoff.
	Backoff Backoff
	// Budget limits the total number of retries. Nil means 20 % of this hook's calls plus 10 a
	// second. Several hooks may share one Budget.
	Budget *Budget
	// Classify says how safe a command is to repeat. Nil means SafetyOf.
	Classify Classifier
	// NoRepeatWrites limits repetition to reads, and to commands that were not sent or were
	// refused. Without it, an IdempotentWrite of unknown outcome is sent again, which can undo
	// another client's write: A's SET, B's SET, A's SET again. Default: false.
	NoRepeatWrites bool
	// IgnoreCounts returns the reply of a repetition although it may say less than the first one:
	// for callers who never read the replies of ZREM, SADD, DEL and the like. With false, the
	// default, such calls return an [*UnknownOutcomeError] with Applied set instead. See
	// [IdempotentState]; [Idempotent] does the same for one call.
	IgnoreCounts bool
	// PerAttempt limits each attempt with a ctx of its own. The limit applies while waiting for
	// the pool; on the network go-redis obeys it only with Options.ContextTimeoutEnabled. It also
	// cuts blocking commands short, and costs one allocation per command. Zero means no limit;
	// negative is an error.
	PerAttempt time.Duration
	// Breaker stops calls to a node that has been failing for long.
	Breaker BreakerPolicy
	// OnRetry, if not nil, is called before the wait of each retry. It runs on the caller's
	// goroutine, possibly on several at once, and must not block. A panic in it is recovered.
	OnRetry func(Attempt)
}

// Default returns the policy with every field set to its default: 8 attempts, full jitter from 8 to
// 512 ms, a budget of its own of 20 % and 10/s, SafetyOf, a breaker after 5 s.
func Default() Policy {
	return Policy{
		MaxAttempts: DefaultMaxAttempts,
		Backoff:     DefaultBackoff,
		Budget:      NewBudget(DefaultBudgetRatio, DefaultBudgetReserve),
		Classify:    SafetyOf,
		Breaker:     BreakerPolicy{After: DefaultBreakerAfter, Probe: DefaultBreakerProbe},
	}
}

// Validate returns an error that names the first field with an invalid value, and the value.
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

// Attempt describes a failed attempt that will be retried. It holds no arguments and no keys.
type Attempt struct {
	Command  string        // name of the command, "pipeline", or "multi" for a MULTI/EXEC pipeline
	Commands int           // how many commands are sent again, 1 outside of pipelines
	Number   int           // of the attempt that failed, from 1; those in which nothing was sent count here
	Err      error         // why it failed; of a pipeline, that of the least certain command
	Outcome  Outcome       // outcome according to Err
	Safety   Safety        // class of the command; of a pipeline, of the least safe one that is sent again
	Reason   Reason        // why it is sent again
	Wait     time.Duration // wait before the next attempt, 0 if it waits until the node can be reached
}

// Option is a setting of a hook that is not part of its policy.
type Option func(*Hook)

// WithLogger makes the hook log retries and unknown outcomes at level Debug, and breaker changes at
// Warn. Nil, the default, logs nothing.
func WithLogger(l *slog.Logger) Option { return func(h *Hook) { h.log = l } }

// WithBreakerHandler sets a function that is called when a breaker opens, with the cause, or
// closes. node is its address or name, as in WithNode and Hook.Node. It runs on a caller's
// goroutine, under no lock, and must not block. With it, breaker changes are not logged. Nil is the
// default.
func WithBreakerHandler(f func(node string, open bool, cause error)) Option {
	return func(h *Hook) { h.onBreaker = f }
}

// WithNode names the server of a single client in the breaker's errors and logs. The default is no
// name.
func WithNode(name string) Option { return func(h *Hook) { h.node = name } }

// WithCluster declares that the hook's client is a redis.ClusterClient: a MOVED or ASK that the
// client gives up on is sent again. [Attach] sets this by itself.
func WithCluster() Option { return func(h *Hook) { h.cluster = true } }
