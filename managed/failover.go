package managed

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redisopt"
)

// NewFailover makes a client for the master that Sentinels name; it is New for
// redis.FailoverOptions. Connections to the Sentinels are tracked, and closed with the client, but
// maintenance neither checks nor closes them.
func NewFailover(opt *redis.FailoverOptions, opts ...Option) (*Client, error) {
	like, err := redisopt.OfFailover(opt)
	if err != nil {
		return nil, err
	}
	core, err := newCore(opts, like, false)
	if err != nil {
		return nil, err
	}
	core.set.buffers.resize(like)
	u := &unit{core: core, users: &conntrack.UserHooks{}}
	u.retry = core.retryHook(like, u.repeating)
	u.on(core.tracker.NewFailoverNode(like, opt.SentinelAddrs...))
	rdb, err := redisopt.Construct(func() *redis.Client { return redis.NewFailoverClient(redisopt.Failover(opt, like)) })
	if err != nil {
		return nil, err
	}
	u.bind(rdb, opt.MinIdleConns)
	core.insideClosed = u.insideClosed
	if n := core.set.blockingPool; n > 0 {
		if err := u.addBlockingFailover(*opt, n); err != nil {
			_ = u.close()
			return nil, err
		}
	}
	core.closer = u.close
	if err := core.watch(u.retry.Stats); err != nil {
		_ = core.close()
		return nil, err
	}
	return &Client{Client: rdb, core: core, unit: u, own: &handle{}, users: u.users, through: u.hook, options: redisopt.GivenFailover(rdb.Options(), opt)}, nil
}

// NewFailoverClient is NewFailover as a replacement for redis.NewFailoverClient: it panics where
// NewFailover returns an error.
func NewFailoverClient(opt *redis.FailoverOptions, opts ...Option) *Client {
	return must(NewFailover(opt, opts...))
}

// NewFailoverCluster makes a client that reads from the replicas that Sentinels name, like
// redis.NewFailoverClusterClient. It dials nothing, and opt is cloned, never changed. Close ends the
// subscription to a Sentinel that go-redis leaves open, and go-redis may then log that the
// Sentinels are closed.
func NewFailoverCluster(opt *redis.FailoverOptions, opts ...Option) (*ClusterClient, error) {
	like, err := redisopt.OfFailover(opt)
	if err != nil {
		return nil, err
	}
	m, err := newMany(like, opts)
	if err != nil {
		return nil, err
	}
	m.core.set.buffers.resize(like)
	d := &dispatcher{core: m.core, like: *like}
	d.sentinels = m.core.tracker.NewFailoverNode(like, opt.SentinelAddrs...)
	d.toSentinel = like.Dialer
	like.Dialer = d.dial
	clone := redisopt.Failover(opt, like)
	rdb, err := redisopt.Construct(func() *redis.ClusterClient { return redis.NewFailoverClusterClient(clone) })
	if err != nil {
		return nil, err
	}
	m.core.atCheck = func() { m.lookForMaster(rdb) }
	// go-redis makes the clients of the nodes itself; this attaches their units.
	rdb.OnNewNode(func(node *redis.Client) {
		u := &unit{core: m.core, retry: m.retry, inner: true, around: &m.users}
		u.on(d.node(node.Options().Addr))
		u.bind(node, opt.MinIdleConns)
		if n := m.core.set.blockingPool; n > 0 {
			if err := u.addBlockingPool(d.options(node), n); err != nil {
				m.core.set.log.Error("lifeguard: no pool for blocking commands", "node", node.Options().Addr, "error", err)
			}
		}
	})
	if err := m.attach(rdb, func() { rdb.ReloadState(context.Background()) }); err != nil {
		return nil, err
	}
	m.core.closer = func() error {
		err := rdb.Close()
		m.core.tracker.CloseAll()
		d.sentinels.Close()
		if d.used.Load() {
			// go-redis leaves its subscription to a Sentinel open, with a goroutine that sends a
			// PING every 3 s (#3999). It ends the subscription when it asks for the master and
			// that Sentinel does not reply, and here none replies any more.
			_, _ = rdb.Options().ClusterSlots(context.Background())
		}
		return err
	}
	return &ClusterClient{ClusterClient: rdb, core: m.core, many: m, options: redisopt.GivenFailoverCluster(rdb.Options(), opt)}, nil
}

// dispatcher is the single Dialer of a failover cluster client, for its nodes and its Sentinels.
type dispatcher struct {
	core       *core
	like       redis.Options // as the user gave them
	sentinels  *conntrack.Node
	toSentinel func(context.Context, string, string) (net.Conn, error)
	used       atomic.Bool // a Sentinel was dialed

	mu    sync.Mutex
	nodes map[string]*dispatched // every other address is a Sentinel
}

type dispatched struct {
	node *conntrack.Node
	dial func(context.Context, string, string) (net.Conn, error)
}

func (d *dispatcher) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d.mu.Lock()
	x := d.nodes[addr]
	d.mu.Unlock()
	if x == nil {
		d.used.Store(true)
		return d.toSentinel(ctx, network, addr)
	}
	return x.dial(ctx, network, addr)
}

// node makes what a new node of the cluster client needs. go-redis makes a new client for a node
// that comes back after it had left.
func (d *dispatcher) node(addr string) *conntrack.Node {
	opt := d.like
	opt.Addr = addr
	x := &dispatched{node: d.core.tracker.NewNode(&opt)}
	x.node.NoWaiting()
	x.dial = opt.Dialer
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.nodes == nil {
		d.nodes = make(map[string]*dispatched)
	}
	d.nodes[addr] = x
	return x.node
}

// options returns the options of a node's client, without what was added to them for it.
func (d *dispatcher) options(node *redis.Client) redis.Options {
	opt := *node.Options()
	opt.Dialer, opt.OnConnect = d.like.Dialer, d.like.OnConnect
	opt.CredentialsProviderContext, opt.StreamingCredentialsProvider = d.like.CredentialsProviderContext, d.like.StreamingCredentialsProvider
	opt.PushNotificationProcessor = nil
	for _, timeout := range []*time.Duration{&opt.ReadTimeout, &opt.WriteTimeout} {
		if *timeout == 0 {
			*timeout = -1 // go-redis would replace 0 by the default the second time
		}
	}
	return opt
}

// lookForMaster notices that the Sentinels have named another master: connections to the old one
// are closed, including half-open ones and their commands.
func (m *many) lookForMaster(cluster *redis.ClusterClient) {
	ctx, cancel := context.WithTimeout(m.core.ctx, m.core.set.detection.Patience)
	defer cancel()
	rdb, err := cluster.MasterForKey(ctx, "")
	if err != nil {
		return
	}
	now := rdb.Options().Addr
	old := m.master.Swap(&now)
	if old == nil || *old == now {
		return
	}
	u, err := m.at(*old)
	if err != nil {
		return
	}
	m.core.tracker.Range(func(c *conntrack.Conn) bool {
		switch v := c.View(); {
		case c.Node() != u.node || v.PubSub:
		case v.Awaiting:
			c.Kill(hooks.ReasonReadOnly, errDemoted{})
		default:
			c.Evict(hooks.ReasonReadOnly)
		}
		return true
	})
}

// errDemoted is the error of commands that wait for a node which is no longer the master.
type errDemoted struct{}

func (errDemoted) Error() string { return "the Sentinels have named another master" }

// NewFailoverClusterClient is NewFailoverCluster as a replacement for
// redis.NewFailoverClusterClient: it panics where that returns an error.
func NewFailoverClusterClient(opt *redis.FailoverOptions, opts ...Option) *ClusterClient {
	return must(NewFailoverCluster(opt, opts...))
}
