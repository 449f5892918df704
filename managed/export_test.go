package managed

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/batch"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

// WithClock gives a client clocks of a test's own. Timers stay real ones.
func WithClock(now, wall func() time.Time) Option {
	return func(s *settings) error { s.now, s.wall = now, wall; return nil }
}

// Kick makes maintenance check again now.
func (c *Client) Kick() { c.core.keeper.SetHeartbeat(c.core.set.heartbeat) }

// Node is the node below the client.
func (c *Client) Node() *conntrack.Node { return c.unit.node }

// Limits is the maximum age of every open connection, by id.
func (c *Client) Limits() map[uint64]time.Duration {
	m := make(map[uint64]time.Duration)
	c.core.tracker.Range(func(conn *conntrack.Conn) bool {
		m[conn.ID()] = conn.View().MaxAge
		return true
	})
	return m
}

// Unattended keeps maintenance from starting; it comes before the first connection.
func (c *Client) Unattended() { c.unit.keep.Stop() }

// Round makes one round of maintenance, and says how long that took. The client
// must be Unattended.
func (c *Client) Round() (took, next time.Duration) {
	start := time.Now()
	next = c.unit.keep.Check(0)
	return time.Since(start), next
}

// AlwaysBatch makes an Adaptive client send in a batch whatever it may.
func AlwaysBatch(s *batch.Settings) error { s.Threshold = 1; return nil }

// Took does what is done for the Monitor when a command begins and ends.
func (c *Client) Took() func() {
	cmd := redis.NewStringCmd(context.Background(), "get", "k")
	return func() {
		start := c.core.tracker.Elapsed()
		c.unit.pool.Took(cmd, c.core.tracker.Elapsed()-start)
	}
}
