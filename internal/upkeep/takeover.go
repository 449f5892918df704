package upkeep

import (
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

// A node that does not answer even a new connection is slow, or gone. A single server is waited
// for; in a cluster the other nodes know whether it still is a master.

// compareEvery returns how long after one comparison the next one may follow.
func (n *Node) compareEvery() time.Duration {
	if n.Inner {
		return 250 * time.Millisecond
	}
	return time.Second
}

// unanswered handles a node that does not respond.
func (n *Node) unanswered() {
	if n.Unanswered == nil {
		return
	}
	// A load of the slot map must not wait for this node while others could answer, neither for
	// its reply nor for the handshake before it.
	n.Tracked.SetAnswered(false)
	n.killAwaiting(n.k.detection.After, errNoAnswer, func(c *conntrack.Conn) bool { return !c.View().Ready || c.LastCommand() == "cluster" })
	n.Unanswered()
}

// KillAwaiting closes the connections of the node, which is no longer a master, that have waited for
// a reply for at least that long.
func (n *Node) KillAwaiting(since time.Duration) {
	n.killAwaiting(since, errGone, func(*conntrack.Conn) bool { return true })
}

func (n *Node) killAwaiting(since time.Duration, why error, which func(*conntrack.Conn) bool) {
	now := n.k.tracker.Elapsed()
	n.Tracked.Range(func(c *conntrack.Conn) bool {
		v := c.View()
		if v.Awaiting && !v.Writing && !v.PubSub && now-v.LastUsed >= since && which(c) {
			c.Kill(hooks.ReasonSuspected, why)
		}
		return true
	})
}

var (
	// errGone is the error of commands that wait for a node which is no longer a master.
	errGone = errHalfOpen{"the node does not respond, and another one has taken over"}
	// errNoAnswer is the error of handshakes and loads of the slot map: they begin again, perhaps on another node.
	errNoAnswer = errHalfOpen{"the node does not respond, not even over a new connection"}
)

// ReadOnly is called when a node refused a write because it is a replica. If it accepted writes
// before, a failover has happened, and its older connections are evicted: a name that now leads to
// another server must be resolved again. Once a second at most; the connection that got this reply
// is closed in any case.
func (n *Node) ReadOnly() {
	if n.k.detection.Off || !n.Tracked.TookWrites() {
		return
	}
	now := n.k.tracker.Elapsed()
	last := n.lastReadOnly.Load()
	if last != 0 && now-time.Duration(last) < time.Second || !n.lastReadOnly.CompareAndSwap(last, int64(now)) {
		return
	}
	n.Tracked.ForgetWrites()
	n.Tracked.Range(func(c *conntrack.Conn) bool {
		if v := c.View(); v.Born < now && !v.PubSub {
			c.Evict(hooks.ReasonReadOnly)
		}
		return true
	})
	n.wake()
}
