package standin

import (
	"context"
	"fmt"
	"sync"

	"github.com/redis/go-redis/v9"
)

// nodes gives a stand-in for a client of several nodes the clients of the real nodes, so
// that go-redis passes them to the functions registered with OnNewNode. There they have names
// instead of addresses, one for each client.
type nodes struct {
	mu     sync.Mutex
	last   int
	byName map[string]*redis.Client
}

// add gives a node a name, and returns all names. Nodes whose clients are closed have left: the
// stand-in would keep them for ever, but it closes those that are missing in its map.
func (n *nodes) add(node *redis.Client) map[string]string {
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
func (n *nodes) client(opt *redis.Options) *redis.Client {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.byName[opt.Addr]; c != nil {
		return c
	}
	return redis.NewClient((&StandIn{}).options(opt)) // an address of the user's: nobody uses this client
}

// slots returns a cluster map with all those nodes.
func (n *nodes) slots(context.Context) ([]redis.ClusterSlot, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := redis.ClusterSlot{Start: 0, End: 16383}
	for name := range n.byName {
		all.Nodes = append(all.Nodes, redis.ClusterNode{Addr: name})
	}
	return []redis.ClusterSlot{all}, nil
}
