package conntrack

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// Holder is the owner of a leased connection. It is called for every command that runs on its
// redis.Conn.
type Holder interface {
	// Begin is called before a command; an error means that it is not sent.
	Begin(ctx context.Context) (Interruptions, error)
	// End is called after it and returns the error for the caller.
	End(ctx context.Context, w Interruptions, err error) error
	// Panicked is called instead of End if code of the caller's, such as a MarshalBinary, panics.
	Panicked(w Interruptions)
	// Seen is called with the error of each command of a pipeline that failed, before End.
	Seen(err error)
	// Wrote reports whether something was written to the connection since Begin.
	Wrote(w Interruptions) bool
}

// Interruptions is what a Holder remembers about one command: how to stop watching its ctxs, and how
// much had been written to the connection before it.
type Interruptions struct {
	Command, Lease func() bool
	Written        uint64
}

// Hook is the outermost hook of a managed client. It must be the first one that is added, with
// Install. It passes visits through, counts the demand, and calls the Holder of a leased Conn for
// its commands.
type Hook struct {
	Node *Node
	// Process runs a command that belongs to no lease; nil: next runs it.
	Process func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error
	// Client does the same for the commands of a client itself, not those of a Conn or a
	// transaction; nil: Process does.
	Client func(ctx context.Context, cmd redis.Cmder, next redis.ProcessHook) error
	// Pipeline does the same for pipelines and transactions. own reports whether the pipeline
	// belongs to the client itself, not to a Conn or to a transaction with WATCH.
	Pipeline func(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook, own func() bool) error
	// Failed turns the error of a call of that duration into the one for the caller; nil: no
	// change. after is 0 without Took.
	Failed func(ctx context.Context, err error, after time.Duration) error
	// Kept turns the error of a command on a lease, whose connection was written to, into the one for
	// the caller, as attempt.Internals.Kept; nil: no change.
	Kept func(ctx context.Context, cmd redis.Cmder, err error) error
	// Took is called with the duration of each command, including waits, also on leases; for a
	// pipeline cmd is the first command. It must not block. nil: the time is not measured.
	Took func(cmd redis.Cmder, d time.Duration)

	// Closed reports whether this client was closed, although the pool is open for others; nil:
	// no.
	Closed func() bool

	// Inner declares that this is the hook of one node of a cluster or ring, and that an outer one
	// reveals errors.
	Inner bool
	// Uncounted declares that another hook around this one counts the calls that fail during an
	// outage.
	Uncounted bool
}

// Install adds the hook to a client, or to a clone of it, as its first one. users are the hooks
// that run around it, nil for none; call Rebuild after hooks were added to them. leases are those
// that run around commands on leases if users is nil.
func (h *Hook) Install(c *redis.Client, users, leases *UserHooks) {
	in := &installed{Hook: h, client: c, users: users, leases: leases}
	n := h.Node
	if n != nil {
		if in.first = n.first; n.installed.Load() != nil {
			in.first = newFirstHandshake(c.Options())
		}
	}
	c.AddHook(in)
	if n != nil {
		n.installed.CompareAndSwap(nil, in) // from now on the DialHook above replaces errors
	}
}

// DialHook turns failed dials into failedDial connections, outside of all other hooks.
func (h *Hook) DialHook(next redis.DialHook) redis.DialHook {
	if h.Node == nil {
		return nil
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := next(ctx, network, addr)
		if err == nil || isClosed(err) { // go-redis's goroutines of subscriptions end when they get this error
			return c, err
		}
		if h.Node.isMove(addr) {
			return nil, asDial(err, addr)
		}
		return h.Node.failedDial(asDial(err, addr), network, addr), nil
	}
}

// go-redis calls ProcessHook once for every Client and every Conn, and again when a hook is added,
// so its result belongs to one of them.
func (in *installed) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	s := &scope{in: in, next: next, chain: in.chains.Add(1)}
	in.commandChain.Store(s.chain)
	s.around(in.users)
	return s.process
}

// scope is the hook on one Client or Conn.
type scope struct {
	in       *installed
	next     redis.ProcessHook
	users    redis.ProcessHook // the hooks of users around run, nil for none
	holder   Holder            // set by the visit that leases a Conn, before anybody else has it
	taking   boundCtx          // of that visit
	chain    uint64
	watching bool // it belongs to a transaction that is counted as a whole
	touched  atomic.Bool
}

// around puts the hooks of users around what the scope does.
func (s *scope) around(u *UserHooks) {
	if !u.Any() {
		return
	}
	send := s.next
	inside := func(ctx context.Context, cmd redis.Cmder) error {
		ctx = KeepCall(ctx)
		err := s.run(ctx, cmd, callOf(ctx).watch)
		if err != nil {
			cmd.SetErr(err)
		}
		return err
	}
	if s.users = u.Process(inside); s.users != nil {
		s.next = func(ctx context.Context, cmd redis.Cmder) error {
			attempted(ctx)
			return send(ctx, cmd)
		}
	}
}

func (s *scope) process(ctx context.Context, cmd redis.Cmder) error {
	ctx, skip := SkipsUserHooks(ctx)
	watch := watches(ctx)
	if watch {
		s.watching = true
	}
	if v := visitOf(cmd); v != nil {
		switch v.kind {
		case visitWhose:
			v.came = s.chain
			return nil
		case visitAcquire:
			if s.holder = v.holder; s.users == nil {
				s.around(s.in.leases)
			}
			ctx = s.taking.of(v, ctx)
		}
		return s.next(ctx, cmd)
	}
	s.in.bind(ctx, cmd, s.next)
	ctx = originalCtx(ctx)
	if s.users == nil || skip || command.IsHandshake(cmd) && repeated(ctx) {
		return s.run(ctx, cmd, watch)
	}
	return s.users(context.WithValue(ctx, callKey{}, &call{watch: watch}), cmd)
}

// run does all the work around a command. watch: it is the WATCH at the start of a transaction, or
// a handshake for one.
func (s *scope) run(ctx context.Context, cmd redis.Cmder, watch bool) error {
	h, n := s.in.Hook, s.in.Node
	if s.holder != nil {
		return onLease(ctx, h, s.holder, cmd, s.next)
	}
	r := running{n: n, cmd: cmd, client: s.in.commands.areOf(s.in, s.chain)}
	r.work = r.client || !command.IsHandshake(cmd) // not the handshake of a connection for another command
	r.watch = r.work && watch
	if r.timed = h.Took != nil && r.work; r.timed {
		r.start = n.t.now()
	}
	if r.counted = r.work && !s.watching; r.counted {
		n.main.enter()
	}
	defer r.end(h)
	if r.work && h.Closed != nil && h.Closed() {
		return redis.ErrClosed
	}
	if r.client {
		if err := n.t.refusing.Load(); err != nil {
			return *err
		}
	}
	var err error
	next := s.next
	if !r.client && !s.touched.Load() {
		next = s.touch
	}
	switch {
	case r.client && h.Client != nil:
		err = h.Client(ctx, cmd, next)
	case h.Process != nil && !r.watch:
		err = h.Process(ctx, cmd, next)
	default:
		err = next(ctx, cmd)
	}
	if err != nil {
		return r.failed(ctx, h, err)
	}
	if n.writes.Load() == writeSent {
		n.sawWrite(cmd)
	}
	return nil
}

// running is a command that is being run.
type running struct {
	n       *Node
	cmd     redis.Cmder
	start   int64
	client  bool // of the client itself, not of a Conn
	work    bool // not the handshake of a connection for another command
	watch   bool // the WATCH at the start of a transaction
	timed   bool // since start
	counted bool // in the demand
}

func (r *running) end(h *Hook) {
	if r.counted {
		r.n.main.leave()
	}
	if r.timed {
		h.Took(r.cmd, time.Duration(r.n.t.now()-r.start))
	}
}

// failed turns the error of a command into the one for the caller. It is not inlined, to keep the
// stack frame of run small; see Hook.Process of package retry.
//
//go:noinline
func (r *running) failed(ctx context.Context, h *Hook, err error) error {
	if r.work {
		r.n.health.fail(h, err)
	}
	isEarly := r.watch && IsEarly(err)
	err = h.fail(ctx, err, r.n.since(r.start))
	if isEarly && !IsEarly(err) {
		err = early(err) // whoever repeats the WATCH has to know
	}
	if h.Inner && r.work && !r.client && r.cmd.Name() != "watch" {
		err = attempt.Reveal(err) // the next to see it is the caller; a cluster repeats only the WATCH
	}
	return err
}

//go:noinline
func (n *Node) sawWrite(cmd redis.Cmder) {
	if command.Writes(cmd) {
		n.writes.Store(writeTaken)
	}
}

// touch sends the first command of a Conn. go-redis does not use a Conn again that got no
// connection, so nothing is passed to it while the node is known to be unreachable: the command can
// wait for the node. A WATCH has a new one for each attempt.
func (s *scope) touch(ctx context.Context, cmd redis.Cmder) error {
	if !s.touched.Load() && !command.IsHandshake(cmd) {
		if err := s.in.Node.Unreachable(); err != nil && !(s.watching && command.NameOf(cmd) == "watch") {
			return s.in.Node.DialError(err)
		}
	}
	s.touched.Store(true)
	return s.next(ctx, cmd)
}

func tookWrite(cmds []redis.Cmder) bool {
	for _, cmd := range cmds {
		if command.Writes(cmd) && cmd.Err() == nil {
			return true
		}
	}
	return false
}

// since returns how long ago start was, 0 if the time was not measured.
func (n *Node) since(start int64) time.Duration {
	if start == 0 {
		return 0
	}
	return time.Duration(n.t.now() - start)
}

func (h *Hook) fail(ctx context.Context, err error, after time.Duration) error {
	if err == redis.Nil {
		return err
	}
	if !h.Inner {
		err = attempt.Reveal(err)
	}
	if h.Failed != nil {
		err = h.Failed(ctx, err, after)
	}
	return err
}

// TookWrites reports whether the node has executed a write, so that a READONLY means that its role
// has changed. ForgetWrites resets it.
func (n *Node) TookWrites() bool { return n.writes.Load() == writeTaken }

// ForgetWrites makes TookWrites false until the next write.
func (n *Node) ForgetWrites() { n.writes.Store(noWrite) }
