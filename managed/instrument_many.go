package managed

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redisopt"
)

// Instrument is for libraries that add hooks to a *redis.ClusterClient; see Client.Instrument.
// Hooks that fn adds to target run around the calls of this client. Functions that fn registers
// with target's OnNewNode are called with the clients of the nodes that are used from then on, as
// in go-redis: hooks added to those clients see each attempt.
func (c *ClusterClient) Instrument(fn func(target *redis.ClusterClient) error) error {
	if fn == nil {
		return errNoInstrument
	}
	s, nodes := &standIn{}, &standInNodes{}
	opt := *c.Options()
	opt.Dialer, opt.NewClient = dialNext, nodes.client
	opt.ClusterSlots, opt.OnConnect = nodes.slots, nil
	opt.MinIdleConns, opt.PipelinePoolSize, opt.MaxRetries, opt.MaxRedirects = 0, -1, -1, -1
	opt.RouteByLatency, opt.RouteRandomly = false, false
	rdb, err := redisopt.Construct(func() *redis.ClusterClient { return redis.NewClusterClient(&opt) })
	if err != nil {
		return err
	}
	if err := instrument(c.core, s, rdb, fn); err != nil {
		return err
	}
	c.OnNewNode(func(node *redis.Client) {
		nodes.add(node)
		_ = rdb.ForEachShard(context.Background(), func(context.Context, *redis.Client) error { return nil })
	})
	c.AddHook(s)
	return nil
}

// Instrument is for libraries that add hooks to a *redis.Ring; see ClusterClient.Instrument.
func (r *Ring) Instrument(fn func(target *redis.Ring) error) error {
	if fn == nil {
		return errNoInstrument
	}
	s, nodes := &standIn{}, &standInNodes{}
	opt := *r.Options()
	opt.Addrs, opt.Dialer, opt.NewClient, opt.OnConnect = nil, dialNext, nodes.client, nil
	opt.MinIdleConns, opt.PipelinePoolSize, opt.MaxRetries = 0, -1, -1
	opt.HeartbeatFn, opt.HeartbeatFrequency = func(context.Context, *redis.Client) bool { return true }, 24*time.Hour
	rdb, err := redisopt.Construct(func() *redis.Ring { return redis.NewRing(&opt) })
	if err != nil {
		return err
	}
	if err := instrument(r.core, s, rdb, fn); err != nil {
		return err
	}
	r.OnNewNode(func(node *redis.Client) { rdb.SetAddrs(nodes.add(node)) })
	r.core.lookInside() // the stand-in has a goroutine
	r.AddHook(s)
	return nil
}

// standInNodes gives a stand-in for a client of several nodes the clients of the real nodes, so
// that go-redis passes them to the functions registered with OnNewNode. There they have names
// instead of addresses, one for each client.
type standInNodes struct {
	mu     sync.Mutex
	last   int
	byName map[string]*redis.Client
}

// add gives a node a name, and returns all names. Nodes whose clients are closed have left: the
// stand-in would keep them for ever, but it closes those that are missing in its map.
func (n *standInNodes) add(node *redis.Client) map[string]string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.byName == nil {
		n.byName = map[string]*redis.Client{}
	}
	n.last++
	n.byName[fmt.Sprintf("node-%d:0", n.last)] = node
	names := make(map[string]string, len(n.byName))
	for name, c := range n.byName {
		if c != node && gone(c) {
			delete(n.byName, name)
			continue
		}
		names[name] = name
	}
	return names
}

// gone reports whether a client has been closed. Nothing is sent.
func gone(c *redis.Client) bool {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	return c.WithTimeout(0).Ping(ended).Err() == redis.ErrClosed
}

// client is the NewClient of the stand-in.
func (n *standInNodes) client(opt *redis.Options) *redis.Client {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.byName[opt.Addr]; c != nil {
		return c
	}
	return redis.NewClient((&standIn{}).options(opt)) // an address of the user's: nobody uses this client
}

// slots returns a cluster map with all those nodes.
func (n *standInNodes) slots(context.Context) ([]redis.ClusterSlot, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := redis.ClusterSlot{Start: 0, End: 16383}
	for name := range n.byName {
		all.Nodes = append(all.Nodes, redis.ClusterNode{Addr: name})
	}
	return []redis.ClusterSlot{all}, nil
}
