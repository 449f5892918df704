package managed

import "github.com/redis/go-redis/v9"

// PoolStats is redis.Client's, without the connections that go-redis counts for MinIdleConns
// although their dial has failed. Safe for concurrent use.
func (c *Client) PoolStats() *redis.PoolStats {
	ps := c.Client.PoolStats()
	c.unit.leaveOutUnborn(ps)
	return ps
}

// PoolStats is redis.ClusterClient's; see Client.PoolStats.
func (c *ClusterClient) PoolStats() *redis.PoolStats {
	ps := c.ClusterClient.PoolStats()
	c.leaveOutUnborn(ps)
	return ps
}

// PoolStats is redis.Ring's; see Client.PoolStats.
func (r *Ring) PoolStats() *redis.PoolStats {
	ps := r.Ring.PoolStats()
	r.many.leaveOutUnborn(ps)
	return ps
}

func (m *many) leaveOutUnborn(ps *redis.PoolStats) {
	for _, u := range m.core.units() {
		if u.main() {
			u.leaveOutUnborn(ps)
		}
	}
}

func (u *unit) poolStats() *redis.PoolStats {
	ps := u.rdb.PoolStats()
	u.leaveOutUnborn(ps)
	return ps
}

// leaveOutUnborn: only those that wait in the pool exist for longer than a moment.
func (u *unit) leaveOutUnborn(ps *redis.PoolStats) {
	n := min(uint32(max(u.node.Unborn(), 0)), ps.IdleConns, ps.TotalConns)
	ps.IdleConns -= n
	ps.TotalConns -= n
}
