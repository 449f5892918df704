package retry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// Hook repeats commands according to a Policy. Add it before all other hooks of the client, so that
// they see each attempt. It is safe for concurrent use and starts no goroutine. Make it with
// NewHook or Attach.
type Hook struct {
	policy  Policy
	invalid error
	log     *slog.Logger
	node    string
	count   counters
	breaker *breaker
	// onBreaker is called when a breaker changes state; nil: changes are logged.
	onBreaker func(node string, open bool, cause error)
	// fanout: the client sends to several nodes, each of which has a hook from Node.
	fanout  atomic.Bool
	cluster bool // it follows MOVED and ASK

	cut   *atomic.Uint64 // see attempt.Internals.SetFacts; nil: unknown
	nodes func() int
}

var _ redis.Hook = (*Hook)(nil)

// NewHook returns a hook for a Client, FailoverClient or Conn. For a ClusterClient or Ring see
// [Hook.Node], or use [Attach], which handles all of them. If the policy does not pass
// [Policy.Validate], every command fails with the error of Validate.
func NewHook(policy Policy, opts ...Option) *Hook {
	h := &Hook{policy: policy.withDefaults(), invalid: policy.Validate()}
	for _, opt := range opts {
		if opt != nil {
			opt(h)
		}
	}
	h.breaker = newBreaker(h.node, policy.Breaker, h.breakerChanged)
	return h
}

// Stats returns the hook's current counters. They include those of its nodes.
func (h *Hook) Stats() Stats { return h.count.snapshot() }

// DialHook marks dial failures, so that an unsent command is never taken for a sent one.
func (h *Hook) DialHook(next redis.DialHook) redis.DialHook { return markDial(next) }

func markDial(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			err = &dialError{err}
		}
		return conn, err
	}
}

// ProcessHook repeats single commands.
func (h *Hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return h.Process(ctx, cmd, next) }
}

// Process does the work of ProcessHook, for hooks that contain this one.
func (h *Hook) Process(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
	return h.run(ctx, cmd, next, false)
}

// run is Process. kept: go-redis keeps the connection of the command after an error, because it is
// that of a Conn or a transaction.
func (h *Hook) run(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook, kept bool) error {
	if command.IsHandshake(cmd) {
		return handshake(cmd, next(ctx, cmd))
	}
	if h.invalid != nil {
		return h.invalid
	}
	if a, ok := ctx.(*attempt.Continued); ok {
		return h.goOn(a, cmd, next)
	}
	if err := ctx.Err(); err != nil {
		return err // nothing was sent, so the outcome is not unknown
	}
	h.count.calls.Add(1)
	h.policy.Budget.deposit(1)
	if h.fanout.Load() {
		cmd.SetErr(nil) // of an earlier use: a node's hook looks at it
		if ctx = attempt.Single(ctx); command.RunsScript(cmd) {
			ctx = attempt.With(ctx, attempt.Script)
		}
	}
	if h.policy.PerAttempt > 0 || !h.breaker.clean() {
		return h.watched(ctx, cmd, next, kept)
	}
	// The common path allocates nothing. What is rare is in functions of its own, which are not
	// inlined: their variables would be part of this one's stack frame, and a goroutine per request
	// starts with a small stack, which has to be copied to a larger one when it is full.
	cut := h.cutSoFar(kept)
	err := h.errOf(cmd, next(ctx, cmd))
	if err == nil || err == redis.Nil {
		if !h.breaker.clean() {
			h.answered()
		}
		return err
	}
	return h.failed(ctx, cmd, next, err, cut, kept)
}

// goOn continues with a command whose first attempt was part of a pipeline.
//
//go:noinline
func (h *Hook) goOn(a *attempt.Continued, cmd redis.Cmder, next redis.ProcessHook) error {
	f := h.understand(a.Context, cmd, a.Failed, h.cutSoFar(false))
	if f.outcome == NotSent {
		h.record(f) // what was sent was recorded with its pipeline
	}
	return h.process(a.Context, cmd, next, f, false)
}

// watched runs a command whose first attempt has a limit of its own, or may be refused by the
// breaker.
//
//go:noinline
func (h *Hook) watched(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook, kept bool) error {
	return h.process(ctx, cmd, next, h.once(ctx, cmd, next, kept), kept)
}

//go:noinline
func (h *Hook) answered() { h.breaker.record(failure{outcome: Answered}) }

// failed continues after a first attempt that failed.
//
//go:noinline
func (h *Hook) failed(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook, err error, cut uint64, kept bool) error {
	f := h.understand(ctx, cmd, err, cut)
	h.record(f)
	if err := h.breaker.stillOpen(f); err != nil {
		f = classify(err)
	}
	return h.process(ctx, cmd, next, f, kept)
}

// progress counts what one call has done so far.
type progress struct {
	tries int // attempts
	sent  int // attempts in which something was sent
	idle  int // consecutive attempts in which nothing was sent
	since time.Time

	evicted int // of those: attempts whose connection was evicted, for its age and the like
}

// process continues after the first attempt until the call is over.
func (h *Hook) process(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook, f failure, kept bool) error {
	if f.outcome == Answered && f.kind == final {
		return f.err
	}
	p := progress{tries: 1}
	marks, base := attempt.MarksOf(ctx), ctx
	var unsure error // error of an earlier attempt that may have been executed
	for f.kind != final && h.mayGoOn(ctx, cmd, f, marks) {
		a := Attempt{Command: command.DisplayName(cmd), Commands: 1, Safety: h.safety(cmd)}
		if ok, err := h.pause(ctx, &p, f, a); !ok {
			f.err = err
			break
		}
		if f.outcome == Unknown {
			unsure = f.err
		}
		cmd.SetErr(errUnanswered) // see answers.go, and so that an old error is not taken for a new one
		p.tries++
		last := f
		ctx = afterRefusal(ctx, base, f)
		f = h.once(ctx, cmd, next, kept)
		if f.err == errUnanswered || unused(f, last) {
			// The next hook cannot send again: the full-duplex auto-pipeline only waits for what
			// was sent before, and a Conn cannot be used after a failure.
			f = last
			break
		}
	}
	err := f.err
	switch {
	case err == nil || err == redis.Nil:
		if unsure != nil && h.tellsLess(cmd, err, marks, false) {
			err = h.replyLost(ctx, cmd, unsure, p.tries)
		}
	case unsure == nil && f.outcome != Unknown:
	case command.NameOf(cmd) == "shutdown" && errors.Is(err, io.EOF):
		err = io.EOF // a server that obeys sends no reply; go-redis's methods turn EOF into success
	default:
		err = h.unknown(ctx, cmd, err, p.tries)
	}
	cmd.SetErr(err) // for methods of ClusterClient that ignore what a hook returns
	return err
}

// once makes one attempt.
func (h *Hook) once(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook, kept bool) failure {
	end, err := h.admit()
	if err != nil {
		return classify(err)
	}
	if end != nil {
		defer func() { end(failure{outcome: Unknown}) }() // if next panics
	}
	actx := ctx
	if h.policy.PerAttempt > 0 {
		var cancel context.CancelFunc
		actx, cancel = context.WithTimeout(ctx, h.policy.PerAttempt)
		defer cancel()
	}
	cut := h.cutSoFar(kept)
	f := h.understand(ctx, cmd, h.errOf(cmd, next(actx, cmd)), cut)
	if end != nil {
		end(f)
	} else {
		h.record(f)
	}
	if err := h.breaker.stillOpen(f); err != nil {
		return classify(err)
	}
	return f
}

// errOf returns err, or else the error left in the command: ClusterClient.DBSize, ScriptLoad and a
// few more return none.
func (h *Hook) errOf(cmd redis.Cmder, err error) error {
	if err == nil && h.fanout.Load() {
		if e := cmd.Err(); e != errUnanswered {
			return e
		}
	}
	return err
}

// admit checks the breaker. end may be called twice; the first call counts.
func (h *Hook) admit() (end func(failure), err error) {
	if h.fanout.Load() {
		return nil, nil // each node has its own breaker
	}
	return h.ask(h.breaker)
}

func (h *Hook) ask(b *breaker) (end func(failure), err error) {
	done, err := b.allow()
	if err != nil {
		h.count.breakerRefusals.Add(1)
		return nil, err
	}
	if done == nil {
		return nil, nil
	}
	ended := false
	return func(f failure) {
		if !ended {
			ended = true
			done(f)
		}
	}, nil
}

func (h *Hook) record(f failure) {
	if !h.fanout.Load() {
		h.breaker.record(f)
	}
}

// keptConn is what cutSoFar returns for a command whose connection go-redis keeps after an error.
const keptConn = math.MaxUint64

// cutSoFar counts the connections that were closed with a command on them. For a command whose
// connection is kept that count proves nothing: it gets one that differs from all others.
func (h *Hook) cutSoFar(kept bool) uint64 {
	if h.cut == nil || kept {
		return keptConn
	}
	return h.cut.Load()
}
