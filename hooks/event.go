package hooks

import (
	"fmt"
	"time"
)

// Reason says why a connection was closed.
type Reason string

const (
	ReasonAge          Reason = "age"           // older than its maximum age
	ReasonIdle         Reason = "idle"          // idle for too long, or more than are needed
	ReasonHeartbeat    Reason = "heartbeat"     // did not answer a heartbeat
	ReasonSuspected    Reason = "suspected"     // half-open: no answer to its PING, or nothing received for as long as a connection without one, while a new connection was answered
	ReasonUnacked      Reason = "unacked"       // the peer's kernel acknowledged nothing (Linux), while a new connection was answered
	ReasonReadOnly     Reason = "readonly"      // its server became a replica
	ReasonSessionState Reason = "session_state" // commands had changed its state (MULTI, SELECT, AUTH ...)
	ReasonReset        Reason = "reset"         // Reset or EvictIdle was called
	ReasonError        Reason = "error"         // a network or protocol error
	ReasonLeak         Reason = "leak"          // its lease was dropped without Release
	ReasonShutdown     Reason = "shutdown"      // the client was closed
	ReasonDiscarded    Reason = "discarded"     // a lease's Discard was called
	ReasonInterrupted  Reason = "interrupted"   // a ctx ended while a command was in flight on a lease
	ReasonPool         Reason = "pool"          // go-redis closed it for its own reasons
)

// EventKind says what happened.
type EventKind int

const (
	Dialed        EventKind = iota + 1 // a connection was opened
	DialFailed                         // a connection could not be opened
	Acquired                           // a lease was acquired
	Released                           // a lease was released
	Leaked                             // a lease is held for too long, or was dropped without Release
	Reclaimed                          // a leaked lease was released, or its connection was closed
	Closed                             // a connection was closed
	HealthChanged                      // the health of a node changed
)

func (k EventKind) String() string {
	names := [...]string{"unknown", "dialed", "dial_failed", "acquired", "released", "leaked", "reclaimed", "closed", "health_changed"}
	if k < 0 || int(k) >= len(names) {
		k = 0
	}
	return names[k]
}

// Event describes something that happened to a connection or a lease. It is a value; the receiver
// may keep it. Fields that do not apply are zero.
type Event struct {
	Kind     EventKind
	Time     time.Time
	Node     string        // address of the server
	ConnID   uint64        // id of the connection
	Reason   Reason        // Closed: why
	Age      time.Duration // Closed: age of the connection
	Idle     time.Duration // Closed: since its last traffic
	BytesIn  uint64        // Closed: read from the server
	BytesOut uint64        // Closed: sent to the server
	Took     time.Duration // Dialed, DialFailed: how long it took; Released: how long the lease was held; HealthChanged to Healthy: how long the trouble lasted
	Err      error         // DialFailed: why; Closed: the error, if one was the cause; HealthChanged: what is wrong
	Health   Health        // HealthChanged: what it is now
	Label    string        // leases: the label given
	Site     string        // leases: file:line of the Acquire
	Stack    string        // Leaked: stack of the Acquire, where stacks are on
}

// String returns a short line for a log.
func (e Event) String() string {
	s := fmt.Sprintf("%s %s connection %d", e.Kind, e.Node, e.ConnID)
	switch e.Kind {
	case Closed:
		s += fmt.Sprintf(" reason=%s age=%v idle=%v", e.Reason, e.Age.Round(time.Millisecond), e.Idle.Round(time.Millisecond))
	case HealthChanged:
		return fmt.Sprintf("%s %s %s", e.Kind, e.Node, e.Health)
	case DialFailed:
		s += fmt.Sprintf(" after %v: %v", e.Took.Round(time.Millisecond), e.Err)
	case Leaked, Acquired, Released, Reclaimed:
		s += " at " + e.Site
	}
	return s
}
