package standin

import "github.com/redis/go-redis/v9"

// ForNode makes a stand-in of a client that a user has made and may have added hooks to, for a
// client that shares its pools. Commands that the user sends on c itself are sent. Hooks that are
// added to c afterwards run around those only.
func ForNode(c *redis.Client) *StandIn {
	s := &StandIn{process: c.Process, pipeline: c.Pipeline, close: func() error { return nil }}
	c.AddHook(departure{of: s, node: true})
	return s
}
