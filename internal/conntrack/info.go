package conntrack

import (
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// Info describes the connection. Safe for concurrent use.
func (c *Conn) Info() hooks.ConnInfo {
	t := c.node.t
	now := t.now()
	used := c.lastUsed.Load()
	i := hooks.ConnInfo{
		ID: c.id, Node: c.addr, Local: c.local, Remote: c.remote, Pool: hooks.Pool(c.pool.Load()), TLS: c.below != nil,
		Created: t.wall(c.created), LastUsed: t.wall(used),
		Age: time.Duration(now - c.created), Idle: time.Duration(now - used),
		BytesIn: c.in.Load(), BytesOut: c.out.Load(),
		LastCommand: unpackName(c.name[0].Load(), c.name[1].Load()),
	}
	fl := c.flags.Load()
	switch {
	case c.closed.Load():
		i.State = hooks.StateClosed
	case fl&fReady == 0:
		i.State = hooks.StateHandshake
	case command.SessionState(c.state.Load())&command.PubSub != 0:
		i.State = hooks.StateSubscribed
	case c.leased.Load():
		i.State = hooks.StateLeased
	case fl&fAwaiting != 0:
		i.State = hooks.StateBusy
	default:
		i.State = hooks.StateIdle
	}
	if e := c.ended.Load(); e != nil {
		i.Closing = e.reason
	} else if level, r := unpackOrder(c.order.Load()); level >= orderEvictIdle {
		i.Closing = r
	}
	return i
}
