package retry

import (
	"context"
	"fmt"
	"time"
)

// Outcome says what an error means for the command that returned it.
type Outcome int

const (
	// NotSent: the command did not reach the server. Sending it is always safe.
	NotSent Outcome = iota
	// Answered: the server has replied, with a result or with an error.
	Answered
	// Unknown: the command was sent, or may have been, and no reply came. It may have been
	// executed.
	Unknown
)

// String returns "not sent", "answered" or "unknown".
func (o Outcome) String() string {
	switch o {
	case NotSent:
		return "not sent"
	case Answered:
		return "answered"
	case Unknown:
		return "unknown"
	}
	return fmt.Sprintf("Outcome(%d)", int(o))
}

// Methods that this package looks for in errors of other packages. Each is found with errors.As.
type (
	// early is an error from before the command was written: a handshake, a
	// credentials provider, an OnConnect or a Limiter failed. Early is that error.
	early interface{ Early() error }
	// evicted is the error of a connection that was closed instead of being used, for its age,
	// idle time and the like.
	evicted interface{ Evicted() bool }
	// unsent is an error of a connection or of a dial. Unsent returns true if no byte of the
	// command was written, and false if some were.
	unsent interface{ Unsent() bool }
	// waiter is the error of a node that is known to be unreachable. Wait returns nil when the
	// node may be tried again, and an error if ctx ends first. Before pause is over, it may be tried
	// again only if it is reachable, and not because one of its open connections is free.
	waiter interface {
		Wait(ctx context.Context, pause time.Duration) error
	}
	// hidden is an error that go-redis must not recognise, so that it repeats nothing by itself.
	// Real returns the error that the caller is to see.
	hidden interface{ Real() error }
)

// OutcomeOf derives, from an error that came through a [Hook], whether the command was executed.
//
//   - Unknown: [ErrUnknownOutcome], an error with Unsent() bool that returns false,
//     and errors of a connection: end of file, reset, i/o timeout.
//   - Answered: nil, redis.Nil, replies of the server, and replies that go-redis
//     could not parse.
//   - NotSent: everything else: failures of a dial, of a handshake and to get a connection from the
//     pool, a context that ends while waiting for one, and errors of the caller's own code, such as
//     OnConnect, a Limiter or a hook. A failure after a byte was written is never among these: a
//     hook wraps it. But a hook inside the Hook, added after it, is believed: if it calls next and
//     returns one of these errors instead of that of next, nothing tells that the command was sent.
//
// Safe for concurrent use.
func OutcomeOf(err error) Outcome { return judge(err).outcome }

// Reason says why a command is sent again.
type Reason string

const (
	ReasonDial        Reason = "dial"        // no connection to the node could be made
	ReasonUnsent      Reason = "unsent"      // the connection was lost, or refused, before anything was written
	ReasonLost        Reason = "lost"        // the connection was lost, or timed out, before the reply
	ReasonLoading     Reason = "loading"     // LOADING: the server is reading its data set
	ReasonReadOnly    Reason = "readonly"    // READONLY: it is no longer the master
	ReasonTryAgain    Reason = "tryagain"    // TRYAGAIN: the slot is moving
	ReasonClusterDown Reason = "clusterdown" // CLUSTERDOWN
	ReasonMasterDown  Reason = "masterdown"  // MASTERDOWN: a replica without its master
	ReasonMaxClients  Reason = "maxclients"  // max number of clients reached: no connection could be set up
	ReasonMoved       Reason = "moved"       // MOVED or ASK that go-redis gave up on
	ReasonNoReplicas  Reason = "noreplicas"  // NOREPLICAS: too few replicas for a write
	ReasonBusy        Reason = "busy"        // BUSY: a script has been running for too long
	ReasonUnblocked   Reason = "unblocked"   // UNBLOCKED: the server of a blocking command became a replica
)

var reasons = [...]Reason{ReasonDial, ReasonUnsent, ReasonLost, ReasonLoading, ReasonReadOnly, ReasonTryAgain,
	ReasonClusterDown, ReasonMasterDown, ReasonMaxClients, ReasonMoved, ReasonNoReplicas, ReasonBusy, ReasonUnblocked}

func (r Reason) index() int {
	for i, s := range reasons {
		if s == r {
			return i
		}
	}
	return -1
}
