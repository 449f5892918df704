package conntrack

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// installed is the hook on one client. go-redis makes the hook chains of a client, of each Conn and
// of each transaction from the same hooks, and does not say which is which; but a call on the
// client itself comes through the client's own chain. Chains are numbered.
type installed struct {
	*Hook
	client              *redis.Client
	first               *firstHandshake // of those with its options
	users, leases       *UserHooks
	chains              atomic.Uint64 // the last number
	commandChain        atomic.Uint64 // the last number of a chain for commands
	commands, pipelines ownChains
	given               sync.Map // of pipelines in hooks of users: first command to given
}

// ownChains identifies the chains of the client itself.
type ownChains struct {
	mu      sync.Mutex    // held while asking: that runs only our hook
	known   atomic.Uint64 // chains up to this number are identified
	one, tx atomic.Uint64
}

// areOf reports whether a chain is the client's own. A cluster makes a chain for every pipeline that
// it sends to a node. That one is nobody's own, so nothing is asked: a client gets new chains for
// commands and pipelines together (TestContractAClientGetsItsChainsOfHooksTogether).
func (o *ownChains) areOf(in *installed, chain uint64) bool {
	if known := o.known.Load(); chain > known && in.commandChain.Load() > known {
		o.ask(in, chain)
	}
	return chain == o.one.Load() || chain == o.tx.Load()
}

func (o *ownChains) ask(in *installed, chain uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if chain <= o.known.Load() {
		return
	}
	last := in.chains.Load()
	v := newVisit(visitWhose)
	defer v.done()
	ctx := context.Background()
	if o == &in.commands {
		_ = in.client.Process(ctx, v.cmd)
	} else {
		for _, p := range []redis.Pipeliner{in.client.Pipeline(), in.client.TxPipeline()} {
			_ = p.Process(ctx, v.cmd)
			_, _ = p.Exec(ctx)
		}
	}
	o.one.Store(v.came)
	o.tx.Store(v.cameTx)
	o.known.Store(last)
}

// asks finds the question in a call that came through a chain.
func asks(cmds []redis.Cmder) (v *visit, tx bool) {
	switch len(cmds) {
	case 1:
		v = visitOf(cmds[0])
	case 3: // between MULTI and EXEC
		v, tx = visitOf(cmds[1]), true
	}
	if v == nil || v.kind != visitWhose {
		return nil, false
	}
	return v, tx
}

// watchCtx marks the WATCH that begins a transaction.
type watchCtx struct{ context.Context }

func (w watchCtx) Value(key any) any {
	if key == any(txKey{}) {
		return true
	}
	return w.Context.Value(key)
}

// txKey marks what is done for a transaction of Watch, such as a handshake.
type txKey struct{}

func watches(ctx context.Context) bool {
	_, ok := ctx.(watchCtx)
	return ok
}

// WatchContext is for the WATCH at the start of a transaction that its caller counts as a whole,
// with Enter and Leave, and retries by itself: Hook.Process does not see it, and the commands of
// the transaction are not counted again.
func WatchContext(ctx context.Context) context.Context { return watchCtx{ctx} }

// Watching tells the hook of tx, whose transaction begins without a WATCH, that it is counted as a
// whole. Nothing is sent.
func Watching(ctx context.Context, tx *redis.Tx) {
	tx.AddHook(txHook{})
	v := newVisit(visitWhose)
	defer v.done()
	_ = tx.Process(watchCtx{ctx}, v.cmd)
}

// txHook marks the ctxs of such a transaction: its first command, or pipeline, may need a handshake.
type txHook struct{}

// DialHook implements redis.Hook.
func (txHook) DialHook(redis.DialHook) redis.DialHook { return nil }

// ProcessHook implements redis.Hook.
func (txHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return next(context.WithValue(ctx, txKey{}, true), cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (txHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return next(context.WithValue(ctx, txKey{}, true), cmds)
	}
}
