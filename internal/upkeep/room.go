package upkeep

import (
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

// unusedAfter is how long a connection may be without a handshake before it counts as idle.
const unusedAfter = 50 * time.Millisecond

// makeRoom closes the connection that has been idle for the longest. It is called, repeatedly,
// while a dial waits for a place.
func (k *Keeper) makeRoom() {
	if !k.roomAsked.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer k.roomAsked.Store(false)
		c, idle := k.victim()
		if c == nil {
			return
		}
		if idle {
			c.EvictIdle(hooks.ReasonIdle)
			for _, n := range k.nodes() {
				if n.Tracked == c.Node() {
					n.sweep(k.ctx)
				}
			}
		}
		// A connection that is in constant use is closed at its next checkout.
		c.Evict(hooks.ReasonIdle)
	}()
}

// victim chooses the connection to close: the one that has been idle for the longest, or, while all
// are in use, any one of the node that has the most. nil while one is already being closed.
func (k *Keeper) victim() (victim *conntrack.Conn, idle bool) {
	var oldest time.Duration
	perNode := map[*conntrack.Node][]*conntrack.Conn{}
	leaving := false
	// A connection that was dialed for a caller who then got another one stays in its pool without
	// a handshake; for a moment, so does each new one.
	unused := k.tracker.Elapsed() - unusedAfter
	k.tracker.Range(func(c *conntrack.Conn) bool {
		v := c.View()
		if v.PubSub || v.Leased || !v.Ready && (v.Awaiting || v.LastUsed > unused) {
			return true
		}
		if c.Evicting() {
			// A connection whose node is not used any more waits for a sweep.
			leaving, idle = true, !v.Awaiting
			victim = c
			return false
		}
		perNode[c.Node()] = append(perNode[c.Node()], c)
		if !v.Awaiting && (!idle || v.LastUsed < oldest) {
			victim, oldest, idle = c, v.LastUsed, true
		}
		return true
	})
	switch {
	case idle:
		return victim, true
	case leaving:
		return nil, false
	}
	most := 1
	for _, conns := range perNode {
		if len(conns) > most {
			victim, most = conns[0], len(conns)
		}
	}
	return victim, false
}
