package batch

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/retry"
)

//go:generate go run ../../cmd/internal/genadaptive -out adaptive_gen.go

// Config configures an Adaptive.
type Config struct {
	Client   redis.UniversalClient // sends what is not sent in a batch
	Settings Settings
	PoolSize int // connections to each node
	Log      *slog.Logger
	Retry    *retry.Hook
	Users    *conntrack.UserHooks

	// Node is the server of a single-node client; nil for a cluster, where Owner returns the
	// client of a key's node and NodeOf the Node of that client.
	Node   Node
	Owner  func(ctx context.Context, key string) (*redis.Client, error)
	NodeOf func(*redis.Client) (Node, error)

	Direct bool // nothing is sent in batches, whatever Settings say
}

// Adaptive is a redis.UniversalClient that sends each command directly or in a
// batch. Methods that are not in adaptive_gen.go are those of the client: they
// are always sent directly.
type Adaptive struct {
	redis.UniversalClient
	cfg   Config
	maker redis.Cmdable   // makes commands, but sends nothing
	ctx   context.Context // of every batch

	one   *batcher // nil in a cluster
	nodes sync.Map // in a cluster: *redis.Client to *batcher
	count atomic.Int64

	inFlight  atomic.Int64
	batching  atomic.Bool
	threshold atomic.Int64 // calls in flight that start batching; fewer than 3/4 of it stop batching
	minTime   atomic.Int64 // ns: calls whose ctx ends sooner are sent directly
	distant   atomic.Bool  // the server is far away
	sampled   atomic.Int64
}

const (
	busy          = 8                // calls in flight from which batches are faster, if the server is near
	distantRTT    = time.Millisecond // round trip from which a half-empty batch costs more than it saves
	sampleEvery   = 4096             // calls between measurements of the round trip
	leastMinTime  = time.Millisecond // calls whose ctx ends within it are sent directly
	maxKnownNodes = 256              // of a cluster; includes nodes that have left it
)

// New makes an Adaptive.
func New(c Config) *Adaptive {
	a := &Adaptive{UniversalClient: c.Client, cfg: c, maker: commandMaker(), ctx: conntrack.Bound(attempt.With(context.Background(), attempt.First))}
	a.minTime.Store(int64(leastMinTime + c.Settings.Delay))
	if c.Direct {
		a.cfg.Settings.Threshold = math.MaxInt64
	}
	a.threshold.Store(cmp.Or(a.cfg.Settings.Threshold, a.enough(false)))
	if c.Node != nil {
		a.one = a.newBatcher(c.Node)
	}
	return a
}

// Cached reports whether a client with these options has a client-side cache, which go-redis uses
// for direct calls only.
func Cached(opt *redis.Options) bool {
	return opt.ClientSideCache != nil || opt.ClientSideCacheConfig != nil
}

// adjust changes the settings that depend on how long batches take.
func (a *Adaptive) adjust(t timing) {
	a.minTime.Store(int64(max(leastMinTime, 4*t.typical) + a.cfg.Settings.Delay))
	if a.cfg.Settings.Threshold > 0 {
		return
	}
	distant := t.least >= distantRTT
	a.distant.Store(distant)
	a.threshold.Store(a.enough(distant) * max(a.count.Load(), 1))
}

// enough returns how many calls must be in flight to one server for batches. As long as a distant
// server has connections available, a direct call waits for one round trip, and a batch for up to
// two. If connections are scarce, direct calls would wait for those.
func (a *Adaptive) enough(distant bool) int64 {
	size := int64(a.cfg.PoolSize)
	if distant {
		return max(size, busy)
	}
	return max(min(busy, size+1), 2)
}

// pick counts a call, and reports whether to send it in a batch.
func (a *Adaptive) pick(ctx context.Context) bool {
	n, threshold := a.inFlight.Add(1), a.threshold.Load()
	switch {
	case n >= threshold:
		if !a.batching.Load() {
			a.batching.Store(true)
		}
	case !a.batching.Load():
		if !a.distant.Load() || a.sampled.Add(1)%sampleEvery != 0 {
			return false
		}
	case n < threshold-threshold/4:
		a.batching.Store(false)
		return false
	}
	return ctx == context.Background() || a.allows(ctx)
}

// pickOne is pick for commands that a cluster client may have to split.
func (a *Adaptive) pickOne(ctx context.Context) bool {
	return a.pick(ctx) && a.one != nil
}

// finish ends a call that pick has counted.
func (a *Adaptive) finish() { a.inFlight.Add(-1) }

// batched sends the command that build makes in a batch, or directly. If its caller gives up, build
// makes the command once more, because the batch still uses the first one.
func batched[C redis.Cmder](ctx context.Context, a *Adaptive, inBatch bool, build func(redis.Cmdable) C) C {
	defer a.finish()
	if !inBatch {
		return build(a.UniversalClient)
	}
	cmd := build(a.maker)
	if err := a.send(ctx, cmd); err != nil {
		cmd = build(a.maker)
		cmd.SetErr(err)
	}
	return cmd
}

// allows reports whether ctx leaves enough time for a batch, and carries no mark of package retry.
func (a *Adaptive) allows(ctx context.Context) bool {
	if d, ok := ctx.Deadline(); ok && int64(time.Until(d)) < a.minTime.Load() {
		return false
	}
	return !attempt.Marked(ctx)
}

// send sends a command in a batch and waits for its result. An error means that the caller must not
// touch cmd any more, because the batch still uses it.
func (a *Adaptive) send(ctx context.Context, cmd redis.Cmder) error {
	b := a.batcher(ctx, cmd)
	done := ctx.Done()
	if b == nil || a.cfg.Users.Any() || b.stalled.Load() > 0 || done != nil && ctx.Err() != nil || !portable(cmd.Args(), done != nil) {
		_ = a.Process(ctx, cmd)
		return nil
	}
	x, i := b.add(cmd)
	if done == nil {
		<-x.done
		x.wokeUp()
	} else {
		select {
		case <-x.done:
			x.wokeUp()
		case <-done:
			if b.withdraw(x, i) {
				return b.node.Failed(ctx, ctx.Err(), time.Since(x.began))
			}
			if !x.giveUp() {
				return attempt.InternalsOf(a.cfg.Retry).Abandoned(ctx, cmd, ctx.Err())
			}
			if retry.OutcomeOf(cmd.Err()) == retry.NotSent {
				return b.node.Failed(ctx, ctx.Err(), time.Since(x.began))
			}
		}
	}
	if err := cmd.Err(); err != nil && err != redis.Nil {
		a.goOn(ctx, cmd, err)
	}
	return nil
}

// goOn continues after a failed first attempt.
func (a *Adaptive) goOn(ctx context.Context, cmd redis.Cmder, first error) {
	err := a.Process(conntrack.WithoutUserHooks(attempt.After(ctx, first), nil), cmd)
	if err != nil && hidesUnknown(first, err) { // refused on the way, because of CloseGracefully
		cmd.SetErr(attempt.InternalsOf(a.cfg.Retry).Abandoned(ctx, cmd, first))
	}
}

// batcher returns the batcher of the command's node; nil if there is none.
func (a *Adaptive) batcher(ctx context.Context, cmd redis.Cmder) *batcher {
	if a.one != nil {
		return a.one
	}
	key, ok := cmd.Args()[1].(string)
	if !ok {
		return nil
	}
	client, err := a.cfg.Owner(ctx, key)
	if err != nil {
		return nil
	}
	if b, ok := a.nodes.Load(client); ok {
		return b.(*batcher)
	}
	if Cached(client.Options()) {
		return nil
	}
	node, err := a.cfg.NodeOf(client)
	if err != nil {
		return nil
	}
	b, had := a.nodes.LoadOrStore(client, a.newBatcher(node))
	if !had && a.count.Add(1) > maxKnownNodes {
		a.nodes.Clear()
		a.count.Store(0)
	}
	return b.(*batcher)
}
