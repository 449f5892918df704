package managed

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
	"github.com/lifeguard-redis/lifeguard/internal/redisopt"
)

// Ring is a go-redis ring client whose connections, on all shards, are managed. It is a
// redis.UniversalClient and safe for concurrent use.
type Ring struct {
	*redis.Ring
	*core
	*many
	options *redis.RingOptions // as given
}

// NewRingClient makes a ring client. It waits for no shard, but go-redis's own health check of
// the shards starts at once. opt is cloned, never changed. An invalid option is an error that names
// the option and its value.
func NewRingClient(opt *redis.RingOptions, opts ...Option) (*Ring, error) {
	like, err := redisopt.OfRing(opt)
	if err != nil {
		return nil, err
	}
	m, err := newMany(like, opts)
	if err != nil {
		return nil, err
	}
	clone := *opt
	clone.MaxRetries = -1
	make := clone.NewClient
	clone.NewClient = func(node *redis.Options) *redis.Client { return m.node(node, make, nil) }
	if clone.HeartbeatFn == nil {
		clone.HeartbeatFn = aliveWithin(clone.HeartbeatFrequency)
	}
	rdb, err := redisopt.Construct(func() *redis.Ring { return redis.NewRing(&clone) })
	if err != nil {
		return nil, err
	}
	if err := m.attach(rdb, nil); err != nil {
		return nil, err
	}
	return &Ring{Ring: rdb, core: m.core, many: m, options: redisopt.GivenRing(rdb.Options(), opt)}, nil
}

// NewRing is NewRingClient as a replacement for redis.NewRing: it panics where NewRingClient
// returns an error.
func NewRing(opt *redis.RingOptions, opts ...Option) *Ring { return must(NewRingClient(opt, opts...)) }

// aliveWithin makes the health check of a ring's shards: go-redis moves the keys of a shard that
// fails three times to the others. Like go-redis's own check it sends a PING, but it sees through
// our errors: a pool without a free connection is not a failure, and neither is a connection that
// breaks during the check, because the server then answers on another one, or fails to before the
// next check.
func aliveWithin(every time.Duration) func(context.Context, *redis.Client) bool {
	const tries = 10
	if every == 0 {
		every = 500 * time.Millisecond // RingOptions.HeartbeatFrequency's default
	}
	return func(ctx context.Context, shard *redis.Client) bool {
		for range tries {
			err := attempt.Reveal(shard.Ping(ctx).Err())
			if err == nil || errors.Is(err, redis.ErrPoolTimeout) {
				return true
			}
			var lost *hooks.ConnError
			if !errors.As(err, &lost) || lost.Op == conntrack.OpDial || errtext.IsTimeout(err) {
				return false
			}
			select {
			case <-ctx.Done():
				return false
			case <-time.After(every / tries):
			}
		}
		return false
	}
}

// Acquire leases a connection to the shard that owns key; see Client.Acquire.
func (r *Ring) Acquire(ctx context.Context, key string) (*Conn, error) {
	u, err := r.owner(key)
	if err != nil {
		return nil, err
	}
	return u.acquire(ctx, r.own, u.rdb, false)
}

// TryAcquire is Acquire without waiting for a free slot; see Client.TryAcquire.
func (r *Ring) TryAcquire(ctx context.Context, key string) (*Conn, error) {
	u, err := r.owner(key)
	if err != nil {
		return nil, err
	}
	return u.acquire(ctx, r.own, u.rdb, true)
}

// AcquireFunc runs fn with a lease on the shard that owns key and releases it
// afterwards; see Client.AcquireFunc.
func (r *Ring) AcquireFunc(ctx context.Context, key string, fn func(*Conn) error) error {
	u, err := r.owner(key)
	if err != nil {
		return err
	}
	conn, err := u.acquire(ctx, r.own, u.rdb, false)
	if err != nil {
		return err
	}
	return conn.run(fn)
}

func (r *Ring) owner(key string) (*unit, error) {
	if r.core.closed.Load() {
		return nil, redis.ErrClosed
	}
	if r.core.draining.Load() {
		return nil, ErrShutdown
	}
	rdb, err := r.GetShardClientForKey(key)
	if err != nil {
		return nil, attempt.Reveal(err)
	}
	return r.unit(rdb)
}

// Warm opens connections until each shard has n that are ready; see Client.Warm. It returns how
// many are ready on all of them together.
func (r *Ring) Warm(ctx context.Context, n int) (int, error) {
	var units []*unit
	for _, rdb := range r.GetShardClients() {
		u, err := r.unit(rdb)
		if err != nil {
			return 0, err
		}
		units = append(units, u)
	}
	return r.warm(ctx, units, n)
}

// AddHook adds a hook, as in go-redis: it sees each call once, with the error that the caller gets;
// see Client.AddHook. Hooks that OnNewNode adds to the client of a node see each attempt there.
func (r *Ring) AddHook(hook redis.Hook) { r.many.addHook(hook) }

// Close closes the client at once, as in go-redis.
func (r *Ring) Close() error { return r.core.close() }

// Options returns the options that the client was made with; see Client.Options.
func (r *Ring) Options() *redis.RingOptions { return r.options }
