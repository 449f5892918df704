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
	if e := c.closedFor.Load(); e != nil {
		i.Closing = e.reason
	} else if level, r := unpackOrder(c.order.Load()); level >= orderEvictIdle {
		i.Closing = r
	}
	return i
}

// View is what maintenance needs to know about a connection, at little cost.
type View struct {
	Born     time.Duration // on the tracker's clock
	LastUsed time.Duration // last write to the network
	Heard    time.Duration // when the last reply began to arrive
	MaxAge   time.Duration // its own, 0 for none
	Pool     hooks.Pool
	Ready    bool // its handshake is over
	Awaiting bool // nothing has come back since the last write
	Writing  bool // a write is running
	Pinging  bool // it waits for the reply to a PING of ours
	Leased   bool
	PubSub   bool // subscribed, monitoring or to a Sentinel: never to be touched
}

// View returns a cheap version of Info. Safe for concurrent use.
func (c *Conn) View() View {
	fl := c.flags.Load()
	return View{Born: time.Duration(c.created), LastUsed: time.Duration(c.lastUsed.Load()),
		Heard: time.Duration(c.heard.Load()), MaxAge: time.Duration(c.maxAge()), Pool: hooks.Pool(c.pool.Load()), Ready: fl&fReady != 0,
		Awaiting: fl&fAwaiting != 0, Writing: fl&fWriting != 0, Pinging: fl&fPinging != 0, Leased: c.leased.Load(), PubSub: command.SessionState(c.state.Load())&command.PubSub != 0 || c.sentinel()}
}

// LastCommand returns the name of the last command written, in lower case.
func (c *Conn) LastCommand() string { return unpackName(c.name[0].Load(), c.name[1].Load()) }
