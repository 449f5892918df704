package upkeep

import (
	"context"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// sweepOn visits what is due for the rest of the tick that began at start. The rest is left to the
// next tick, which skips the survey of all connections if the last one is recent.
func (n *Node) sweepOn(start time.Time, due [3]int) time.Duration {
	if !n.visiting.try() {
		return min(n.then, retryPause)
	}
	defer n.visiting.end()
	// The survey is a part of the tick, but each tick makes some progress.
	if spent := time.Since(start); spent > tickBudget*3/4 {
		start = start.Add(spent - tickBudget*3/4)
	}
	// Connections that were dialed but not used yet are in the main pool, or else in the other.
	either := due[hooks.PoolUnknown]
	due[hooks.PoolUnknown] = 0
	due[hooks.PoolMain] += either
	unmet := 0
	rest := n.rest
	n.rest = [3]int{}
	for _, p := range []hooks.Pool{hooks.PoolMain, hooks.PoolPipeline} {
		if due[p] > rest[p] {
			n.turns[p] = 0 // some are due that the visits of the last tick may have missed
		}
		left, done := n.visit(p, due[p], start)
		if !done {
			n.rest = due
			n.rest[p] = left
			return tickPause
		}
		due[p] = 0
		if p == hooks.PoolMain {
			either = min(either, left)
			left -= either
			due[hooks.PoolPipeline] += either
		}
		unmet += left
	}
	if unmet == 0 {
		n.unmet = 0
		return n.then
	}
	// Callers hold some: these may be idle soon, or not for a long time.
	n.unmet++
	return min(n.then, retryPause<<min(n.unmet-1, 8))
}

// visit visits idle connections of a pool until those that are due have been visited or all have
// been visited twice, and returns how many were not reached. If the tick's budget is spent before
// that, done is false, and the next call continues from there: starting over each time, it would
// never finish.
func (n *Node) visit(pool hooks.Pool, due int, start time.Time) (left int, done bool) {
	if due == 0 {
		return 0, true
	}
	visits := 2 * n.idle(pool)
	if turns := n.turns[pool]; turns > 0 {
		visits = min(visits, turns)
	}
	n.turns[pool] = 0
	for ; visits > 0 && due > 0; visits-- {
		if n.k.ctx.Err() != nil || n.idle(pool) == 0 {
			break
		}
		if time.Since(start) > tickBudget {
			n.turns[pool] = visits
			return due, false
		}
		before, from := time.Now(), n.k.tracker.Elapsed()
		met, removed, err := n.Tracked.Visit(pool, 0)
		if met == nil {
			break // no connection is free now
		}
		n.pings.answered(n, met, removed, err, from)
		if removed || met.View().LastUsed >= from { // it was due, not just the next in the queue
			due--
		}
		if took := time.Since(before); took > time.Millisecond {
			start = start.Add(took) // waiting for an answer is not work
		}
		if removed && errtext.IsTimeout(err) {
			return due, false // reconsider before the next one takes as long
		}
	}
	return due, true
}

func (n *Node) idle(p hooks.Pool) int {
	if p == hooks.PoolPipeline {
		return n.Tracked.Pipeline().Idle
	}
	return n.Tracked.Main().Idle
}

func (n *Node) evictIdle(ctx context.Context) {
	if !n.querying.take(ctx) { // maintenance's questions use idle connections, too
		return
	}
	defer n.wake() // for questions that were due meanwhile
	defer n.querying.end()
	if !n.visiting.take(ctx) {
		return
	}
	defer n.visiting.end()
	var idle []*conntrack.Conn
	n.Tracked.Range(func(conn *conntrack.Conn) bool {
		if v := conn.View(); !v.PubSub && !v.Leased && !v.Awaiting {
			conn.EvictIdle(hooks.ReasonReset)
			idle = append(idle, conn)
		}
		return true
	})
	n.sweepLocked(ctx)
	for _, conn := range idle { // those that were checked out meanwhile are not idle
		conn.CancelOrder()
	}
}

func (n *Node) sweep(ctx context.Context) {
	if !n.visiting.take(ctx) {
		return
	}
	defer n.visiting.end()
	n.sweepLocked(ctx)
}

func (n *Node) sweepLocked(ctx context.Context) {
	for _, pool := range []hooks.Pool{hooks.PoolMain, hooks.PoolPipeline} {
		for left := 2 * n.idle(pool); left > 0 && ctx.Err() == nil && n.due(pool); left-- {
			if met, _, _ := n.Tracked.Visit(pool, 0); met == nil {
				break
			}
		}
	}
}

// due reports whether an idle connection of the pool is to be visited.
func (n *Node) due(pool hooks.Pool) bool {
	if n.idle(pool) == 0 {
		return false
	}
	found := false
	n.Tracked.Range(func(c *conntrack.Conn) bool {
		v := c.View()
		mine := v.Pool == pool || v.Pool == hooks.PoolUnknown // dialed, not used yet: may be in either pool
		found = mine && !v.Leased && !v.PubSub && c.Due()
		return !found
	})
	return found
}
