package conntrack

import "time"

// SetMaxAge sets the age after which connections are not used any more, for open connections, too.
// 0 or negative: none. Each connection's age is reduced by a share of jitter (a part of d, 0 to 1)
// that was chosen once, when it was dialed.
func (t *Tracker) SetMaxAge(d time.Duration, jitter float64) {
	d = max(d, 0)
	t.jitter.Store(int64(float64(d) * min(max(jitter, 0), 1)))
	t.maxAge.Store(int64(d))
}

// MaxAge returns what SetMaxAge set.
func (t *Tracker) MaxAge() time.Duration { return time.Duration(t.maxAge.Load()) }

// maxAge returns the age in ns after which this connection must not be used any more, 0 for none.
// Its jitter is chosen once, when it is dialed, so a change of the maximum at run time keeps the
// connections spread out.
func (c *Conn) maxAge() int64 {
	limit := c.node.t.maxAge.Load()
	if limit <= 0 {
		return 0
	}
	return limit - int64(float64(c.node.t.jitter.Load())*c.spread)
}

// tooOld reports whether a checkout must refuse the connection because of its age. While the node
// accepts no new connections none is too old.
func (c *Conn) tooOld(now int64) bool {
	limit := c.maxAge()
	return limit > 0 && now-c.created >= limit && !c.node.ClosedToNew() && !c.sentinel()
}

// EvictionTime returns when maintenance evicts the connection because of its age, on the tracker's
// clock: a little before a checkout refuses it, so that callers do not run into that. If it evicts
// one, it evicts all of the node for which together has passed: in a large pool, a separate sweep
// for each would have to visit half of the others. Without a maximum age ok is false.
func (v View) EvictionTime() (at, together time.Duration, ok bool) {
	const part = 256 // of the maximum age, within which connections are evicted together
	if v.MaxAge <= 0 {
		return 0, 0, false
	}
	at = v.Born + v.MaxAge - min(50*time.Millisecond, v.MaxAge/10)
	return at, at - v.MaxAge/part, true
}
