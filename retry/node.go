package retry

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// Node returns a hook for the client of one node of a ClusterClient or Ring whose whole-client hook
// is h. It holds the node's breaker, marks dial failures, separates the answered commands of a
// pipeline from the others, and keeps the cluster from resending a node's pipeline by itself; it
// repeats nothing. To prevent the resending, it adds a PING to pipelines of several commands or of
// a script: go-redis resends all of them if the first is answered by, say, TRYAGAIN, unless one
// among them must not be repeated, such as a command that streams its reply.
//
// name is used in errors and logs. Add the hooks in OnNewNode, before the first use:
//
//	cluster.OnNewNode(func(c *redis.Client) { c.AddHook(hook.Node(c.Options().Addr)) })
//	cluster.AddHook(hook)
func (h *Hook) Node(name string) redis.Hook {
	h.fanout.Store(true)
	return &nodeHook{h: h, name: name, breaker: newBreaker(name, h.policy.Breaker, h.breakerChanged)}
}

type nodeHook struct {
	h       *Hook
	name    string
	breaker *breaker
}

func (n *nodeHook) DialHook(next redis.DialHook) redis.DialHook { return markDial(next) }

func (n *nodeHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if command.IsHandshake(cmd) {
			return handshake(cmd, next(ctx, cmd))
		}
		err := n.process(ctx, cmd, next)
		if err == nil || err == redis.Nil || attempt.MarksOf(ctx)&attempt.Alone == 0 {
			return err
		}
		return n.finalOne(ctx, cmd, n.h.kept(ctx, cmd, err))
	}
}

func (n *nodeHook) process(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error {
	end, err := n.h.ask(n.breaker)
	if err != nil {
		return &nodeError{real: err, open: true}
	}
	if end != nil {
		defer func() { end(failure{outcome: Unknown}) }()
	}
	cut := n.h.cutSoFar(false)
	err = next(ctx, cmd)
	if err == nil && end == nil && n.breaker.clean() {
		return nil
	}
	if err != nil && err != redis.Nil {
		if attempt.MarksOf(ctx)&attempt.Alone != 0 {
			cut = keptConn
		}
		err = n.h.ofCallersCode(cmd, err, cut)
	}
	f := n.h.judge(ctx, err, cut)
	if before, ok := refusedBefore(ctx, n.name, err, cmd); ok {
		f, err = before, &nodeError{real: before.err}
	}
	if end != nil {
		end(f)
	} else {
		n.breaker.record(f)
	}
	if open := n.breaker.stillOpen(f); open != nil {
		return &nodeError{real: open, open: true}
	}
	return n.hide(ctx, cmd, hideScript(ctx, cmd, err))
}

// finalOne returns the error that the caller is to see for a command that no outer hook has sent.
func (n *nodeHook) finalOne(ctx context.Context, cmd redis.Cmder, err error) error {
	f := judge(err)
	if f.outcome != Answered {
		f.err = attempt.Ended(ctx, f.err)
	}
	if f.outcome == Unknown {
		return n.h.unknown(ctx, cmd, f.err, 1)
	}
	return f.err
}

// hideScript keeps a cluster from mistaking a script's own reply for one of the server, and from
// running the script again. It hides only the errors of commands that the outer hook sent, because
// the outer hook restores them.
func hideScript(ctx context.Context, cmd redis.Cmder, err error) error {
	if err == nil || err == redis.Nil || attempt.MarksOf(ctx)&attempt.Script == 0 || !isAnswer(err) {
		return err
	}
	var e early
	if errors.As(err, &e) {
		return err // the script was not sent
	}
	if s := err.Error(); !misleads(s) || isServersOwn(s, cmd.Args()) {
		return err
	}
	return &nodeError{real: err, script: true}
}

// hide keeps a hidden error hidden and preserves its meaning.
func (n *nodeHook) hide(ctx context.Context, cmd redis.Cmder, err error) error {
	if err == nil || err == redis.Nil {
		return err
	}
	if asksForMap(cmd) && judge(err).outcome == Unknown {
		return &mapError{attempt.Reveal(err)}
	}
	var e early
	var hd hidden
	if errors.As(err, &e) || !errors.As(err, &hd) {
		return err
	}
	switch err.(type) {
	case *nodeError, *codeError:
		return err
	}
	real := attempt.Reveal(err)
	return &nodeError{real: attempt.Ended(ctx, real), unknown: OutcomeOf(real) == Unknown && n.h.safety(cmd) != ReadOnly}
}

// asksForMap reports whether cmd is one that a cluster sends to load its slot map, before it sends
// the caller's command.
func asksForMap(cmd redis.Cmder) bool { return command.Args(cmd.Args()).Is(0, "cluster") }

func (n *nodeHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if len(cmds) == 0 {
			return next(ctx, cmds)
		}
		if cmds = withoutGuards(cmds); len(cmds) == 0 {
			return nil
		}
		if allHandshake(cmds) {
			return handshakePipeline(cmds, next(ctx, cmds))
		}
		r, outer := ctx.Value(reachKey{}).(*reach)
		if outer {
			if r.full.Load() == n {
				if f, ok := refusedBefore(ctx, n.name, redis.ErrPoolTimeout, cmds...); ok {
					return &nodeError{real: f.err}
				}
				return redis.ErrPoolTimeout
			}
			r.node.Store(true)
		}
		if !outer && len(cmds) == 1 && attempt.IsSingle(ctx) {
			if err := cmds[0].Err(); errors.Is(attempt.Reveal(err), redis.ErrPoolTimeout) {
				return err // as above: a cluster tries again
			}
			outer = true
		}
		// A cluster sends ASKING ahead of the pipeline.
		outer = outer || command.Args(cmds[0].Args()).Is(0, "asking")
		_ = command.SetErrs(cmds, nil) // of an earlier attempt: go-redis keeps the first error
		end, err := n.h.ask(n.breaker)
		if err != nil {
			return refusePipeline(cmds, err, outer)
		}
		if end != nil {
			defer func() { end(failure{outcome: Unknown}) }()
		}
		tx := isTx(cmds) || len(cmds) > 2 && isTx(cmds[1:]) // after ASKING
		cut := n.h.cutSoFar(!outer)
		if tx {
			err = n.h.ofCallersCodeIn(ctx, cmds, next(ctx, cmds), cut)
		} else {
			err = n.pipeline(ctx, cmds, next, cut)
		}
		if !tx || !isAbort(err) { // a command that was not queued has a reply of the server's
			distrust(cmds)
		}
		if r != nil && errors.Is(err, redis.ErrPoolTimeout) {
			r.full.Store(n)
		}
		f := worst(ctx, cmds)
		g := judge(err)
		if g.node = g.node && !ownLimit(ctx, g); g.node || tx && g.outcome != Answered {
			f = g // a cluster sets the errors of a transaction's commands later
		}
		if end != nil {
			end(f)
		} else {
			n.breaker.record(f)
		}
		if open := n.breaker.stillOpen(f); open != nil {
			return refusePipeline(cmds, open, outer)
		}
		if f, ok := refusedBefore(ctx, n.name, err, cmds...); ok {
			err = command.SetErrs(cmds, &nodeError{real: f.err})
		}
		for _, cmd := range cmds {
			switch e := cmd.Err(); e {
			case nil:
			case context.Canceled, context.DeadlineExceeded: // while it waited for a connection
				cmd.SetErr(asEarly(e))
			default:
				cmd.SetErr(n.hide(ctx, cmd, e))
			}
		}
		if err == context.Canceled || err == context.DeadlineExceeded {
			err = asEarly(err)
		}
		if !outer {
			return n.final(ctx, cmds, tx, err)
		}
		if len(cmds) == 2 { // after ASKING
			err = hideScript(ctx, cmds[1], err)
		}
		return err
	}
}

// refusePipeline sets the error of the commands of a pipeline that the breaker refuses, and returns it: a
// ring sets none. outer: an outer hook sent the pipeline.
func refusePipeline(cmds []redis.Cmder, err error, outer bool) error {
	if outer {
		err = &nodeError{real: err, open: true}
	}
	return command.SetErrs(cmds, err)
}

// final sets, on the commands of a pipeline that no outer hook has sent (of a Tx or of the node's
// own client), the errors that their caller is to see.
func (n *nodeHook) final(ctx context.Context, cmds []redis.Cmder, tx bool, err error) error {
	body := cmds
	if tx {
		body = cmds[1 : len(cmds)-1]
	}
	lost := OutcomeOf(err) == Unknown
	var first error
	sent := partial{cmds: body, tx: tx}
	for i, cmd := range body {
		e := cmd.Err()
		if e == nil && tx && lost {
			e = err // EXEC was not answered
		}
		if e == nil {
			continue
		}
		if f := judge(e); f.foreign {
			if e = f.err; !(f.coded && f.outcome == NotSent) && sent.outcome(i, e) == Unknown {
				e = n.h.unknown(ctx, cmd, e, 1)
			}
		} else {
			e = n.finalOne(ctx, cmd, e)
		}
		cmd.SetErr(e)
		if first == nil {
			first = e
		}
	}
	if lost && first != nil {
		return first
	}
	return attempt.Reveal(err)
}

func (n *nodeHook) pipeline(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook, cut uint64) error {
	send := cmds
	var last redis.Cmder
	if (len(cmds) > 1 || command.RunsScript(cmds[0])) && !holdsNoRetry(cmds) {
		last = &guard{redis.NewRawWriteToCmd(ctx, io.Discard, "ping")}
		send = append(cmds[:len(cmds):len(cmds)], last)
	}
	_ = command.SetErrs(send, errUnanswered)
	err := marked(ctx, send, send, next)
	err = n.h.settle(ctx, send, n.h.ofCallersCodeIn(ctx, cmds, err, cut), cut)
	if last != nil && err != nil && isAnswer(err) && errtext.Same(err, last.Err()) {
		return firstErr(cmds) // the PING was refused, which does not matter
	}
	return err
}

// guard is the PING behind a pipeline.
type guard struct{ *redis.RawWriteToCmd }

// withoutGuards returns the commands of the caller. If their node could not be reached, go-redis
// distributes all of them once more, and may send a guard, which has no key, to another node: that
// node, which may hang, is not to be asked for nothing but a PING.
func withoutGuards(cmds []redis.Cmder) []redis.Cmder {
	isGuard := func(cmd redis.Cmder) bool { _, ok := cmd.(*guard); return ok }
	if !slices.ContainsFunc(cmds, isGuard) {
		return cmds
	}
	return slices.DeleteFunc(slices.Clone(cmds), isGuard)
}

// holdsNoRetry reports whether the reply of one of cmds goes to a writer or buffer of the caller's.
func holdsNoRetry(cmds []redis.Cmder) bool { return slices.ContainsFunc(cmds, redis.Cmder.NoRetry) }

func firstErr(cmds []redis.Cmder) error {
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil {
			return err
		}
	}
	return nil
}
