package serverside

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"
)

// Type is the class that a server assigns to a connection.
type Type string

// The types of CLIENT LIST TYPE. Connections in MONITOR are normal ones.
const (
	TypeNormal  Type = "normal"
	TypePubSub  Type = "pubsub"  // has subscribed
	TypeReplica Type = "replica" // a replica that follows this server
	TypeMaster  Type = "master"  // the master that this server follows
)

// Field is a field of CLIENT LIST that this package does not know.
type Field struct{ Name, Value string }

// Client is a connection as the server sees it: one line of CLIENT LIST. Which fields a line has
// depends on the server's version; a field that the line does not have is zero, see [Client.Has].
// Client is a value.
type Client struct {
	Node string // address of the node that listed it, as go-redis knows it; "" on a *redis.Conn

	ID    int64         // id; unique until the server restarts
	Addr  string        // addr, the client's end: ip:port, or path:0 for a Unix socket
	LAddr string        // laddr, the server's end
	FD    int64         // fd
	Name  string        // name, of CLIENT SETNAME or HELLO
	Age   time.Duration // age, in whole seconds
	Idle  time.Duration // idle, in whole seconds since its last command
	Flags string        // flags: N none, P subscriber, S replica, M master, O MONITOR, b blocked, x MULTI, U Unix socket ...
	Capa  string        // capa, what the client can do (Valkey)
	User  string        // user, of the ACL
	DB    int64         // db

	Sub   int64 // sub, channels subscribed to
	PSub  int64 // psub, patterns
	SSub  int64 // ssub, channels of shards
	Multi int64 // multi, commands queued in MULTI; -1 outside of MULTI
	Watch int64 // watch, keys watched

	QBuf     int64 // qbuf, bytes of the query buffer in use
	QBufFree int64 // qbuf-free, bytes free in it
	ArgvMem  int64 // argv-mem, bytes
	MultiMem int64 // multi-mem, bytes
	TotMem   int64 // tot-mem, bytes of all its buffers
	RBS      int64 // rbs, bytes of the reply buffer
	RBP      int64 // rbp, peak of it
	OBL      int64 // obl, bytes waiting in the reply buffer
	OLL      int64 // oll, replies queued in the output list
	OMem     int64 // omem, bytes of the output list

	Events  string // events: r readable, w writable
	Cmd     string // cmd, the last command, "client|list"
	Redir   int64  // redir, id that invalidations are sent to; -1 for none
	Resp    int64  // resp, 2 or 3
	LibName string // lib-name
	LibVer  string // lib-ver

	TotNetIn  int64 // tot-net-in, bytes received from it
	TotNetOut int64 // tot-net-out, bytes sent to it
	TotCmds   int64 // tot-cmds, commands executed
	IOThread  int64 // io-thread

	ReadEvents        int64 // read-events
	AvgPipelineLenSum int64 // avg-pipeline-len-sum
	AvgPipelineLenCnt int64 // avg-pipeline-len-cnt

	Unknown []Field // the line's other fields, in their order

	has uint64 // bit i: the line has columns[i]
}

// Has reports whether the server's line has the field, given by its name in CLIENT LIST
// ("tot-cmds").
func (c Client) Has(field string) bool {
	if i, ok := columnOf[field]; ok {
		return c.has&(1<<i) != 0
	}
	for _, f := range c.Unknown {
		if f.Name == field {
			return true
		}
	}
	return false
}

// Type returns the class of the connection, derived from its flags like the server's TYPE filter
// does.
func (c Client) Type() Type {
	switch {
	case strings.ContainsRune(c.Flags, 'M'):
		return TypeMaster
	case strings.ContainsRune(c.Flags, 'S'):
		return TypeReplica
	case strings.ContainsRune(c.Flags, 'P'):
		return TypePubSub
	}
	return TypeNormal
}

// Blocked reports whether the connection waits in a command like BLPOP.
func (c Client) Blocked() bool { return strings.ContainsRune(c.Flags, 'b') }

// Monitor reports whether the connection is in MONITOR.
func (c Client) Monitor() bool { return strings.ContainsRune(c.Flags, 'O') }

// OfServers reports whether the connection belongs to no application: a replication link, one of a
// Sentinel (recognised by the names that Sentinels give their connections), one that moves slots
// between nodes of a cluster, or one that the server has no user for.
func (c Client) OfServers() bool {
	return c.Type() == TypeReplica || c.Type() == TypeMaster || c.User == "(superuser)" ||
		strings.ContainsAny(c.Flags, "goiE") || // slot migration: g and o of Redis 8.4, i and E of Valkey 9
		glob("sentinel-????????-cmd", c.Name) || glob("sentinel-????????-pubsub", c.Name)
}

// IP returns the address of the client's end, false for a Unix socket.
func (c Client) IP() (netip.Addr, bool) {
	ap, err := netip.ParseAddrPort(c.Addr)
	if err != nil {
		return netip.Addr{}, false
	}
	return ap.Addr().Unmap(), true
}

// String returns a short line for a log or a table.
func (c Client) String() string {
	return fmt.Sprintf("client %d %s name=%q user=%q age=%v idle=%v cmd=%q", c.ID, c.Addr, c.Name, c.User, c.Age, c.Idle, c.Cmd)
}

// MarshalJSON writes the fields that the server's line has, and no others, under the server's names
// for them; age and idle are in seconds. Implements [json.Marshaler].
func (c Client) MarshalJSON() ([]byte, error) {
	m := make(map[string]any, len(columns)+1)
	for _, f := range c.Unknown {
		m[f.Name] = f.Value
	}
	if c.Node != "" {
		m["node"] = c.Node
	}
	for i, col := range columns {
		switch {
		case c.has&(1<<i) == 0:
		case col.str != nil:
			m[col.name] = *col.str(&c)
		case col.num != nil:
			m[col.name] = *col.num(&c)
		default:
			m[col.name] = int64(*col.sec(&c) / time.Second)
		}
	}
	return json.Marshal(m)
}

// LogValue returns a group that identifies the connection. Implements [slog.LogValuer].
func (c Client) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("node", c.Node), slog.Int64("id", c.ID), slog.String("addr", c.Addr),
		slog.String("name", c.Name), slog.String("user", c.User), slog.String("lib", c.LibName),
		slog.Duration("age", c.Age), slog.Duration("idle", c.Idle), slog.String("cmd", c.Cmd),
	)
}
