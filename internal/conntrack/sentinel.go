package conntrack

import (
	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// NewFailoverNode is NewNode for a client whose Sentinels say where its master
// is. The Dialer that it puts into opt dials the Sentinels too, whose addresses
// are given. One that is heard of later is known by the read buffer of its first
// connection, which go-redis fixes at 4 KiB.
func (t *Tracker) NewFailoverNode(opt *redis.Options, sentinels ...string) *Node {
	if opt.ReadBufferSize == sentinelReadBuffer {
		opt.ReadBufferSize += 64
	}
	n := t.NewNode(opt)
	n.resolves, n.noWait = true, true
	for _, addr := range sentinels {
		n.watchmen.Store(addr, true)
	}
	return n
}

// sentinelReadBuffer is the read buffer of go-redis's Sentinel clients
// (sentinelOptions, sentinel.go).
const sentinelReadBuffer = 4096

// reached notes the address of a master that was dialed. When it changes, a
// failover has happened: all connections to the old one are ended.
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

// dialed is the address for a connection of our own.
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
	_, known := n.watchmen.Load(addr)
	return known
}
