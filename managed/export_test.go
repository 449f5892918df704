package managed

import (
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// WithClock gives a client clocks of a test's own. Timers stay real ones.
func WithClock(now, wall func() time.Time) Option {
	return func(s *settings) error { s.now, s.wall = now, wall; return nil }
}

// Kick makes maintenance look again now.
func (c *Client) Kick() { c.core.maintain.wake() }

// Node is the node below the client.
func (c *Client) Node() *hooks.Node { return c.node }

// Limits is the maximum age of every open connection, by id.
func (c *Client) Limits() map[uint64]time.Duration {
	m := make(map[uint64]time.Duration)
	c.core.tracker.Range(func(conn *hooks.Conn) bool {
		m[conn.ID()] = conn.View().MaxAge
		return true
	})
	return m
}

// Unattended keeps maintenance from starting; it comes before the first connection.
func (c *Client) Unattended() { c.core.maintain.once.Do(func() {}) }

// Round makes one round of maintenance, and says how long that took. The client
// must be Unattended.
func (c *Client) Round() (took, next time.Duration) {
	start := time.Now()
	next = c.core.maintain.round()
	return time.Since(start), next
}
