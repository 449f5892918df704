package monitor

import (
	"context"
	"errors"
	"time"
)

// Lister is an optional interface of a [Source], for pages and tools that show more than numbers.
// The Source of a managed client implements it. Both methods may be called at any time, from any
// goroutine; the caller owns the values that they return.
type Lister interface {
	// Connections lists every open connection, the oldest first.
	Connections() []Connection
	// Leases lists the connections that callers hold by Acquire, the oldest first.
	Leases() []Lease
}

// Actor is an optional interface of a [Source], for actions on the pools at run time. Both methods
// return how many connections were closed or will be.
type Actor interface {
	EvictIdle(ctx context.Context) int // closes idle connections now
	Reset(ctx context.Context) int     // also closes busy ones, when they are returned
}

// Connection describes an open connection. It is a value. Fields that a Source does not know are
// zero.
type Connection struct {
	ID      uint64        `json:"id"` // unique in the process
	Node    string        `json:"node,omitempty"`
	Local   string        `json:"local,omitempty"` // its own address, as in the server's CLIENT LIST
	Pool    string        `json:"pool,omitempty"`  // "main", "pipeline", "sentinel"
	State   string        `json:"state"`           // "handshake", "idle", "busy", "leased", "subscribed"
	TLS     bool          `json:"tls,omitempty"`
	Age     time.Duration `json:"age_ns"`
	Idle    time.Duration `json:"idle_ns"` // since the last write; for a busy one: how long it has waited for its reply
	In      uint64        `json:"bytes_in"`
	Out     uint64        `json:"bytes_out"`
	Command string        `json:"command,omitempty"` // name of the last command, without arguments
	Closing string        `json:"closing,omitempty"` // why it is about to be closed
}

// Lease describes a connection that a caller holds. It is a value.
type Lease struct {
	ID       uint64        `json:"id"` // unique in the process
	Node     string        `json:"node,omitempty"`
	ConnID   uint64        `json:"conn_id"`
	Site     string        `json:"site,omitempty"`  // file:line of the call that took it
	Stack    string        `json:"stack,omitempty"` // the call stack of that call
	Label    string        `json:"label,omitempty"`
	Command  string        `json:"command,omitempty"` // name of the last command, without arguments
	InFlight bool          `json:"in_flight"`         // a command is running on it
	Held     time.Duration `json:"held_ns"`
	Reported bool          `json:"reported"` // it was reported as held for too long
}

// Connections lists the open connections; known is false if the Source does not list them.
func (m *Monitor) Connections() (all []Connection, known bool) {
	if l, ok := m.src.(Lister); ok {
		return l.Connections(), true
	}
	return nil, false
}

// Leases lists the leases that are held; known is false if the Source does not list them.
func (m *Monitor) Leases() (all []Lease, known bool) {
	if l, ok := m.src.(Lister); ok {
		return l.Leases(), true
	}
	return nil, false
}

// ErrNoActions is returned if the Source allows no actions, like that of a plain client.
var ErrNoActions = errors.New("lifeguard/monitor: this source cannot close connections: it is not that of a managed client")

// EvictIdle closes idle connections, and returns how many. Errors: ErrNoActions.
func (m *Monitor) EvictIdle(ctx context.Context) (int, error) {
	if a, ok := m.src.(Actor); ok {
		return a.EvictIdle(ctx), nil
	}
	return 0, ErrNoActions
}

// Reset closes idle connections now and the others when they are returned, and returns how many.
// Errors: ErrNoActions.
func (m *Monitor) Reset(ctx context.Context) (int, error) {
	if a, ok := m.src.(Actor); ok {
		return a.Reset(ctx), nil
	}
	return 0, ErrNoActions
}

// Period returns the time between two samples: see [WithInterval].
func (m *Monitor) Period() time.Duration { return m.every }

// Running reports whether samples are taken every period, and thus whether alerts are detected.
func (m *Monitor) Running() bool {
	m.life.Lock()
	defer m.life.Unlock()
	return m.started && !m.closed
}
