package managed

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/batch"
)

// Adaptive returns a redis.UniversalClient on top of this client. It sends commands directly while
// few are in flight, and in batches when many are: many commands then share one write, one read and
// one connection. That multiplies the throughput, and lowers the latency of all of them. It is safe
// for concurrent use, and starts no goroutine while there is nothing to send.
//
// Each call waits for its reply, so two calls of one goroutine keep their order. Retries, outcomes,
// stats, alerts, maximum age, heartbeat and CloseGracefully work as for direct calls: a batch is
// the first attempt of each of its commands, and each caller then continues by itself, with its own
// ctx.
//
//   - When a ctx ends, its call returns at once. A command whose batch waits for a connection, or
//     for its handshake, is never sent then, and the error is that of the ctx, or an
//     *ExhaustedError. Otherwise the batch goes on, the command may still be executed, and the
//     error is retry.ErrUnknownOutcome (for a read: that of the ctx).
//   - Always sent directly: commands that may block in the server, subscriptions, Watch, pipelines,
//     transactions, scripts, Do and Process, commands that are bound to one connection,
//     administration, modules; in a cluster also commands with several keys; arguments above 8 KiB
//     or of types that go-redis has to marshal; calls whose ctx carries a mark of package retry, or
//     ends within about four batches; everything, if the client-side cache is on.
//   - Once a hook has been added, with AddHook or Instrument, everything is sent directly, so that
//     the hook sees each call once, with its ctx and its error.
//   - Commands that wait for their batch when CloseGracefully is called are not sent and get
//     ErrShutdown, like later ones.
//
// Close closes the client. A client that is closed or shutting down returns the same errors as for
// direct calls. Each call of Adaptive makes a client with its own counts of calls in flight: use
// one. Invalid options are a panic that names them, as in NewClient; Batched returns them as an
// error.
func (c *Client) Adaptive(opts ...BatchOption) redis.UniversalClient {
	opt := c.Options()
	return batch.New(batch.Config{Client: c, Settings: mustBatching(opts), PoolSize: opt.PoolSize, Log: c.core.set.log, Retry: c.unit.retry,
		Users: c.users, Node: batchNode{c.unit}, Direct: batch.Cached(opt)})
}

// Adaptive is Client.Adaptive for a cluster, with separate batches for each node.
func (c *ClusterClient) Adaptive(opts ...BatchOption) redis.UniversalClient {
	return batch.New(batch.Config{Client: c, Settings: mustBatching(opts), PoolSize: c.Options().PoolSize, Log: c.core.set.log, Retry: c.many.retry,
		Users: &c.users, Owner: c.MasterForKey, NodeOf: c.batchNode})
}

// mustBatching panics if an option is invalid.
func mustBatching(opts []BatchOption) batch.Settings {
	set, err := newBatching(opts)
	if err != nil {
		panic(err)
	}
	return set
}

func (c *ClusterClient) batchNode(node *redis.Client) (batch.Node, error) {
	u, err := c.unit(node)
	if err != nil {
		return nil, err
	}
	return batchNode{u}, nil
}

// batchNode adapts a unit to package batch.
type batchNode struct{ u *unit }

func (n batchNode) HasIdle() bool              { return n.u.hasIdle() }
func (n batchNode) HasRoom() bool              { return n.u.hasRoom() }
func (n batchNode) Connect() error             { return n.u.node.Connect() }
func (n batchNode) PoolTimeout() time.Duration { return n.u.rdb.Options().PoolTimeout }
func (n batchNode) Closed() bool               { return n.u.core.closed.Load() }

func (n batchNode) Unreachable() error {
	if err := n.u.node.Unreachable(); err != nil {
		return n.u.node.DialError(err)
	}
	return nil
}

func (n batchNode) NoneFree(waited time.Duration, commands int) error {
	n.u.pool.TimedOut(commands, waited)
	return attempt.Reveal(n.u.noneFree(redis.ErrPoolTimeout, waited))
}

func (n batchNode) Failed(ctx context.Context, err error, after time.Duration) error {
	return attempt.Reveal(n.u.failed(ctx, err, after))
}
