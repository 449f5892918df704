package conntrack

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/attempt"
)

// PingNew opens a separate connection to the node, sends a PING and closes it: that tells a dead
// connection from a slow server. While the node is unreachable it sends nothing: then only the
// gate's prober does. The dial and each reply may take patience.
func (n *Node) PingNew(ctx context.Context, patience time.Duration) error {
	if err := n.Unreachable(); err != nil {
		return err
	}
	taken := false // the handshake is over: the server accepts new connections
	err := n.alone(ctx, patience, &taken, func(c *redis.Client) error { return c.Ping(ctx).Err() })
	var reply redis.Error
	if errors.As(err, &reply) && !redis.IsMaxClientsError(err) && !redis.IsLoadingError(err) {
		err = nil // any reply is a reply (an ACL may forbid PING)
	}
	if err == nil && taken {
		n.health.become(hooks.Healthy, nil)
	}
	return err
}

// alone runs f with a client with one connection that nobody else uses. The dial may take patience,
// and so may each reply: a limit for all together would be too short on a slow network. taken
// reports whether its handshake was completed.
func (n *Node) alone(ctx context.Context, patience time.Duration, taken *bool, f func(*redis.Client) error) error {
	opt := n.given
	opt.Addr, opt.Network = n.dialed(), n.network()
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		c, err := n.base(ctx, network, addr)
		if err != nil { // otherwise go-redis would log each failed dial
			return &failedDial{err: err, addr: addr, net: network}, nil
		}
		return c, nil
	}
	opt.PoolSize, opt.MinIdleConns, opt.MaxIdleConns, opt.MaxActiveConns = 1, 0, 0, 0
	opt.PipelinePoolSize = -1
	opt.MaxRetries, opt.DialerRetries = -1, 1
	opt.Limiter, opt.ClientSideCache, opt.ClientSideCacheConfig = nil, nil, nil
	opt.ContextTimeoutEnabled = true
	user := opt.OnConnect
	opt.OnConnect = func(ctx context.Context, conn *redis.Conn) error {
		*taken = true
		if user != nil {
			return user(ctx, conn)
		}
		return nil
	}
	opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout = patience, patience, patience
	leave, err := n.t.reservedSeat(ctx)
	if err != nil {
		return err
	}
	defer leave()
	c := redis.NewClient(&opt)
	defer func() { _ = c.Close() }()
	return f(c)
}

// Slots asks the node for the slot map of its cluster, on a separate connection, and waits at most
// for patience.
func (n *Node) Slots(patience time.Duration) (slots []redis.ClusterSlot, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = n.alone(ctx, patience, new(bool), func(c *redis.Client) error {
		//lint:ignore SA1019 CLUSTER SHARDS is unknown to servers before Redis 7.0; go-redis itself asks SLOTS.
		slots, err = c.ClusterSlots(ctx).Result()
		return err
	})
	return slots, err
}

// Config asks the server for one of its settings. It never waits for a slot.
func (n *Node) Config(name string) (string, error) {
	n.began.Add(1)
	defer n.over.Add(1)
	ctx := NoWait(context.Background())
	m, err := n.maint.Load().ConfigGet(ctx, name).Result()
	n.met(err)
	return m[name], err
}

// Info asks the server for a section of its INFO. It never waits for a slot.
func (n *Node) Info(section string) (string, error) {
	n.began.Add(1)
	defer n.over.Add(1)
	text, err := n.maint.Load().Info(NoWait(context.Background()), section).Result()
	n.met(err)
	return text, attempt.Reveal(err)
}

// met counts a request of maintenance that used an idle connection.
func (n *Node) met(err error) {
	if !errors.Is(err, ErrWouldWait) {
		n.visits.Add(1)
	}
}
