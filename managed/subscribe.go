package managed

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"
)

// Subscribe is redis.Client's, and returns when ctx ends, at the latest. If the connection is still
// being opened then, that goes on without the caller, and other calls on the PubSub, Close included,
// wait for it. As after any error, Receive and Channel of the PubSub try again.
func (c *Client) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return subscribe(ctx, c.Client.Subscribe, (*redis.PubSub).Subscribe, channels)
}

// PSubscribe is redis.Client's; like Subscribe it returns when ctx ends.
func (c *Client) PSubscribe(ctx context.Context, patterns ...string) *redis.PubSub {
	return subscribe(ctx, c.Client.PSubscribe, (*redis.PubSub).PSubscribe, patterns)
}

// SSubscribe is redis.Client's; like Subscribe it returns when ctx ends.
func (c *Client) SSubscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return subscribe(ctx, c.Client.SSubscribe, (*redis.PubSub).SSubscribe, channels)
}

// Subscribe is redis.ClusterClient's, and returns when ctx ends; see Client.Subscribe.
func (c *ClusterClient) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return subscribe(ctx, c.ClusterClient.Subscribe, (*redis.PubSub).Subscribe, channels)
}

// PSubscribe is redis.ClusterClient's, and returns when ctx ends; see Client.Subscribe.
func (c *ClusterClient) PSubscribe(ctx context.Context, patterns ...string) *redis.PubSub {
	return subscribe(ctx, c.ClusterClient.PSubscribe, (*redis.PubSub).PSubscribe, patterns)
}

// SSubscribe is redis.ClusterClient's, and returns when ctx ends; see Client.Subscribe.
func (c *ClusterClient) SSubscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return subscribe(ctx, c.ClusterClient.SSubscribe, (*redis.PubSub).SSubscribe, channels)
}

// Subscribe is redis.Ring's, and returns when ctx ends; see Client.Subscribe.
func (r *Ring) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	if shard := r.shardOf(channels); shard != nil {
		return subscribe(ctx, shard.Subscribe, (*redis.PubSub).Subscribe, channels)
	}
	return r.Ring.Subscribe(ctx, channels...)
}

// PSubscribe is redis.Ring's, and returns when ctx ends; see Client.Subscribe.
func (r *Ring) PSubscribe(ctx context.Context, patterns ...string) *redis.PubSub {
	if shard := r.shardOf(patterns); shard != nil {
		return subscribe(ctx, shard.PSubscribe, (*redis.PubSub).PSubscribe, patterns)
	}
	return r.Ring.PSubscribe(ctx, patterns...)
}

// SSubscribe is redis.Ring's, and returns when ctx ends; see Client.Subscribe.
func (r *Ring) SSubscribe(ctx context.Context, channels ...string) *redis.PubSub {
	if shard := r.shardOf(channels); shard != nil {
		return subscribe(ctx, shard.SSubscribe, (*redis.PubSub).SSubscribe, channels)
	}
	return r.Ring.SSubscribe(ctx, channels...)
}

// shardOf returns the shard that go-redis subscribes at, nil where it panics.
func (r *Ring) shardOf(channels []string) *redis.Client {
	if len(channels) == 0 {
		return nil
	}
	shard, err := r.GetShardClientForKey(channels[0])
	if err != nil {
		return nil
	}
	return shard
}

// subscribe makes a PubSub, without a connection, and gives it its channels, with one. go-redis
// does not look at ctx while it opens that, or asks a Sentinel first.
func subscribe(ctx context.Context, open func(context.Context, ...string) *redis.PubSub,
	add func(*redis.PubSub, context.Context, ...string) error, channels []string) *redis.PubSub {
	if ctx.Done() == nil || len(channels) == 0 {
		return open(ctx, channels...)
	}
	ps := open(ctx)
	channels = slices.Clone(channels) // the caller may change his own after ctx has ended
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = add(ps, ctx, channels...) // as in go-redis, Receive returns the error
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	return ps
}
