package retry

import (
	"cmp"
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// ProcessPipelineHook repeats pipelines and transactions.
func (h *Hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return h.Pipeline(ctx, cmds, next) }
}

// Pipeline does the work of ProcessPipelineHook, for hooks that contain this one.
func (h *Hook) Pipeline(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
	return h.pipeline(ctx, cmds, next, nil)
}

// pipeline is Pipeline for callers that know where the pipeline comes from; see
// attempt.Internals.Pipeline.
func (h *Hook) pipeline(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook, own func() bool) error {
	if len(cmds) == 0 {
		return next(ctx, cmds)
	}
	if command.IsHandshake(cmds[0]) && allHandshake(cmds) {
		return handshakePipeline(cmds, next(ctx, cmds))
	}
	if err := h.invalid; err != nil {
		return command.SetErrs(cmds, err)
	}
	if err := ctx.Err(); err != nil {
		return command.SetErrs(cmds, err)
	}
	var c pipeCall
	c.h, c.ctx, c.cmds, c.body, c.next, c.own = h, ctx, cmds, cmds, next, own
	if isTx(cmds) {
		c.tx, c.body = true, cmds[1:len(cmds)-1]
	}
	h.count.calls.Add(uint64(len(c.body)))
	h.policy.Budget.deposit(len(c.body))
	return c.run()
}

// pipeCall is one call of a pipeline.
type pipeCall struct {
	h     *Hook
	ctx   context.Context
	next  redis.ProcessPipelineHook
	cmds  []redis.Cmder // with MULTI and EXEC, if it is a transaction
	body  []redis.Cmder // without
	tx    bool
	own   func() bool
	marks attempt.Mark
	cut   uint64 // cutSoFar before the attempt
	reach *reach // set for a client of several nodes
	fine  bool   // no command of the last attempt has an error

	// Both are allocated at the first failure.
	unsure []error   // of an earlier attempt that may have been executed
	fails  []failure // by command; the zero value means answered

	last error // what go-redis returned for the last attempt
}

func (c *pipeCall) run() error {
	if err := c.once(c.cmds, c.body); !c.fine {
		return c.goOn(err)
	}
	return nil
}

// goOn continues after a first attempt that returned err. It is not inlined, nor are the other
// rare parts, to keep the stack frames of the common path small; see Hook.Process.
//
//go:noinline
func (c *pipeCall) goOn(err error) error {
	if !c.assess(c.body, nil) {
		return attempt.Reveal(err)
	}
	p, base := progress{tries: 1}, c.ctx
	c.marks = attempt.MarksOf(c.ctx)
	if c.marks&attempt.First != 0 {
		return cmp.Or(firstErr(c.body), err) // not revealed: it may say that nothing was sent
	}
	c.last = err
	c.unsure = make([]error, len(c.body))
	for !attempt.Expired(c.ctx) {
		again, f, a := c.choose()
		if len(again) == 0 {
			break
		}
		if ok, err := c.h.pause(c.ctx, &p, f, a); !ok {
			var w *waitError
			if errors.As(err, &w) {
				for _, i := range again {
					c.fails[i].err = &waitError{w.ctx, c.fails[i].err}
				}
			}
			break
		}
		send := make([]redis.Cmder, 0, len(again)+2)
		if c.tx {
			send = append(send, c.cmds[0])
		}
		for _, i := range again {
			if c.fails[i].outcome == Unknown {
				c.unsure[i] = c.fails[i].err
			}
			send = append(send, c.body[i])
		}
		body := send
		if c.tx {
			body = send[1:]
			send = append(send, c.cmds[len(c.cmds)-1])
		}
		for _, cmd := range send {
			cmd.SetErr(nil)
		}
		p.tries++
		before := make([]failure, len(again))
		for n, i := range again {
			before[n] = c.fails[i]
		}
		c.ctx = afterRefusal(c.ctx, base, f)
		err = c.once(send, body)
		c.assess(body, again)
		dead := false
		for n, i := range again {
			if unused(c.fails[i], before[n]) {
				c.fails[i], dead = before[n], true // see process
			}
		}
		if dead {
			break
		}
		c.last = err
	}
	return c.finish(p.tries)
}

// once sends cmds, whose part without MULTI and EXEC is body, and leaves each command's error in
// the command.
func (c *pipeCall) once(cmds, body []redis.Cmder) error {
	h := c.h
	if h.policy.PerAttempt > 0 || !h.breaker.clean() || h.fanout.Load() {
		return c.watched(cmds, body)
	}
	c.cut = h.cutSoFar(c.kept())
	if err := c.send(c.ctx, cmds, body); err != nil || !h.breaker.clean() {
		return c.report(body, err, nil)
	}
	return nil
}

// watched is once with a limit of its own, or where the breaker may refuse, or for several nodes.
//
//go:noinline
func (c *pipeCall) watched(cmds, body []redis.Cmder) error {
	end, err := c.h.admit()
	if err != nil {
		return command.SetErrs(body, err)
	}
	if end != nil {
		defer func() { end(failure{outcome: Unknown}) }()
	}
	ctx := c.ctx
	if d := c.h.policy.PerAttempt; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(c.ctx, d)
		defer cancel()
	}
	c.cut = c.h.cutSoFar(c.kept())
	if c.h.fanout.Load() {
		c.reach = &reach{}
		ctx = context.WithValue(ctx, reachKey{}, c.reach)
	}
	err = c.send(ctx, cmds, body)
	if end == nil && c.h.breaker.clean() && err == nil {
		return nil
	}
	return c.report(body, err, end)
}

// report tells the breaker how an attempt ended that returned err.
//
//go:noinline
func (c *pipeCall) report(body []redis.Cmder, err error, end func(failure)) error {
	f := worst(c.ctx, body)
	if end != nil {
		end(f)
	} else {
		c.h.record(f)
	}
	if open := c.h.breaker.stillOpen(f); open != nil {
		c.fine = false
		return command.SetErrs(body, open)
	}
	return err
}

// kept reports whether go-redis keeps the pipeline's connection after an error.
func (c *pipeCall) kept() bool { return c.own != nil && !c.own() }

// send makes the attempt.
func (c *pipeCall) send(ctx context.Context, cmds, body []redis.Cmder) error {
	if c.tx {
		return c.sendTx(ctx, cmds, body)
	}
	if c.h.fanout.Load() {
		return c.next(ctx, cmds)
	}
	_ = command.SetErrs(body, errUnanswered)
	err := marked(ctx, body, cmds, c.next)
	if err == nil && !c.h.fanout.Load() {
		c.fine = answered(body)
		return nil
	}
	return c.sendFailed(err, body)
}

// sendTx sends a transaction. If its connection was refused with a reply, go-redis leaves its commands
// without an error.
//
//go:noinline
func (c *pipeCall) sendTx(ctx context.Context, cmds, body []redis.Cmder) error {
	err := c.next(ctx, cmds)
	if err != nil && isAnswer(err) && firstErr(body) == nil && judge(err).outcome == NotSent {
		_ = command.SetErrs(body, err)
	}
	return c.h.ofCallersCodeIn(c.ctx, body, err, c.cut)
}

//go:noinline
func (c *pipeCall) sendFailed(err error, body []redis.Cmder) error {
	if c.h.fanout.Load() {
		return unmark(body, err) // the client's first nodes were created meanwhile; their hooks have settled it
	}
	return c.h.settle(c.ctx, body, c.h.ofCallersCodeIn(c.ctx, body, err, c.cut), c.cut)
}

// worst returns the failure to report to the breaker: a connection failure if there is one.
func worst(ctx context.Context, cmds []redis.Cmder) failure {
	w := failure{outcome: NotSent}
	for _, cmd := range cmds {
		f := judge(cmd.Err())
		if f.node && !ownLimit(ctx, f) {
			return f
		}
		if f.outcome == Answered {
			w = failure{outcome: Answered}
		}
	}
	return w
}

// finish sets each command's error, and returns the first one.
func (c *pipeCall) finish(tries int) error {
	var first error
	again := c.writers()
	for i, cmd := range c.body {
		err := cmd.Err()
		if f := c.fails[i]; f.err != nil {
			err = f.err
			if f.outcome == Unknown || c.unsure[i] != nil && err != redis.Nil {
				err = c.h.unknown(c.ctx, cmd, err, tries)
			}
			cmd.SetErr(err)
		}
		if c.unsure[i] != nil && (err == nil || err == redis.Nil) && c.h.tellsLess(cmd, err, c.marks, again.touch(cmd)) {
			err = c.h.replyLost(c.ctx, cmd, c.unsure[i], tries)
			cmd.SetErr(err)
		}
		if first == nil {
			first = err
		}
	}
	if c.tx {
		if _, refused := first.(redis.Error); refused && isAbort(c.last) {
			first = c.last // as in go-redis: the error of the transaction, not that of a command
		}
		for _, cmd := range []redis.Cmder{c.cmds[0], c.cmds[len(c.cmds)-1]} {
			if first == nil || cmd.Err() != nil {
				cmd.SetErr(first)
			}
		}
	}
	return first
}

// writers counts, for each key, the writes that were sent again although they may have been
// executed.
func (c *pipeCall) writers() *writers {
	w := &writers{keys: map[string]int{}}
	for i, cmd := range c.body {
		if c.unsure[i] != nil && c.h.safety(cmd) != ReadOnly {
			w.add(cmd)
		}
	}
	return w
}
