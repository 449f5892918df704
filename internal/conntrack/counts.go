package conntrack

import (
	"math"
	"time"

	"github.com/redis/go-redis/v9"
)

// Counts are corrected numbers of a go-redis pool.
type Counts struct {
	Total, Idle, InUse, Waiting int
}

// Main returns the counts of the main pool.
func (n *Node) Main() Counts { return counts(n.Client().PoolStats()) }

// Pipeline returns the counts of the pipeline pool; all zero if there is none.
func (n *Node) Pipeline() Counts {
	return counts((*redis.PoolStats)(n.Client().PoolStats().PipelineStats))
}

// counts corrects go-redis's numbers: IdleConns may underflow for a moment, and includes
// connections that are still being dialed for MinIdleConns, which TotalConns does not.
func counts(s *redis.PoolStats) Counts {
	if s == nil {
		return Counts{}
	}
	c := Counts{Total: int(s.TotalConns), Waiting: int(s.PendingRequests)}
	if s.IdleConns <= math.MaxInt32 {
		c.Idle = int(min(s.IdleConns, s.TotalConns))
	}
	c.InUse = c.Total - c.Idle
	return c
}

// Exhausted reports whether callers hold all slots of the main pool. Slots held by maintenance do
// not count, because they are free again after one round trip.
func (n *Node) Exhausted(size int) bool {
	over := n.over.Load()
	if n.began.Load() != over {
		return false
	}
	c := n.Main()
	return c.Idle == 0 && c.InUse >= size && n.began.Load() == over && !n.newborn()
}

// newborn reports whether a connection was dialed a moment ago and not used yet: go-redis counts it
// as in use until it has given it to a caller or put it in the idle list.
func (n *Node) newborn() bool {
	const moment = 10 * time.Millisecond
	now, found := n.t.now(), false
	if now-n.bornAt.Load() >= int64(moment) {
		return false
	}
	n.Range(func(c *Conn) bool {
		found = c.out.Load() == 0 && now-c.created < int64(moment)
		return !found
	})
	return found
}
