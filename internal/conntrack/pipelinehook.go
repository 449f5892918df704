package conntrack

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// ProcessPipelineHook does the same for pipelines and transactions.
func (in *installed) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	s := pipeScope{in: in, next: next, chain: in.chains.Add(1)}
	s.users = s.around(in.users)
	if s.users == nil {
		s.leases = s.around(in.leases)
	}
	return s.process
}

// pipeScope is the hook on the pipelines, or on the transactions, of one Client or Conn. It is a
// value, so that a Conn needs only a closure for it.
type pipeScope struct {
	in     *installed
	next   redis.ProcessPipelineHook
	users  redis.ProcessPipelineHook // the hooks of users around run, nil for none
	leases redis.ProcessPipelineHook // those around pipelines on leases
	chain  uint64
}

func (s pipeScope) around(u *UserHooks) redis.ProcessPipelineHook {
	if !u.Any() {
		return nil
	}
	return s.inner(u)
}

// inner is around for a client with hooks. It is a separate function because its scope is on the
// heap.
func (s pipeScope) inner(u *UserHooks) redis.ProcessPipelineHook {
	next := s.next
	s.next = func(ctx context.Context, cmds []redis.Cmder) error {
		attempted(ctx)
		return next(ctx, cmds)
	}
	return u.Pipeline(func(ctx context.Context, cmds []redis.Cmder) error {
		if callOf(ctx) == nil {
			given := s.in.givenTo(cmds)
			if given == nil {
				return command.SetErrs(cmds, errLostContext)
			}
			ctx = Carry(ctx, given)
		}
		return s.run(ctx, cmds, callOf(ctx).holder)
	})
}

// errLostContext is for a user's hook that goes on with other commands and with a ctx that is not
// made from the one it was given. Without either it is not known whether they are to run on a
// lease.
var errLostContext = errors.New("lifeguard: a hook went on with other commands and another ctx: derive it from the one that the hook was given")

// given is what the hooks of users were called with.
type given struct {
	ctx  context.Context
	cmds []redis.Cmder
}

// givenTo returns the ctx that the hooks of users were given with one of these commands, nil if
// with none. A hook may have split its pipeline.
func (in *installed) givenTo(cmds []redis.Cmder) (ctx context.Context) {
	for _, cmd := range cmds {
		if g, ok := in.given.Load(cmd); ok {
			return g.(given).ctx
		}
	}
	in.given.Range(func(_, g any) bool {
		if slices.ContainsFunc(g.(given).cmds, func(c redis.Cmder) bool { return slices.Contains(cmds, c) }) {
			ctx = g.(given).ctx
		}
		return ctx == nil
	})
	return ctx
}

func (s pipeScope) process(ctx context.Context, cmds []redis.Cmder) error {
	if v, tx := asks(cmds); v != nil {
		if tx {
			v.cameTx = s.chain
		} else {
			v.came = s.chain
		}
		return nil
	}
	ctx, skip := SkipsUserHooks(ctx)
	ctx, holder := leased(originalCtx(ctx))
	users := s.users
	if holder != nil && users == nil {
		users = s.leases
	}
	if users == nil || skip || len(cmds) > 0 && command.IsHandshake(cmds[0]) && repeated(ctx) {
		return s.run(ctx, cmds, holder)
	}
	ctx = context.WithValue(ctx, callKey{}, &call{holder: holder})
	if len(cmds) > 0 {
		s.in.given.Store(cmds[0], given{ctx, cmds})
		defer s.in.given.Delete(cmds[0])
	}
	return users(ctx, cmds)
}

// run does all the work around a pipeline, and calls the holder of the lease that it runs on, if
// any.
func (s *pipeScope) run(ctx context.Context, cmds []redis.Cmder, holder Holder) error {
	if holder == nil {
		return s.send(ctx, cmds, false)
	}
	return s.runOnLease(ctx, cmds, holder)
}

// runOnLease is not inlined, to keep the stack frame of run small; see Hook.Process of package retry.
//
//go:noinline
func (s *pipeScope) runOnLease(ctx context.Context, cmds []redis.Cmder, holder Holder) error {
	w, err := holder.Begin(ctx)
	if err != nil {
		return command.SetErrs(cmds, err)
	}
	r := runningLease{holder, w, false}
	defer r.unlessEnded()
	ctx = attempt.WithWrote(ctx, func() bool { return holder.Wrote(w) })
	if err = s.send(ctx, cmds, true); err != nil {
		for _, cmd := range cmds {
			holder.Seen(cmd.Err())
		}
	}
	r.ended = true
	return holder.End(ctx, w, err)
}

func (s *pipeScope) send(ctx context.Context, cmds []redis.Cmder, onLease bool) error {
	h, n := s.in.Hook, s.in.Node
	if h.Closed != nil && h.Closed() {
		return command.SetErrs(cmds, redis.ErrClosed)
	}
	var r runningPipe
	r.n, r.own = n, !onLease && s.in.pipelines.areOf(s.in, s.chain)
	if r.timed = h.Took != nil && len(cmds) > 0 && !command.IsHandshake(cmds[0]); r.timed {
		r.first, r.start = cmds[0], n.t.now()
	}
	own := no
	if r.own {
		own = yes
		n.pipeline.enter()
	} else { // it has its connection, of the main pool, whose demand is counted already
		n.pinned.Add(1)
	}
	defer r.end(h)
	if r.own {
		if err := n.t.refusing.Load(); err != nil {
			return command.SetErrs(cmds, *err)
		}
	}
	var err error
	if h.Pipeline != nil {
		err = h.Pipeline(ctx, cmds, s.next, own)
	} else {
		err = s.next(ctx, cmds)
	}
	if n.writes.Load() == writeSent && tookWrite(cmds) {
		n.writes.Store(writeTaken)
	}
	if err != nil {
		return r.failed(ctx, h, cmds, err)
	}
	return nil
}

// runningPipe is a pipeline that is being run.
type runningPipe struct {
	n     *Node
	first redis.Cmder
	start int64
	timed bool // since start
	own   bool // of the client itself, not of a Conn or a lease
}

func (r *runningPipe) end(h *Hook) {
	if r.own {
		r.n.pipeline.leave()
	} else {
		r.n.pinned.Add(-1)
	}
	if r.timed {
		h.Took(r.first, time.Duration(r.n.t.now()-r.start))
	}
}

// failed turns the errors of a pipeline into those for the caller. It is not inlined, to keep the
// stack frame of send small; see Hook.Process of package retry.
//
//go:noinline
func (r *runningPipe) failed(ctx context.Context, h *Hook, cmds []redis.Cmder, err error) error {
	if len(cmds) > 0 && !command.IsHandshake(cmds[0]) {
		r.n.health.fail(h, err)
	}
	after := r.n.since(r.start)
	failed, seen := h.fail(ctx, err, after), err
	if h.Inner && errtext.Differ(failed, err) && noErrors(cmds) { // a cluster would give them, and its caller, the bare one
		return command.SetErrs(cmds, failed)
	}
	for _, cmd := range cmds {
		switch e := cmd.Err(); {
		case e == nil:
		case errtext.Same(e, seen), errtext.Same(marked(e), marked(seen)): // it has been turned, and counted
			cmd.SetErr(failed)
		default:
			cmd.SetErr(h.fail(ctx, e, after))
		}
	}
	return failed
}

// marked returns the error that is inside of a mark of its own on each command of a node's pipeline.
func marked(err error) error {
	if mark, ok := err.(interface{ Early() error }); ok { // not inside of an unknown outcome
		return mark.Early()
	}
	return err
}

func noErrors(cmds []redis.Cmder) bool {
	for _, cmd := range cmds {
		if cmd.Err() != nil {
			return false
		}
	}
	return true
}

// These cost no allocation per Conn, unlike closures.
func yes() bool { return true }
func no() bool  { return false }
