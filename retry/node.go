package retry

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/lifeguard-redis/lifeguard/internal/command"
	"github.com/redis/go-redis/v9"
)

// Attach adds a new hook to a client, as its last one so far, so it should be
// called before hooks are added that are to see each attempt. On a ClusterClient
// or Ring the clients of the nodes get theirs, see [Hook.Node].
//
// It refuses a policy that is not valid, a client whose own retries are on, and
// clients of other types.
func Attach(rdb redis.UniversalClient, policy Policy, opts ...Option) (*Hook, error) {
	if err := policy.Validate(); err != nil {
		return nil, err
	}
	h := NewHook(policy, opts...)
	switch c := rdb.(type) {
	case *redis.Client:
		if err := noRetries(c.Options().MaxRetries); err != nil {
			return nil, err
		}
	case *redis.ClusterClient:
		if err := noRetries(max(c.Options().MaxRetries, 0)); err != nil { // -1 here, 0 at the nodes
			return nil, err
		}
		h.fanout.Store(true)
		h.cluster = true
		c.OnNewNode(func(node *redis.Client) { node.AddHook(h.Node(node.Options().Addr)) })
	case *redis.Ring:
		if err := noRetries(c.Options().MaxRetries); err != nil {
			return nil, err
		}
		h.fanout.Store(true)
		c.OnNewNode(func(node *redis.Client) { node.AddHook(h.Node(node.Options().Addr)) })
	default:
		return nil, fmt.Errorf("lifeguard/retry: cannot attach to a %T: add NewHook, and Hook.Node to its nodes", rdb)
	}
	rdb.AddHook(h)
	return h, nil
}

func noRetries(n int) error {
	if n == 0 {
		return nil
	}
	return fmt.Errorf("lifeguard/retry: MaxRetries of the client is %d: go-redis would repeat writes; set it to -1", n)
}

// Node returns a hook for the client of one node of a ClusterClient or Ring, of
// which h is the hook of the whole. It holds the node's breaker, marks failures
// to dial, tells answered commands of a pipeline from others, and keeps the
// cluster from sending a node's pipeline again by itself; it repeats nothing.
// For the last of these a PING is added to pipelines of several commands or of a script: go-redis
// sends all of them again if the first is answered by, say, TRYAGAIN, except if
// one among them must not be repeated, as a command that streams its reply.
//
// name is for errors and logs. Add the hooks in OnNewNode, before the first use:
//
//	cluster.OnNewNode(func(c *redis.Client) { c.AddHook(hook.Node(c.Options().Addr)) })
//	cluster.AddHook(hook)
func (h *Hook) Node(name string) redis.Hook {
	h.fanout.Store(true)
	return &nodeHook{h: h, breaker: newBreaker(name, h.policy.Breaker, h.breakerChanged)}
}

// BreakerOpen reports whether the breaker of the client's one node is open: nothing
// is let through, or one call at most that tries the node. Those of several nodes are
// asked by the same method of what [Hook.Node] returns. Safe for concurrent use.
func (h *Hook) BreakerOpen() bool { return h.breaker.open() }

// BreakerOpen reports whether the node's breaker is open.
func (n *nodeHook) BreakerOpen() bool { return n.breaker.open() }

type nodeHook struct {
	h       *Hook
	breaker *breaker
}

func (n *nodeHook) DialHook(next redis.DialHook) redis.DialHook { return markDial(next) }

func (n *nodeHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if command.IsHandshake(cmd) {
			return handshake(cmd, next(ctx, cmd))
		}
		err := n.process(ctx, cmd, next)
		if err == nil || err == redis.Nil || marksOf(ctx)&markAlone == 0 {
			return err
		}
		return n.finalOne(ctx, cmd, err)
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
	cut := n.h.cutSoFar()
	err = next(ctx, cmd)
	if err == nil && end == nil && n.breaker.clean() {
		return nil
	}
	f := n.h.judge(ctx, err, cut)
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

// finalOne is the error that the caller of a command is to see which no outer hook has
// sent.
func (n *nodeHook) finalOne(ctx context.Context, cmd redis.Cmder, err error) error {
	f := judge(err)
	if f.outcome != Answered {
		f.err = Ended(ctx, f.err)
	}
	if f.outcome == Unknown {
		return n.h.unknown(ctx, cmd, f.err, 1)
	}
	return f.err
}

// hideScript keeps a cluster from taking what a script replies by itself for the
// server's word, and from running the script again. Only what the outer hook sends is
// marked, so that it is put back there.
func hideScript(ctx context.Context, cmd redis.Cmder, err error) error {
	if err == nil || err == redis.Nil || marksOf(ctx)&markScript == 0 || !isAnswer(err) {
		return err
	}
	if s := err.Error(); !misleads(s) || isServersOwn(s, cmd.Args()) {
		return err
	}
	return &nodeError{real: err, script: true}
}

// hide keeps a hidden error hidden, and says what it means.
func (n *nodeHook) hide(ctx context.Context, cmd redis.Cmder, err error) error {
	if err == nil || err == redis.Nil {
		return err
	}
	if asksForMap(cmd) && judge(err).outcome == Unknown {
		return &mapError{reveal(err)}
	}
	var e early
	var hd hidden
	if errors.As(err, &e) || !errors.As(err, &hd) {
		return err
	}
	if _, ok := err.(*nodeError); ok {
		return err
	}
	real := reveal(err)
	return &nodeError{real: Ended(ctx, real), unknown: OutcomeOf(real) == Unknown && n.h.safety(cmd) != ReadOnly}
}

// asksForMap reports whether cmd is one with which a cluster learns where its slots
// are, before it sends what it was asked to.
func asksForMap(cmd redis.Cmder) bool { return command.Args(cmd.Args()).Is(0, "cluster") }

func (n *nodeHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if len(cmds) == 0 {
			return next(ctx, cmds)
		}
		if allHandshake(cmds) {
			return handshakePipeline(cmds, next(ctx, cmds))
		}
		r, outer := ctx.Value(reachKey{}).(*reach)
		if outer {
			r.node.Store(true)
		}
		setAll(cmds, nil) // of an earlier attempt: go-redis keeps the first error
		end, err := n.h.ask(n.breaker)
		if err != nil {
			return &nodeError{real: err, open: true}
		}
		if end != nil {
			defer func() { end(failure{outcome: Unknown}) }()
		}
		tx := isTx(cmds) || len(cmds) > 2 && isTx(cmds[1:]) // after ASKING
		if tx {
			err = next(ctx, cmds)
		} else {
			err = n.pipeline(ctx, cmds, next)
		}
		f := worst(ctx, cmds)
		if g := judge(err); g.node || tx && g.outcome != Answered {
			f = g // a cluster gives the commands of a transaction their errors later
		}
		if end != nil {
			end(f)
		} else {
			n.breaker.record(f)
		}
		if open := n.breaker.stillOpen(f); open != nil {
			setAll(cmds, nil)
			return &nodeError{real: open, open: true}
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
		if !outer && !command.Args(cmds[0].Args()).Is(0, "asking") { // a cluster sends that one ahead
			return n.final(ctx, cmds, tx, err)
		}
		if len(cmds) == 2 { // after ASKING
			err = hideScript(ctx, cmds[1], err)
		}
		return err
	}
}

// final gives the commands of a pipeline that no outer hook has sent, as those of a Tx
// or of the node's own client, the errors that their caller is to see.
func (n *nodeHook) final(ctx context.Context, cmds []redis.Cmder, tx bool, err error) error {
	body := cmds
	if tx {
		body = cmds[1 : len(cmds)-1]
	}
	lost := OutcomeOf(err) == Unknown
	var first error
	for _, cmd := range body {
		e := cmd.Err()
		if e == nil && tx && lost {
			e = err // EXEC was not answered
		}
		if e == nil {
			continue
		}
		e = n.finalOne(ctx, cmd, e)
		cmd.SetErr(e)
		if first == nil {
			first = e
		}
	}
	if lost && first != nil {
		return first
	}
	return reveal(err)
}

func (n *nodeHook) pipeline(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
	send := cmds
	var guard redis.Cmder
	if (len(cmds) > 1 || command.RunsScript(cmds[0])) && !holdsNoRetry(cmds) {
		guard = redis.NewRawWriteToCmd(ctx, io.Discard, "ping")
		send = append(cmds[:len(cmds):len(cmds)], guard)
	}
	setAll(send, errUnanswered)
	cut := n.h.cutSoFar()
	err := marked(ctx, send, send, next)
	err = settle(send, err, n.h.judge(ctx, err, cut).outcome)
	if guard != nil && err != nil && isAnswer(err) && err == guard.Err() {
		return firstErr(cmds) // the PING was refused, and is nobody's concern
	}
	return err
}

func holdsNoRetry(cmds []redis.Cmder) bool {
	for _, cmd := range cmds {
		if cmd.NoRetry() {
			return true
		}
	}
	return false
}

func firstErr(cmds []redis.Cmder) error {
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil {
			return err
		}
	}
	return nil
}
