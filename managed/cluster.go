package managed

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redisopt"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// ClusterClient is a go-redis cluster client whose connections, on all nodes, are
// managed. It is a redis.UniversalClient and safe for concurrent use.
//
// Commands sent on the client of a single node (in ForEachMaster, ForEachShard ...) are not
// repeated, and the method Real of their errors returns the network error behind them.
type ClusterClient struct {
	*redis.ClusterClient
	*core
	*many
	options *redis.ClusterOptions // as given
}

// NewCluster makes a cluster client. It dials nothing: a node's connections are dialed once the node
// is used. opt is cloned, never changed. An invalid option is an error that names the option and its
// value.
func NewCluster(opt *redis.ClusterOptions, opts ...Option) (*ClusterClient, error) {
	like, err := redisopt.OfCluster(opt)
	if err != nil {
		return nil, err
	}
	m, err := newMany(like, opts, retry.WithCluster())
	if err != nil {
		return nil, err
	}
	clone := *opt
	clone.MaxRetries = -1
	users := clone.NewClient
	clone.NewClient = func(node *redis.Options) *redis.Client {
		var setup chan struct{}
		if clone.RouteByLatency && users == nil { // a user's function may use the client that it makes
			setup = make(chan struct{})
		}
		return m.node(node, users, setup)
	}
	rdb, err := redisopt.Construct(func() *redis.ClusterClient { return redis.NewClusterClient(&clone) })
	if err != nil {
		return nil, err
	}
	rdb.OnNewNode(m.setUp) // go-redis's own function, which completes the client, runs before
	if err := m.attach(rdb, func() { rdb.ReloadState(context.Background()) }); err != nil {
		return nil, err
	}
	return &ClusterClient{ClusterClient: rdb, core: m.core, many: m, options: redisopt.GivenCluster(rdb.Options(), opt)}, nil
}

// NewClusterClient is NewCluster as a replacement for redis.NewClusterClient: it panics where
// NewCluster returns an error.
func NewClusterClient(opt *redis.ClusterOptions, opts ...Option) *ClusterClient {
	return must(NewCluster(opt, opts...))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Acquire leases a connection to the master that owns key; see Client.Acquire. While that master is
// unreachable, it looks for a new one until ctx ends, but no longer than it would wait for a slot.
func (c *ClusterClient) Acquire(ctx context.Context, key string) (*Conn, error) {
	for a := c.again(ctx); ; {
		u, err := c.owner(ctx, key)
		if err == nil {
			var conn *Conn
			if conn, err = u.acquire(ctx, c.own, u.rdb, false); err == nil {
				return conn, nil
			}
		}
		if err = a.next(u, err); err != nil {
			return nil, err
		}
	}
}

// TryAcquire is Acquire without waiting for a free slot or for another master; see
// Client.TryAcquire.
func (c *ClusterClient) TryAcquire(ctx context.Context, key string) (*Conn, error) {
	u, err := c.owner(ctx, key)
	if err != nil {
		return nil, err
	}
	return u.acquire(ctx, c.own, u.rdb, true)
}

// AcquireFunc runs fn with a lease on the master that owns key and releases it
// afterwards; see Client.AcquireFunc.
func (c *ClusterClient) AcquireFunc(ctx context.Context, key string, fn func(*Conn) error) error {
	for a := c.again(ctx); ; {
		u, err := c.owner(ctx, key)
		if err == nil {
			var conn *Conn
			if conn, err = u.acquire(ctx, c.own, u.rdb, false); err == nil {
				return conn.run(fn)
			}
		}
		if err = a.next(u, err); err != nil {
			return err
		}
	}
}

// again is the state of an Acquire that may look for another master.
type again struct {
	m     *many
	ctx   context.Context
	since time.Time
}

func (m *many) again(ctx context.Context) *again { return &again{m: m, ctx: ctx, since: time.Now()} }

// next waits a little after an error and returns nil if Acquire is to try again, or the error for
// its caller. u may be nil.
func (a *again) next(u *unit, err error) error {
	const pause = 50 * time.Millisecond
	var ce *hooks.ConnError
	if !errors.As(err, &ce) || ce.Op != conntrack.OpDial && !ce.Handshake {
		return err
	}
	limit := 5 * time.Second
	if u != nil {
		limit = u.rdb.Options().PoolTimeout
	}
	if a.ctx.Err() != nil || a.m.core.closed.Load() || time.Since(a.since) >= limit {
		return attempt.Ended(a.ctx, err)
	}
	a.m.stale(retry.ReasonDial)
	select {
	case <-a.ctx.Done():
		return attempt.Ended(a.ctx, err)
	case <-time.After(pause):
		return nil
	}
}

func (c *ClusterClient) owner(ctx context.Context, key string) (*unit, error) {
	if c.core.closed.Load() {
		return nil, redis.ErrClosed
	}
	if c.core.draining.Load() {
		return nil, ErrShutdown
	}
	c.slots.Follow(ctx, key)
	if err := c.slots.Await(ctx); err != nil {
		return nil, attempt.Reveal(err)
	}
	rdb, err := c.MasterForKey(ctx, key)
	if err != nil {
		return nil, attempt.Reveal(err)
	}
	return c.unit(rdb)
}

// AddHook adds a hook, as in go-redis: it sees each call once, with the error that the caller gets;
// see Client.AddHook. Hooks that OnNewNode adds to the client of a node see each attempt there.
func (c *ClusterClient) AddHook(hook redis.Hook) { c.many.addHook(hook) }

// Close closes the client at once, as in go-redis.
func (c *ClusterClient) Close() error { return c.core.close() }

// Warm opens connections until each master has n that are ready; see Client.Warm. It returns how
// many are ready on all of them together.
func (c *ClusterClient) Warm(ctx context.Context, n int) (int, error) {
	units, err := c.masters(ctx)
	if err != nil {
		return 0, err
	}
	return c.warm(ctx, units, n)
}

func (c *ClusterClient) masters(ctx context.Context) ([]*unit, error) {
	var mu sync.Mutex
	var units []*unit
	if err := c.slots.Await(ctx); err != nil {
		return nil, attempt.Reveal(err)
	}
	err := c.ForEachMaster(ctx, func(_ context.Context, rdb *redis.Client) error {
		u, err := c.unit(rdb)
		if err == nil {
			mu.Lock()
			units = append(units, u)
			mu.Unlock()
		}
		return err
	})
	return units, attempt.Reveal(err)
}

// Options returns the options that the client was made with; see Client.Options.
func (c *ClusterClient) Options() *redis.ClusterOptions { return c.options }
