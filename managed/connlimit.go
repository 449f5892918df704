package managed

import "github.com/lifeguard-redis/lifeguard/internal/redisopt"

// WithConnLimit limits how many connections the client has open at once, over all nodes and over
// main, pipeline, blocking and pub/sub connections; those to Sentinels do not count. A server may
// need a moment to notice that one is closed. A caller that needs one more waits: the connection
// that has been idle the longest, of any pool, is closed for it; while all are in use, it waits
// until one is free or DialTimeout has passed, then the retry policy decides. From 2 on, one
// connection is reserved for the client's own requests, such as whether a server that does not
// reply is alive. If the pools do not fit into the limit, that is logged. Default 0: no limit
// except those of the pools. Negative is an error.
func WithConnLimit(n int) Option {
	return func(s *settings) error {
		if n < 0 {
			return bad("WithConnLimit", n, "must not be negative; 0 for no limit")
		}
		s.connLimit = n
		return nil
	}
}

// warnOfLimit logs, once, that the pools of all nodes do not fit into the limit.
func (c *core) warnOfLimit() {
	limit := c.set.connLimit
	if limit <= 0 || c.warned.Load() {
		return
	}
	want, nodes := 0, 0
	for _, u := range c.units() {
		if u.main() {
			nodes++
		}
		want += u.size()
	}
	if want > limit && c.warned.CompareAndSwap(false, true) {
		c.set.log.Warn("lifeguard: the pools of all nodes do not fit into WithConnLimit; callers will wait for connections of other pools to be closed",
			"limit", limit, "nodes", nodes, "pools", want)
	}
}

// size returns how many connections the pools of a unit may open.
func (u *unit) size() int {
	o := u.rdb.Options()
	return o.PoolSize + redisopt.PipelinePoolSize(o)
}

// fits is called with the number of clients that the unit's server accepts, and logs, once, if the
// pools of the unit do not fit into it.
func (u *unit) fits(most int) {
	want := u.size()
	if b := u.blocking.unit.Load(); b != nil {
		want += b.size()
	}
	if limit := u.core.set.connLimit; limit > 0 {
		want = min(want, limit)
	}
	if want <= most || !u.core.warnedServer.CompareAndSwap(false, true) {
		return
	}
	u.core.set.log.Warn("lifeguard: the pools of this client alone do not fit into the server's maxclients; make PoolSize or PipelinePoolSize smaller, or use WithConnLimit",
		"maxclients", most, "pools", want, "node", u.node.Addr())
}
