package retry

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// errUnanswered marks a command of a pipeline until its reply is read. go-redis assigns the error
// of a pipeline to every command without one, including those that were answered before the
// connection was lost (generalProcessPipelineFrom, redis.go); the mark tells the two apart.
//
// It has no text, so that hooks which print commands before they are sent print the same as without
// it.
var errUnanswered = errors.New("")

// settle replaces the marks with the real results, after cmds were sent together over one
// connection and returned err. Replies come in order: every command before the last one without a
// mark was answered. cut is as in judge.
func (h *Hook) settle(ctx context.Context, cmds []redis.Cmder, err error, cut uint64) error {
	outcome := h.judge(ctx, err, cut).outcome
	if outcome == NotSent || outcome == Answered && (err == nil || !isParsing(err)) { // all replies were read, or nothing was sent
		_ = unmark(cmds, err)
		return err
	}
	first := slices.IndexFunc(cmds, func(cmd redis.Cmder) bool { return cmd.Err() == errUnanswered })
	if first < 0 {
		first = len(cmds)
	}
	rest := err // of the commands whose replies were not read
	if first > 0 {
		if last := cmds[first-1].Err(); last != nil && !isAnswer(last) { // while its reply was read
			rest = last
			// A hook that has sent nothing, or has taken out commands, leaves errors of its own.
			if strings.HasPrefix(last.Error(), textParse) || h.lostConnection(last) {
				_ = replace(cmds[:first-1], last, nil)
			}
		}
	}
	if rest != nil && outcome == Answered && isParsing(rest) {
		rest = &unreadError{rest}
	}
	unmark(cmds[first:], rest)
	if err == errUnanswered {
		err = errHidden
	}
	return err
}

// lostConnection reports whether err comes from a connection, not from a hook. Those of tracked
// connections say so.
func (h *Hook) lostConnection(err error) bool {
	var u unsent
	return errors.As(err, &u) || h.cut == nil && judge(err).kind == lost
}

// replace sets an error on the commands that have old, and returns it.
func replace(cmds []redis.Cmder, old, err error) error {
	for _, cmd := range cmds {
		if errtext.Same(cmd.Err(), old) {
			cmd.SetErr(err)
		}
	}
	return err
}

// marked runs next on cmds, of which those in body are marked. A panic leaves no marks behind:
// go-redis's AutoPipeliner survives a panic.
func marked(ctx context.Context, body, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
	ended := false
	defer func() {
		if !ended {
			unmark(body, nil)
		}
	}()
	err := next(ctx, cmds)
	ended = true
	return err
}

// unmark sets an error on the commands that still have the mark, and returns it.
func unmark(cmds []redis.Cmder, err error) error {
	if err == errUnanswered {
		err = errHidden // a cluster without node hooks
	}
	return replace(cmds, errUnanswered, err)
}

// answered removes the marks of commands that were sent together without an error, and reports
// whether none of them has one. A hook may have left some of them unsent.
func answered(cmds []redis.Cmder) bool {
	fine := true
	for _, cmd := range cmds {
		switch cmd.Err() {
		case nil:
		case errUnanswered:
			cmd.SetErr(nil)
		default:
			fine = false
		}
	}
	return fine
}

// errHidden is the error of commands that a ClusterClient or Ring sent without hooks on its nodes:
// the real error was lost on the way.
var errHidden = errors.New("lifeguard/retry: a node of the cluster failed; its error is known only with retry.Attach or Hook.Node")

func isAnswer(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}

// assess records how each command of body ended; at holds their positions in c.body, nil means all.
// It reports whether any of them failed.
func (c *pipeCall) assess(body []redis.Cmder, at []int) bool {
	if !c.h.fanout.Load() && !(c.tx && isAbort(c.cmds[len(c.cmds)-1].Err())) { // a command that was not queued has a reply of the server's
		distrust(body)
	}
	sent := partial{cmds: body, tx: c.tx}
	for n, cmd := range body {
		i := n
		if at != nil {
			i = at[n]
		}
		err := cmd.Err()
		if err == nil {
			if c.fails != nil {
				c.fails[i] = failure{}
			}
			continue
		}
		f := c.h.judge(c.ctx, err, c.cut)
		if c.tx || !c.h.fanout.Load() {
			if before, ok := refusedBefore(c.ctx, "", err, cmd); ok {
				f = before
			}
		}
		if f.foreign && f.outcome == Unknown {
			f.outcome = sent.outcome(n, f.err)
		}
		if c.h.fanout.Load() {
			if !c.tx && c.reach.stamped(err) { // a transaction is sent to one node, as a whole
				f = failure{err: &stampedError{err}, outcome: Unknown}
			}
			f = c.h.understandFan(cmd, f)
		}
		if !errtext.Same(f.err, err) {
			cmd.SetErr(f.err)
		}
		if f.outcome == Answered && f.kind == final && c.fails == nil {
			continue
		}
		if c.fails == nil {
			c.fails = make([]failure, len(c.body))
		}
		c.fails[i] = f
	}
	return c.fails != nil
}

// reach records whether a part of a pipeline reached a node. A cluster that pauses before it
// follows a redirection assigns the error of a ctx that ends during the pause to commands that were
// already answered, too (processPipeline, osscluster.go).
type reach struct {
	node atomic.Bool
	full atomic.Pointer[nodeHook] // this node's pool was full for PoolTimeout: a cluster would wait again
}

type reachKey struct{}

// stamped reports whether err may have been assigned to a command that was sent.
func (r *reach) stamped(err error) bool {
	return r != nil && r.node.Load() && (err == context.Canceled || err == context.DeadlineExceeded)
}
