package managed

import "github.com/redis/go-redis/v9"

// PoolStats is redis.Client's, without the connections that go-redis counts
// although their dial has failed. Safe for concurrent use.
func (c *Client) PoolStats() *redis.PoolStats {
	ps := c.Client.PoolStats()
	c.unit.node.WithoutFailedDials(ps)
	return ps
}

// PoolStats is redis.ClusterClient's; see Client.PoolStats.
func (c *ClusterClient) PoolStats() *redis.PoolStats {
	ps := c.ClusterClient.PoolStats()
	c.withoutFailedDials(ps)
	return ps
}

// PoolStats is redis.Ring's; see Client.PoolStats.
func (r *Ring) PoolStats() *redis.PoolStats {
	ps := r.Ring.PoolStats()
	r.many.withoutFailedDials(ps)
	return ps
}

func (m *many) withoutFailedDials(ps *redis.PoolStats) {
	for _, u := range m.core.units() {
		if u.main() {
			u.node.WithoutFailedDials(ps)
		}
	}
}
