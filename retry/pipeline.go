package retry

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// errUnanswered marks a command of a pipeline until its reply is read. go-redis assigns the error
// of a pipeline to every command without one, including those that were answered before the
// connection was lost (generalProcessPipelineFrom, redis.go); the mark tells the two apart.
//
// It has no text, so that hooks which print commands before they are sent print the same as without
// it.
var errUnanswered = errors.New("")

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
	unsure []error   // of an earlier attempt that may have been carried out
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
		return reveal(err)
	}
	p := progress{tries: 1}
	c.marks = attempt.MarksOf(c.ctx)
	if c.marks&attempt.First != 0 {
		return reveal(err)
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
	c.cut = h.cutSoFar()
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
	c.cut = c.h.cutSoFar()
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

// send makes the attempt.
func (c *pipeCall) send(ctx context.Context, cmds, body []redis.Cmder) error {
	if c.tx || c.h.fanout.Load() {
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

//go:noinline
func (c *pipeCall) sendFailed(err error, body []redis.Cmder) error {
	if c.h.fanout.Load() {
		return unmark(body, err) // the client's first nodes were created meanwhile; their hooks have settled it
	}
	return settle(body, err, c.h.judge(c.ctx, err, c.cut).outcome)
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

// settle replaces the marks with the real results, after cmds were sent together over one
// connection and returned err with the given outcome. Replies come in order: every command before
// the last one without a mark was answered.
func settle(cmds []redis.Cmder, err error, outcome Outcome) error {
	if outcome != Unknown { // all replies were read, or nothing was sent
		rest := err
		if err != nil && isParsing(err) {
			rest = &unreadError{err}
		}
		_ = unmark(cmds, rest)
		return err
	}
	first := len(cmds) // the first command whose reply was not read
	for i, cmd := range cmds {
		if cmd.Err() == errUnanswered {
			first = i
			break
		}
	}
	broken := -1 // the command during whose reply the connection was lost
	if first > 0 {
		if e := cmds[first-1].Err(); e != nil && !isAnswer(e) {
			broken = first - 1
		}
	}
	for i := range max(broken, 0) {
		if e := cmds[i].Err(); e != nil && !isAnswer(e) {
			cmds[i].SetErr(nil)
		}
	}
	rest := err
	if broken >= 0 {
		rest = cmds[broken].Err()
	}
	unmark(cmds[first:], rest)
	if err == errUnanswered {
		err = errHidden
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
	for _, cmd := range cmds {
		if cmd.Err() == errUnanswered {
			cmd.SetErr(err)
		}
	}
	return err
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
		if c.h.fanout.Load() {
			if !c.tx && c.reach.stamped(err) { // a transaction is sent to one node, as a whole
				f = failure{err: &stampedError{err}, outcome: Unknown}
			}
			f = c.h.understandFan(cmd, f)
		}
		if f.err != err {
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

// failed reports whether command i still has no final reply.
func (c *pipeCall) failed(i int) bool {
	f := c.fails[i]
	return f.err != nil && !(f.outcome == Answered && f.kind == final)
}

// choose picks the commands to send again. It returns the failure that represents all of them: the
// least certain one.
func (c *pipeCall) choose() (again []int, f failure, a Attempt) {
	if c.marks&attempt.Bound != 0 {
		return nil, f, a
	}
	var lostOnes, unsentOnes, refused []int
	for i := range c.body {
		switch {
		case !c.failed(i):
		case c.fails[i].outcome == Unknown:
			lostOnes = append(lostOnes, i)
		case c.fails[i].outcome == NotSent:
			unsentOnes = append(unsentOnes, i)
		default:
			refused = append(refused, i)
		}
	}
	if c.tx {
		again = c.chooseTx(lostOnes, unsentOnes, refused)
	} else {
		again = c.chooseOpen(lostOnes, unsentOnes, refused)
	}
	a = Attempt{Command: "pipeline", Commands: len(again)}
	if c.tx {
		a.Command = "multi"
	}
	for n, i := range again {
		if g := c.fails[i]; n == 0 || rank(g) > rank(f) {
			f = g
		}
		a.Safety = max(a.Safety, c.h.safety(c.body[i]))
	}
	return again, f, a
}

// rank orders failures by how much a repetition costs.
func rank(f failure) int {
	switch f.kind {
	case lost:
		return 3
	case notExecuted:
		return 2
	case notReady:
		return 1
	}
	return 0
}

// chooseTx: a transaction is sent again as a whole, or not at all. A Ring sends one transaction per
// shard, so those that were answered are left out.
func (c *pipeCall) chooseTx(lostOnes, unsentOnes, refused []int) []int {
	if len(refused) > 0 {
		return merge(c.aborted(), unsentOnes)
	}
	all := merge(lostOnes, unsentOnes)
	for _, i := range all {
		if c.fails[i].kind == final {
			return nil
		}
	}
	if len(lostOnes) == 0 {
		return all
	}
	for i, cmd := range c.body {
		if !c.failed(i) && cmd.Err() != nil {
			return nil // refused before EXEC: alone, the others would not have been executed
		}
	}
	if !c.mayRepeatAll(all) {
		return nil
	}
	return all
}

// aborted returns the commands of a transaction that the server refused for now, so that no part of
// it was executed. The server says so either for the commands that it did not queue, with EXECABORT
// for the others; or at EXEC, and then for all of them. What EXEC has executed cannot be refused
// any more; but a script in it may return any error of its own, so its reply alone counts as a
// refusal only if it is the server's and nothing else was executed.
func (c *pipeCall) aborted() []int {
	var at []int
	sure, scripts := isAbort(c.cmds[len(c.cmds)-1].Err()), true
	for i, cmd := range c.body {
		switch err := cmd.Err(); {
		case err == nil || err == redis.Nil || c.failed(i) && c.fails[i].outcome != Answered:
			continue
		case isAbort(err) && !command.RunsScript(cmd):
			sure = true
		case isAbort(err) && err.Error() == textAborted: // or a script that returns the same text
		case !c.failed(i):
			return nil // this reply may be the reason
		case command.RunsScript(cmd):
			scripts = scripts && c.h.mayAskAgain(cmd, c.fails[i], c.marks)
		case c.h.mayAskAgain(cmd, c.fails[i], c.marks):
			sure = true
		default:
			return nil
		}
		if cmd.NoRetry() || c.marks&attempt.Never != 0 {
			return nil
		}
		at = append(at, i)
	}
	if !sure && (!scripts || len(at) < len(c.body)) {
		return nil
	}
	if c.own == nil && !c.h.fanout.Load() || c.own != nil && !c.own() {
		return nil
	}
	return at
}

func isAbort(err error) bool {
	return err != nil && isAnswer(err) && strings.HasPrefix(err.Error(), textExecAbort)
}

func (c *pipeCall) chooseOpen(lostOnes, unsentOnes, refused []int) []int {
	for _, cmd := range c.body {
		if command.IsBound(cmd) && len(unsentOnes) < len(c.body) {
			return nil // the rest would not mean the same on another connection
		}
	}
	var again []int
	for _, i := range unsentOnes {
		if c.fails[i].kind != final {
			again = append(again, i)
		}
	}
	if len(lostOnes) > 0 && c.mayRepeatAll(lostOnes) {
		again = merge(again, lostOnes)
	}
	return merge(again, c.inOrder(refused, lostOnes))
}

// mayRepeatAll: as safe as the weakest, and as their sequence.
func (c *pipeCall) mayRepeatAll(at []int) bool {
	for _, i := range at {
		if c.fails[i].kind == final || !c.h.mayRepeat(c.body[i], c.marks) {
			return false
		}
	}
	return c.marks&attempt.Idempotent != 0 || repeatable(c.body, at, c.h.safety)
}

// inOrder keeps, of the commands that were refused for now, those that no later command on the same
// keys has overtaken.
func (c *pipeCall) inOrder(refused, lostOnes []int) []int {
	if len(refused) == 0 {
		return nil
	}
	isLost := make(map[int]bool, len(lostOnes))
	for _, i := range lostOnes {
		isLost[i] = true
	}
	var keep []int
	var done keySet
	for i := len(c.body) - 1; i >= 0; i-- {
		cmd := c.body[i]
		sc := command.ClassOf(cmd).Scope
		switch {
		case !c.failed(i) || isLost[i]:
			done.add(cmd, sc)
		case c.fails[i].outcome == Answered:
			if !c.h.mayAskAgain(cmd, c.fails[i], c.marks) || done.touches(cmd, sc) {
				done.add(cmd, sc) // not repeated, and so neither are earlier ones on its keys
				continue
			}
			keep = append(keep, i)
		}
	}
	for l, r := 0, len(keep)-1; l < r; l, r = l+1, r-1 {
		keep[l], keep[r] = keep[r], keep[l]
	}
	return keep
}

// merge merges two ascending lists.
func merge(a, b []int) []int {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	out := make([]int, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0] < b[0] {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
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

func isTx(cmds []redis.Cmder) bool {
	return len(cmds) >= 2 && command.Args(cmds[0].Args()).Is(0, "multi") && command.Args(cmds[len(cmds)-1].Args()).Is(0, "exec")
}
