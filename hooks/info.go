package hooks

import (
	"fmt"
	"time"
)

// Pool says which of go-redis's pools holds a connection. It is known once the
// connection has read its first reply.
type Pool uint32

const (
	PoolUnknown  Pool = iota // nothing was read from it yet
	PoolMain                 // single commands, transactions of Watch, leases; pub/sub connections too
	PoolPipeline             // pipelines
	PoolSentinel             // a connection to a Sentinel: never visited, never ended by maintenance
)

func (p Pool) String() string { return [...]string{"unknown", "main", "pipeline", "sentinel"}[p%4] }

// State says what a connection is doing.
type State int

const (
	StateHandshake  State = iota + 1 // dialed, HELLO and AUTH are not done
	StateIdle                        // no reply is awaited; a Conn or Watch of the caller's may still hold it
	StateBusy                        // a command is in flight
	StateLeased                      // held by a lease
	StateSubscribed                  // pub/sub or MONITOR
	StateClosed
)

func (s State) String() string {
	names := [...]string{"unknown", "handshake", "idle", "busy", "leased", "subscribed", "closed"}
	if s < 0 || int(s) >= len(names) {
		s = 0
	}
	return names[s]
}

// ConnInfo describes a connection at one moment. It is a value.
type ConnInfo struct {
	ID          uint64 // unique in the process
	Node        string // address that was dialed
	Local       string // its own address, as in the server's CLIENT LIST
	Remote      string
	Pool        Pool
	State       State
	TLS         bool
	Created     time.Time
	LastUsed    time.Time // last write to the network
	Age         time.Duration
	Idle        time.Duration // since LastUsed
	BytesIn     uint64
	BytesOut    uint64
	LastCommand string // name only, lower case, at most 16 letters
	Ending      Reason // why it is about to end, "" if it is not
}

// String is a short line for a log or a table.
func (i ConnInfo) String() string {
	return fmt.Sprintf("connection %d %s %s %s age=%v idle=%v last=%q", i.ID, i.Node, i.Pool, i.State,
		i.Age.Round(time.Millisecond), i.Idle.Round(time.Millisecond), i.LastCommand)
}

// Info describes the connection. Safe for concurrent use.
func (c *Conn) Info() ConnInfo {
	t := c.node.t
	now := t.now()
	used := c.lastUsed.Load()
	i := ConnInfo{
		ID: c.id, Node: c.addr, Local: c.local, Remote: c.remote, Pool: Pool(c.pool.Load()), TLS: c.below != nil,
		Created: t.wall(c.created), LastUsed: t.wall(used),
		Age: time.Duration(now - c.created), Idle: time.Duration(now - used),
		BytesIn: c.in.Load(), BytesOut: c.out.Load(),
		LastCommand: unpackName(c.name[0].Load(), c.name[1].Load()),
	}
	fl := c.flags.Load()
	switch {
	case c.closed.Load():
		i.State = StateClosed
	case fl&fReady == 0:
		i.State = StateHandshake
	case dirt(c.dirt.Load())&dirtSubscribe != 0:
		i.State = StateSubscribed
	case c.leased.Load():
		i.State = StateLeased
	case fl&fAwaiting != 0:
		i.State = StateBusy
	default:
		i.State = StateIdle
	}
	if e := c.ended.Load(); e != nil {
		i.Ending = e.reason
	} else if level, r := unpackOrder(c.order.Load()); level >= orderSoft {
		i.Ending = r
	}
	return i
}
