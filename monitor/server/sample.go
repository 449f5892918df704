package server

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Sample is what one server reported about itself at one moment. It is a value. Counters count
// since the server started.
type Sample struct {
	Node string    `json:"node"` // address as go-redis knows it; "" on a *redis.Conn
	At   time.Time `json:"at"`   // by our clock

	Product  Opt[string]        `json:"product"` // "redis", "valkey"
	Version  Opt[string]        `json:"version"` // of the product
	Mode     Opt[string]        `json:"mode"`    // "standalone", "cluster", "sentinel"
	Role     Opt[string]        `json:"role"`    // "master", "slave", "sentinel"
	RunID    Opt[string]        `json:"run_id"`  // changes at every restart
	Uptime   Opt[time.Duration] `json:"uptime_seconds"`
	Replicas Opt[int64]         `json:"replicas"` // that follow it

	// Clients. ConnectedClients counts neither replicas nor links within a cluster.
	ConnectedClients   Opt[int64] `json:"connected_clients"`
	BlockedClients     Opt[int64] `json:"blocked_clients"`     // in BLPOP and the like
	PubSubClients      Opt[int64] `json:"pubsub_clients"`      // Redis 7.4, Valkey 8
	TrackingClients    Opt[int64] `json:"tracking_clients"`    // with client-side caching
	WatchingClients    Opt[int64] `json:"watching_clients"`    // in WATCH; Redis 7.4, Valkey 8
	ClusterConnections Opt[int64] `json:"cluster_connections"` // links within a cluster

	TotalConnections    Opt[int64] `json:"total_connections"`    // ever accepted
	RejectedConnections Opt[int64] `json:"rejected_connections"` // over maxclients
	EvictedClients      Opt[int64] `json:"evicted_clients"`      // over maxmemory-clients
	QueryBufferKills    Opt[int64] `json:"query_buffer_kills"`   // closed: sent too much at once
	OutputBufferKills   Opt[int64] `json:"output_buffer_kills"`  // closed: read too slowly

	// Limits. A Timeout of 0 closes no idle connection, a TCPKeepAlive of 0 is off,
	// a MaxMemory of 0 is no limit.
	MaxClients   Opt[int64]         `json:"max_clients"`
	Timeout      Opt[time.Duration] `json:"timeout_seconds"`
	TCPKeepAlive Opt[time.Duration] `json:"tcp_keepalive_seconds"`

	// Memory, in bytes.
	UsedMemory          Opt[int64] `json:"used_memory_bytes"`
	MaxMemory           Opt[int64] `json:"max_memory_bytes"`
	ClientMemory        Opt[int64] `json:"client_memory_bytes"`         // of ordinary clients
	ReplicaClientMemory Opt[int64] `json:"replica_client_memory_bytes"` // of replicas

	MaxMemoryPolicy Opt[string] `json:"max_memory_policy"` // "noeviction", "allkeys-lru" ...

	Gaps []Gap `json:"gaps,omitempty"` // why something is unknown
}

// Gap says why something is unknown. A field that the server's version does not have is not a gap.
type Gap struct {
	Source string `json:"source"` // "INFO", "CONFIG GET timeout"
	Why    string `json:"why"`    // the server's reply, or what is wrong with it
	Denied bool   `json:"denied"` // the user is not allowed to, or the service has no such command
}

// ShareOfMaxClients returns how much of maxclients is in use, 1 for all of it. The server counts
// everybody: clients, replicas and links within a cluster. false: unknown.
func (s Sample) ShareOfMaxClients() (float64, bool) {
	if !s.ConnectedClients.Known || !s.MaxClients.Known || s.MaxClients.Val == 0 {
		return 0, false
	}
	n := float64(s.ConnectedClients.Val) + float64(s.Replicas.Or(0)) + float64(s.ClusterConnections.Or(0))
	return n / float64(s.MaxClients.Val), true
}

// Delta is what happened between two samples of a server.
type Delta struct {
	Elapsed   time.Duration `json:"-"`
	Restarted bool          `json:"restarted"` // in between: the counters then count since the restart
	Connected Opt[int64]    `json:"connections"`
	Rejected  Opt[int64]    `json:"rejected_connections"`
	Evicted   Opt[int64]    `json:"evicted_clients"`
}

// Since returns what happened after prev, an earlier sample of the same node. A value is known only
// if it is known in both.
func (s Sample) Since(prev Sample) Delta {
	d := Delta{Elapsed: s.At.Sub(prev.At)}
	d.Restarted = s.RunID.Known && prev.RunID.Known && s.RunID.Val != prev.RunID.Val
	sub := func(now, was Opt[int64]) Opt[int64] {
		switch {
		case !now.Known || !was.Known:
			return Opt[int64]{}
		case d.Restarted:
			return now
		case now.Val < was.Val: // CONFIG RESETSTAT: the count before it is unknown
			return Opt[int64]{}
		}
		return Some(now.Val - was.Val)
	}
	d.Connected = sub(s.TotalConnections, prev.TotalConnections)
	d.Rejected = sub(s.RejectedConnections, prev.RejectedConnections)
	d.Evicted = sub(s.EvictedClients, prev.EvictedClients)
	return d
}

// String returns the sample in one line, with "?" for unknown values.
func (s Sample) String() string {
	share := ""
	if p, ok := s.ShareOfMaxClients(); ok {
		share = fmt.Sprintf(" (%.1f %%)", 100*p)
	}
	memory := "?"
	if s.ClientMemory.Known {
		memory = fmt.Sprintf("%d B", s.ClientMemory.Val)
	}
	line := fmt.Sprintf("%s %s %s %s up %s: %s of %s clients%s, %s blocked, %s rejected, %s evicted, memory of clients %s, timeout %s, tcp-keepalive %s",
		s.Node, s.Product, s.Version, s.Role, s.Uptime, s.ConnectedClients, s.MaxClients, share, s.BlockedClients,
		s.RejectedConnections, s.EvictedClients, memory, s.Timeout, s.TCPKeepAlive)
	var gaps []string
	for _, g := range s.Gaps {
		gaps = append(gaps, g.Source)
	}
	if len(gaps) > 0 {
		line += "; not reported: " + strings.Join(gaps, ", ")
	}
	return strings.TrimSpace(line)
}

// LogValue returns a group of the known values. Implements [slog.LogValuer].
func (s Sample) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("node", s.Node)}
	add := func(name string, o Opt[int64]) {
		if o.Known {
			attrs = append(attrs, slog.Int64(name, o.Val))
		}
	}
	if s.Version.Known {
		attrs = append(attrs, slog.String("version", s.Product.Or("")+" "+s.Version.Val))
	}
	add("connected", s.ConnectedClients)
	add("blocked", s.BlockedClients)
	add("rejected", s.RejectedConnections)
	add("evicted", s.EvictedClients)
	add("max_clients", s.MaxClients)
	add("client_memory", s.ClientMemory)
	if p, ok := s.ShareOfMaxClients(); ok {
		attrs = append(attrs, slog.Float64("share", p))
	}
	return slog.GroupValue(attrs...)
}
