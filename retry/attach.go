package retry

import (
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Attach adds a new hook to a client. It runs inside the hooks that were added before, so call it
// before adding hooks that are to see each attempt. On a ClusterClient or Ring the node clients get
// their own hooks, see [Hook.Node].
//
// It refuses an invalid policy, a client whose own retries are on, and clients of other types.
func Attach(rdb redis.UniversalClient, policy Policy, opts ...Option) (*Hook, error) {
	if err := policy.Validate(); err != nil {
		return nil, err
	}
	h := NewHook(policy, opts...)
	switch c := rdb.(type) {
	case *redis.Client:
		if err := noRetries(c.Options().MaxRetries); err != nil {
			return nil, err
		}
	case *redis.ClusterClient:
		if err := noRetries(max(c.Options().MaxRetries, 0)); err != nil { // -1 here, 0 at the nodes
			return nil, err
		}
		h.fanout.Store(true)
		h.cluster = true
		c.OnNewNode(func(node *redis.Client) { node.AddHook(h.Node(node.Options().Addr)) })
	case *redis.Ring:
		if err := noRetries(c.Options().MaxRetries); err != nil {
			return nil, err
		}
		h.fanout.Store(true)
		c.OnNewNode(func(node *redis.Client) { node.AddHook(h.Node(node.Options().Addr)) })
	default:
		return nil, fmt.Errorf("lifeguard/retry: cannot attach to a %T: add NewHook, and Hook.Node to its nodes", rdb)
	}
	rdb.AddHook(h)
	return h, nil
}

func noRetries(n int) error {
	if n == 0 {
		return nil
	}
	return fmt.Errorf("lifeguard/retry: MaxRetries of the client is %d: go-redis would repeat writes; set it to -1", n)
}
