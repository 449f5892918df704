package managed

import (
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/batch"
)

// BatchOption changes how Batched and Adaptive make batches. An invalid value is an error that
// names the option and the value.
type BatchOption func(*batch.Settings) error

// maxBatchDelay is where a delay is surely a mistake: every call would wait that long.
const maxBatchDelay = time.Second

// WithBatchSize sets the maximum number of commands in a batch; Batched may exceed it while a batch
// waits for its turn. Default 512. n below 1 is an error.
func WithBatchSize(n int) BatchOption {
	return func(b *batch.Settings) error {
		if n < 1 {
			return bad("WithBatchSize", n, "must be at least 1")
		}
		b.Size = n
		return nil
	}
}

// WithBatchDelay sets how long a batch that is not full waits for more commands. Default 0: it does
// not wait, and the commands that arrive while a batch is in progress make up the next one. A delay
// adds latency to every call, and saves CPU. Negative, and above 1 s, is an error.
func WithBatchDelay(d time.Duration) BatchOption {
	return func(b *batch.Settings) error {
		if d < 0 || d > maxBatchDelay {
			return bad("WithBatchDelay", d, "must be between 0 and "+maxBatchDelay.String())
		}
		b.Delay = d
		return nil
	}
}

// WithBatchConcurrency sets how many batches may be in progress at a time, each on its own
// connection; with Adaptive on a cluster, to each node. Default: 1, which gives the largest
// batches; with Adaptive up to 4 while batches mostly wait for the network, so that callers do not
// wait for the round trip of others. n below 1 is an error.
func WithBatchConcurrency(n int) BatchOption {
	return func(b *batch.Settings) error {
		if n < 1 {
			return bad("WithBatchConcurrency", n, "must be at least 1")
		}
		b.Concurrency = n
		return nil
	}
}

func newBatching(opts []BatchOption) (batch.Settings, error) {
	b := batch.Settings{Size: 512}
	for _, o := range opts {
		if o == nil {
			return b, errors.New("lifeguard/managed: a nil BatchOption was given")
		}
		if err := o(&b); err != nil {
			return b, err
		}
	}
	return b, nil
}

// Batched returns go-redis's blocking AutoPipeliner over this client: it always combines the
// commands of concurrent callers. What it sends is managed like a pipeline of the client: retried,
// counted, monitored, and closed with the client. It has three limits of go-redis's: the end of a ctx
// is ignored, so that a batch is retried for as long as a call without a deadline; a batch is
// repeated only if all of its lost commands may be repeated; and commands after CloseGracefully get
// redis.ErrClosed. [Client.Adaptive] has none of them.
//
// go-redis keeps one AutoPipeliner per client. If there is one with other options, Batched returns
// an error; close it first.
func (c *Client) Batched(opts ...BatchOption) (*redis.AutoPipeliner, error) {
	if c.own.closed.Load() { // a handle of Shared
		return nil, redis.ErrClosed
	}
	return c.core.batched(c.Client, opts)
}

// Batched is Client.Batched for a cluster; go-redis makes the batches by slot.
func (c *ClusterClient) Batched(opts ...BatchOption) (*redis.AutoPipeliner, error) {
	return c.core.batched(c.ClusterClient, opts)
}

func (c *core) batched(rdb redis.UniversalClient, opts []BatchOption) (*redis.AutoPipeliner, error) {
	b, err := newBatching(opts)
	if err != nil {
		return nil, err
	}
	if c.draining.Load() && !c.closed.Load() {
		return nil, ErrShutdown
	}
	ap, err := batch.AutoPipeliner(rdb, b)
	if err != nil {
		return nil, err
	}
	c.batchers.Store(ap, nil)
	if c.draining.Load() {
		_ = ap.Close()
	}
	return ap, nil
}

// stopBatched makes go-redis's AutoPipeliners flush and accept no more commands.
func (c *core) stopBatched() {
	c.batchers.Range(func(ap, _ any) bool {
		c.batchers.Delete(ap)
		go func() { _ = ap.(*redis.AutoPipeliner).Close() }() // it ends when the last batch does
		return true
	})
}
