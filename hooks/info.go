package hooks

import (
	"fmt"
	"time"
)

// Pool says which of go-redis's pools holds a connection. It is known once the connection has read
// its first reply.
type Pool uint32

const (
	PoolUnknown  Pool = iota // nothing was read from it yet
	PoolMain                 // single commands, transactions of Watch, leases; pub/sub connections too
	PoolPipeline             // pipelines
	PoolSentinel             // a connection to a Sentinel: maintenance neither checks nor closes it
)

func (p Pool) String() string { return [...]string{"unknown", "main", "pipeline", "sentinel"}[p%4] }

// State says what a connection is doing.
type State int

const (
	StateHandshake  State = iota + 1 // dialed, HELLO and AUTH are not done
	StateIdle                        // no reply is outstanding; a Conn or Watch of the caller may still hold it
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
	Closing     Reason // why it is about to be closed, "" if it is not
}

// String returns a short line for a log or a table.
func (i ConnInfo) String() string {
	return fmt.Sprintf("connection %d %s %s %s age=%v idle=%v last=%q", i.ID, i.Node, i.Pool, i.State,
		i.Age.Round(time.Millisecond), i.Idle.Round(time.Millisecond), i.LastCommand)
}
