package managed

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// NewFailover makes a client of the master that Sentinels name. It is New for
// redis.FailoverOptions: it opens nothing, and opt is cloned, never changed.
// Connections to the Sentinels are tracked, and closed with the client, but never
// visited or ended by maintenance.
func NewFailover(opt *redis.FailoverOptions, opts ...Option) (*Client, error) {
	if opt == nil {
		return nil, errors.New("lifeguard/managed: FailoverOptions: nil: give at least MasterName and SentinelAddrs")
	}
	like := failoverLike(opt)
	if err := validate(like); err != nil {
		return nil, err
	}
	core, err := newCore(opts, like)
	if err != nil {
		return nil, err
	}
	u := &unit{core: core, retry: core.retryHook(like)}
	u.node = core.tracker.NewFailoverNode(like)
	rdb, err := constructed(func() *redis.Client { return redis.NewFailoverClient(withNode(opt, like)) })
	if err != nil {
		return nil, err
	}
	u.bind(rdb, opt.MinIdleConns)
	core.closer = u.close
	return &Client{Client: rdb, unit: u, own: &handle{}}, nil
}

// NewFailoverClient is NewFailover for those who replace redis.NewFailoverClient:
// it panics where NewFailover returns an error.
func NewFailoverClient(opt *redis.FailoverOptions, opts ...Option) *Client {
	return must(NewFailover(opt, opts...))
}

// NewFailoverCluster makes a client that reads from the replicas that Sentinels
// name, as redis.NewFailoverClusterClient. It opens nothing, and opt is cloned,
// never changed. WithBlockingPool has no effect on it.
func NewFailoverCluster(opt *redis.FailoverOptions, opts ...Option) (*ClusterClient, error) {
	if opt == nil {
		return nil, errors.New("lifeguard/managed: FailoverOptions: nil: give at least MasterName and SentinelAddrs")
	}
	like := failoverLike(opt)
	if err := validate(like); err != nil {
		return nil, err
	}
	m, err := newMany(like, opts)
	if err != nil {
		return nil, err
	}
	d := &dispatcher{core: m.core, like: *like}
	d.sentinels = m.core.tracker.NewFailoverNode(like)
	d.toSentinel = like.Dialer
	like.Dialer = d.dial
	clone := withNode(opt, like)
	rdb, err := constructed(func() *redis.ClusterClient { return redis.NewFailoverClusterClient(clone) })
	if err != nil {
		return nil, err
	}
	// go-redis makes the clients of the nodes itself; here they get their units.
	rdb.OnNewNode(func(node *redis.Client) {
		u := &unit{core: m.core, retry: m.retry, inner: true, node: d.node(node.Options().Addr)}
		u.bind(node, opt.MinIdleConns)
	})
	m.attach(rdb, func() { rdb.ReloadState(context.Background()) })
	for _, addr := range opt.SentinelAddrs {
		d.known.Store(addr, true)
	}
	return &ClusterClient{ClusterClient: rdb, many: m}, nil
}

// dispatcher is the one Dialer of a failover cluster client, for its nodes and
// its Sentinels.
type dispatcher struct {
	core       *core
	like       redis.Options // as the user gave them
	sentinels  *hooks.Node
	toSentinel func(context.Context, string, string) (net.Conn, error)
	known      sync.Map // address of a Sentinel -> true

	mu    sync.Mutex
	nodes map[string]*dispatched
}

type dispatched struct {
	node *hooks.Node
	dial func(context.Context, string, string) (net.Conn, error)
}

func (d *dispatcher) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if _, sentinel := d.known.Load(addr); sentinel {
		return d.toSentinel(ctx, network, addr)
	}
	return d.of(addr).dial(ctx, network, addr)
}

func (d *dispatcher) node(addr string) *hooks.Node { return d.of(addr).node }

func (d *dispatcher) of(addr string) *dispatched {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.nodes[addr]
	if x == nil {
		opt := d.like
		opt.Addr = addr
		x = &dispatched{node: d.core.tracker.NewNode(&opt)}
		x.node.NoWaiting()
		x.dial = opt.Dialer
		if d.nodes == nil {
			d.nodes = make(map[string]*dispatched)
		}
		d.nodes[addr] = x
	}
	return x
}

// NewFailoverClusterClient is NewFailoverCluster for those who replace
// redis.NewFailoverClusterClient: it panics where that returns an error.
func NewFailoverClusterClient(opt *redis.FailoverOptions, opts ...Option) *ClusterClient {
	return must(NewFailoverCluster(opt, opts...))
}

// failoverLike has those of a failover client's options that are validated, taken
// over or wrapped.
func failoverLike(o *redis.FailoverOptions) *redis.Options {
	return &redis.Options{Addr: "FailoverClient", Dialer: o.Dialer, OnConnect: o.OnConnect, TLSConfig: o.TLSConfig,
		Username: o.Username, Password: o.Password, CredentialsProvider: o.CredentialsProvider,
		CredentialsProviderContext: o.CredentialsProviderContext, StreamingCredentialsProvider: o.StreamingCredentialsProvider,
		PoolSize: o.PoolSize, MinIdleConns: o.MinIdleConns, MaxIdleConns: o.MaxIdleConns,
		MaxActiveConns: o.MaxActiveConns, MaxRetries: o.MaxRetries, MaxConcurrentDials: o.MaxConcurrentDials, DB: o.DB,
		ReadBufferSize: o.ReadBufferSize, WriteBufferSize: o.WriteBufferSize, Protocol: o.Protocol,
		PipelineReadBufferSize: o.PipelineReadBufferSize, PipelineWriteBufferSize: o.PipelineWriteBufferSize,
		PipelinePoolSize: o.PipelinePoolSize,
		DialTimeout:      o.DialTimeout, PoolTimeout: o.PoolTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime, ConnMaxLifetimeJitter: o.ConnMaxLifetimeJitter}
}

// withNode copies what a node put into like over to a clone of opt.
func withNode(opt *redis.FailoverOptions, like *redis.Options) *redis.FailoverOptions {
	clone := *opt
	tame(like)
	clone.Dialer, clone.OnConnect = like.Dialer, like.OnConnect
	clone.CredentialsProviderContext = like.CredentialsProviderContext
	clone.PoolFIFO, clone.DialerRetries, clone.MaxRetries = like.PoolFIFO, like.DialerRetries, like.MaxRetries
	clone.ReadBufferSize, clone.WriteBufferSize = like.ReadBufferSize, like.WriteBufferSize
	clone.PipelineReadBufferSize, clone.PipelineWriteBufferSize = like.PipelineReadBufferSize, like.PipelineWriteBufferSize
	clone.ConnMaxIdleTime, clone.ConnMaxLifetime, clone.ConnMaxLifetimeJitter = like.ConnMaxIdleTime, like.ConnMaxLifetime, like.ConnMaxLifetimeJitter
	return &clone
}
