package conntrack

import (
	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// NewFailoverNode is NewNode for a client whose master Sentinels name. The Dialer that it sets in
// opt also dials the Sentinels, at the given addresses. A Sentinel that is learned of later is
// recognised by the read buffer of its first connection, which go-redis fixes at 4 KiB.
func (t *Tracker) NewFailoverNode(opt *redis.Options, sentinels ...string) *Node {
	if opt.ReadBufferSize == sentinelReadBuffer {
		opt.ReadBufferSize += 64
	}
	n := t.NewNode(opt)
	n.resolves, n.noWait = true, true
	for _, addr := range sentinels {
		n.sentinels.Store(addr, true)
	}
	return n
}

// sentinelReadBuffer is the read buffer of go-redis's Sentinel clients
// (sentinelOptions, sentinel.go).
const sentinelReadBuffer = 4096

// reached records the address of a master that was dialed. If it changes, a failover has happened:
// all connections to the old master are closed.
func (n *Node) reached(addr string) {
	old := n.master.Swap(&addr)
	if old == nil || *old == addr {
		return
	}
	n.Range(func(c *Conn) bool {
		if c.addr == *old && hooks.Pool(c.pool.Load()) != hooks.PoolSentinel {
			c.Evict(hooks.ReasonReadOnly)
		}
		return true
	})
}

// dialed returns the address for a connection of our own.
func (n *Node) dialed() string {
	if m := n.master.Load(); n.resolves && m != nil {
		return *m
	}
	return n.addr
}

// isSentinel reports whether a Sentinel is at addr.
func (n *Node) isSentinel(addr string) bool {
	if !n.resolves {
		return false
	}
	_, known := n.sentinels.Load(addr)
	return known
}
