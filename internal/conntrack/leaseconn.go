package conntrack

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
)

// Conn makes a Conn of c for a lease. For each Conn, go-redis calls every hook of its client for
// the dials, the commands, the pipelines and the transactions. A lease needs a hook for its
// commands only, so its Conn comes from a clone of c that has no other
// (TestContractAConnOfACloneUsesThePoolOfItsClient), unless c has more hooks than ours. Pipelines
// on such a Conn need LeasePipelines.
func (n *Node) Conn(c *redis.Client) (conn *redis.Conn, plain bool) {
	in := n.installed.Load()
	if in == nil || in.client != c || in.Inner || n.raw.Load() > 0 || !n.first.done.Load() || !in.alone() {
		return c.Conn(), false
	}
	clone := n.leasing.Load()
	if clone == nil {
		// Not before the first handshake is over: go-redis records its findings in the options,
		// of which a clone has a copy.
		opt := c.Options()
		clone = c.WithTimeout(opt.ReadTimeout)
		clone.Options().WriteTimeout = opt.WriteTimeout
		clone.AddHook(leaseHook{in: in})
		if !n.leasing.CompareAndSwap(nil, clone) {
			clone = n.leasing.Load()
		}
	}
	return clone.Conn(), true
}

// LeasePipelines makes holder be called for the pipelines on conn, which Conn has made without a
// hook for them and Acquire has leased. Call it once for each conn.
func (n *Node) LeasePipelines(conn *redis.Conn, holder Holder) {
	conn.AddHook(leaseHook{in: n.installed.Load(), holder: holder})
}

// alone reports whether the client has no hook but ours: whenever one is added, go-redis makes a
// new chain.
func (in *installed) alone() bool {
	const first = 1
	in.commands.areOf(in, in.chains.Load()) // makes sure that a chain is up to date
	return in.commands.one.Load() == first
}

// leaseHook is the hook on Conns of leases.
type leaseHook struct {
	in     *installed
	holder Holder // of the pipelines; nil: none are seen
}

// DialHook implements redis.Hook. A Conn dials by the hooks of its client.
func (leaseHook) DialHook(redis.DialHook) redis.DialHook { return nil }

// ProcessHook implements redis.Hook.
func (h leaseHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	s := &leaseScope{in: h.in, next: next, holder: h.holder}
	return s.process
}

// ProcessPipelineHook implements redis.Hook.
func (h leaseHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	if h.holder == nil {
		return nil
	}
	s := pipeScope{in: h.in, next: next}
	return func(ctx context.Context, cmds []redis.Cmder) error { return s.run(ctx, cmds, h.holder) }
}

// leaseScope is the hook on one Conn. Without a holder it passes everything through: handshakes,
// and calls for an inner one.
type leaseScope struct {
	in     *installed
	next   redis.ProcessHook
	holder Holder // set by the visit that leases the Conn, before anybody else has it
	taking boundCtx
}

func (s *leaseScope) process(ctx context.Context, cmd redis.Cmder) error {
	if v := visitOf(cmd); v != nil {
		if v.kind == visitAcquire {
			s.holder = v.holder
			ctx = s.taking.of(v, ctx)
		}
		return s.next(ctx, cmd)
	}
	s.in.bind(ctx, cmd, s.next)
	ctx = originalCtx(ctx)
	if s.holder == nil {
		return s.next(ctx, cmd)
	}
	return onLease(ctx, s.in.Hook, s.holder, cmd, s.next)
}

// onLease runs a command on a lease.
func onLease(ctx context.Context, h *Hook, holder Holder, cmd redis.Cmder, next redis.ProcessHook) (err error) {
	r := runningLease{holder: holder}
	if r.w, err = holder.Begin(ctx); err != nil {
		return err
	}
	var start int64
	if h.Took != nil {
		start = h.Node.t.now()
	}
	defer r.unlessEnded()
	err = next(ctx, cmd)
	if err != nil && err != redis.Nil {
		err = r.failed(ctx, h, cmd, err)
	}
	r.ended = true
	err = r.holder.End(ctx, r.w, err)
	if h.Took != nil {
		h.Took(cmd, time.Duration(h.Node.t.now()-start))
	}
	return err
}

// runningLease is a command or pipeline that is being run on a lease. A closure would take more stack.
type runningLease struct {
	holder Holder
	w      Interruptions
	ended  bool
}

// failed turns the error of a command into the one for the caller. It is not inlined, to keep the stack
// frame of onLease small; see Hook.Process of package retry.
//
//go:noinline
func (r *runningLease) failed(ctx context.Context, h *Hook, cmd redis.Cmder, err error) error {
	if err = attempt.Reveal(err); h.Kept != nil && r.holder.Wrote(r.w) {
		err = h.Kept(ctx, cmd, err)
	}
	return err
}

// unlessEnded is deferred: code of the caller's may panic.
func (r *runningLease) unlessEnded() {
	if !r.ended {
		r.holder.Panicked(r.w)
	}
}
