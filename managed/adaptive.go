package managed

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/retry"
)

//go:generate go run ../cmd/internal/genadaptive -out adaptive_gen.go

// adaptive is a redis.UniversalClient that sends each command directly or in a
// batch. Methods that are not in adaptive_gen.go are those of the client: they
// are always sent directly.
type adaptive struct {
	redis.UniversalClient
	make redis.Cmdable // makes commands, and sends nothing
	set  batching
	ctx  context.Context // of every batch
	core *core

	retry *retry.Hook
	users *conntrack.Users
	owner func(ctx context.Context, key string) (*redis.Client, error) // in a cluster: the node of a key
	unit  func(node *redis.Client) (*unit, error)                      // ... and what we know of it
	one   *batcher                                                     // else
	nodes sync.Map                                                     // in a cluster: *redis.Client to *batcher
	count atomic.Int64                                                 // of them

	many int64 // connections of a pool

	fixed bool // high stays as it is

	inFlight atomic.Int64
	on       atomic.Bool  // batches are made
	high     atomic.Int64 // calls in flight that switch it on; fewer than 3/4 of them switch it off
	soon     atomic.Int64 // ns: a ctx that ends sooner is for a direct call
	far      atomic.Bool  // the server is far away
	probe    atomic.Int64
}

const (
	busy        = 8                // calls in flight from which batches are faster, if the server is near
	farAway     = time.Millisecond // a round trip from which a half-empty batch costs more than it saves
	probeEvery  = 4096             // calls, to find out whether it still is
	leastSoon   = time.Millisecond // a ctx that ends within it is for a direct call
	maxArgument = 8 << 10          // bytes: what is longer would make the others of its batch wait
)

// Adaptive returns a redis.UniversalClient over this client that sends commands
// directly while few are in flight, and in batches when many are: then many
// commands share one write, one read and one connection. Throughput rises by
// several times, and the latency of all of them falls. It is safe for concurrent
// use, and starts no goroutine while there is nothing to send.
//
// Each call waits for its reply, so two calls of one goroutine keep their order.
// Retry, outcomes, stats, alerts, maximum age, heartbeat and CloseGracefully hold as for
// direct calls: a batch is the first attempt of each of its commands, and each
// caller goes on from there for itself, with its own ctx.
//
//   - A ctx that ends is obeyed at once. What was not sent by then never is, and
//     the error is that of the ctx, or an *ExhaustedError. Else the batch goes on, the command may still
//     be carried out, and the error is retry.ErrUnknownOutcome (for a read: that
//     of the ctx).
//   - Always sent directly: what can wait in the server, subscriptions, Watch,
//     pipelines, transactions, scripts, Do and Process, what belongs to one
//     connection, administration, modules; in a cluster also commands of several
//     keys; arguments above 8 KiB or of types that go-redis has to marshal; calls
//     whose ctx carries a mark of package retry, or ends within about four
//     batches; all, if the client-side cache is on.
//   - Once a hook has been added, by AddHook or Instrument, all is sent directly, so
//     that it sees each call once, with its ctx and its error.
//   - Commands that wait for their batch when CloseGracefully is called are not sent and
//     get ErrShutdown, as later ones do.
//
// Close closes the client. The errors of a client that is closed or shutting down
// are the same as of direct calls. Each call of Adaptive makes a client that counts
// for itself: use one. Invalid options are a panic that names them, as in
// NewClient; Batched returns them as an error.
func (c *Client) Adaptive(opts ...BatchOption) redis.UniversalClient {
	opt := c.Options()
	a := newAdaptive(c, c.core, c.unit.retry, c.users, opts)
	a.many = int64(opt.PoolSize)
	a.one = a.newBatcher(c.unit, c.Pipeline)
	a.begin(cached(opt))
	return a
}

// Adaptive is Client.Adaptive for a cluster, with batches for each node.
func (c *ClusterClient) Adaptive(opts ...BatchOption) redis.UniversalClient {
	opt := c.Options()
	a := newAdaptive(c, c.core, c.many.retry, &c.users, opts)
	a.many = int64(opt.PoolSize)
	a.owner, a.unit = c.MasterForKey, c.unit
	a.begin(false) // that is for each node to say
	return a
}

func newAdaptive(c redis.UniversalClient, core *core, hook *retry.Hook, users *conntrack.Users, opts []BatchOption) *adaptive {
	set, err := newBatching(opts)
	if err != nil {
		panic(err)
	}
	return &adaptive{UniversalClient: c, make: commandMaker(), set: set, ctx: retry.First(context.Background()), core: core, retry: hook, users: users}
}

func (a *adaptive) begin(off bool) {
	a.soon.Store(int64(leastSoon + a.set.delay))
	a.high.Store(a.enough(false))
	if off {
		a.high.Store(math.MaxInt64)
		a.fixed = true
	}
}

// cached: go-redis looks into the client-side cache for direct calls only.
func cached(opt *redis.Options) bool {
	return opt.ClientSideCache != nil || opt.ClientSideCacheConfig != nil
}

func (a *adaptive) newBatcher(u *unit, pipe func() redis.Pipeliner) *batcher {
	return &batcher{unit: u, set: a.set, ctx: a.ctx, pipe: pipe, log: a.core.set.log, told: a.learn, calm: calm, enough: make(chan struct{}, 1)}
}

// learn sets what depends on how long batches take.
func (a *adaptive) learn(n batcherNews) {
	a.soon.Store(int64(max(leastSoon, 4*n.typical) + a.set.delay))
	if a.fixed {
		return
	}
	far := n.least >= farAway
	a.far.Store(far)
	a.high.Store(a.enough(far) * max(a.count.Load(), 1))
}

// enough is how many calls must be in flight, for one server. As long as a server
// far away has connections left, a call of its own waits for one round trip, and a
// batch for up to two. Where there are few connections, calls would wait for those.
func (a *adaptive) enough(far bool) int64 {
	if far {
		return max(a.many, busy)
	}
	return max(min(busy, a.many+1), 2)
}

// pick counts a call, and reports whether it is to be sent in a batch.
func (a *adaptive) pick(ctx context.Context) bool {
	n, high := a.inFlight.Add(1), a.high.Load()
	switch {
	case n >= high:
		if !a.on.Load() {
			a.on.Store(true)
		}
	case !a.on.Load():
		if !a.far.Load() || a.probe.Add(1)%probeEvery != 0 {
			return false
		}
	case n < high-high/4:
		a.on.Store(false)
		return false
	}
	return ctx == context.Background() || a.may(ctx)
}

// pickOne is pick for commands that a cluster client may have to split.
func (a *adaptive) pickOne(ctx context.Context) bool {
	return a.pick(ctx) && a.owner == nil
}

func (a *adaptive) leave() { a.inFlight.Add(-1) }

// batched sends the command that build makes in a batch, or directly. It is made
// once more when its caller gives up, because the batch goes on with the first one.
func batched[C redis.Cmder](ctx context.Context, a *adaptive, inBatch bool, build func(redis.Cmdable) C) C {
	defer a.leave()
	if !inBatch {
		return build(a.UniversalClient)
	}
	cmd := build(a.make)
	if err := a.send(ctx, cmd); err != nil {
		cmd = build(a.make)
		cmd.SetErr(err)
	}
	return cmd
}

// may reports whether ctx leaves the time for a batch, and has no wish of its own.
func (a *adaptive) may(ctx context.Context) bool {
	if d, ok := ctx.Deadline(); ok && int64(time.Until(d)) < a.soon.Load() {
		return false
	}
	return !retry.Marked(ctx)
}

// send sends a command in a batch and waits for its result. An error says that
// the caller must not touch cmd any more, because the batch still does.
func (a *adaptive) send(ctx context.Context, cmd redis.Cmder) error {
	b := a.batcher(ctx, cmd)
	done := ctx.Done()
	if b == nil || a.users.Any() || b.stalled.Load() > 0 || done != nil && ctx.Err() != nil || !portable(cmd.Args(), done != nil) {
		_ = a.Process(ctx, cmd)
		return nil
	}
	x, i := b.add(cmd)
	if done == nil {
		<-x.done
	} else {
		select {
		case <-x.done:
		case <-done:
			if b.withdraw(x, i) {
				return b.unit.failed(ctx, ctx.Err(), time.Since(x.began))
			}
			if !x.giveUp() {
				return a.retry.Abandoned(ctx, cmd, ctx.Err())
			}
			if retry.OutcomeOf(cmd.Err()) == retry.NotSent {
				return b.unit.failed(ctx, ctx.Err(), time.Since(x.began))
			}
		}
	}
	if err := cmd.Err(); err != nil && err != redis.Nil {
		a.goOn(ctx, cmd, err)
	}
	return nil
}

// goOn does what is to be done after a first attempt that failed.
func (a *adaptive) goOn(ctx context.Context, cmd redis.Cmder, first error) {
	err := a.Process(conntrack.Quiet(retry.After(ctx, first), nil), cmd)
	if err != nil && unsure(first, err) { // refused on the way, by a CloseGracefully
		cmd.SetErr(a.retry.Abandoned(ctx, cmd, first))
	}
}

// batcher finds the one of the command's node; nil if there is none.
func (a *adaptive) batcher(ctx context.Context, cmd redis.Cmder) *batcher {
	if a.owner == nil {
		return a.one
	}
	key, ok := cmd.Args()[1].(string)
	if !ok {
		return nil
	}
	node, err := a.owner(ctx, key)
	if err != nil {
		return nil
	}
	if b, ok := a.nodes.Load(node); ok {
		return b.(*batcher)
	}
	if cached(node.Options()) {
		return nil
	}
	u, err := a.unit(node)
	if err != nil {
		return nil
	}
	b, had := a.nodes.LoadOrStore(node, a.newBatcher(u, a.Pipeline))
	if !had && a.count.Add(1) > 256 { // of nodes that have left
		a.nodes.Clear()
		a.count.Store(0)
	}
	return b.(*batcher)
}

// portable reports whether arguments can be sent by another goroutine, whatever
// their owner does meanwhile, and cannot make go-redis fail while it writes. With
// clone, bytes are copied, for an owner who may not wait for the end.
func portable(args []any, clone bool) bool {
	for i, arg := range args {
		switch v := arg.(type) {
		case string:
			if len(v) > maxArgument {
				return false
			}
		case []byte:
			if len(v) > maxArgument {
				return false
			}
			if clone {
				args[i] = bytes.Clone(v)
			}
		case nil, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64, float32, float64, bool,
			time.Time, time.Duration:
		default:
			return false
		}
	}
	return true
}

// commandMaker is a client that only makes commands: go-redis has no other public
// way to have them made. It holds no connection and no goroutine.
var commandMaker = sync.OnceValue(func() *redis.Client {
	c := redis.NewClient(&redis.Options{
		Addr: "nowhere",
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("lifeguard/managed: this client is not for sending")
		},
		PoolSize: 1, PipelinePoolSize: -1, MaxRetries: -1, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	c.AddHook(makerHook{})
	return c
})

// makerHook ends every command before it is sent.
type makerHook struct{}

func (makerHook) DialHook(next redis.DialHook) redis.DialHook { return next }
func (makerHook) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(context.Context, redis.Cmder) error { return nil }
}
func (makerHook) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(context.Context, []redis.Cmder) error { return nil }
}
