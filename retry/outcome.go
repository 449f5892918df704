package retry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// Outcome says what an error tells about the command that got it.
type Outcome int

const (
	// NotSent: the server has not seen the command. Sending it is always safe.
	NotSent Outcome = iota
	// Answered: the server has replied, with a result or with an error.
	Answered
	// Unknown: it was sent, or may have been, and there is no reply. It may have
	// been carried out.
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

// What this package asks of errors made elsewhere. Each is found with errors.As.
type (
	// unsent is an error of a connection or of a dial. Unsent is true if no byte
	// of the command was written, and false if some were.
	unsent interface{ Unsent() bool }
	// waiter is an error of a node that is known to be away. Wait returns nil when
	// it may be tried again, and an error when ctx ends first.
	waiter interface {
		Wait(ctx context.Context) error
	}
	// hidden is an error made unrecognisable, so that go-redis repeats nothing by
	// itself. Real is the error that the caller is to see.
	hidden interface{ Real() error }
)

// OutcomeOf tells from an error whether the command was carried out. An error
// that implements Unsent() bool says so itself: true is NotSent, false Unknown.
// Replies of the server are Answered, nil and redis.Nil included. Failures to
// dial and to get a connection from the pool are NotSent. Everything else is
// Unknown: end of file, timeouts, and errors of a context too, as those can come
// after the command was written.
//
// An error returned through a [Hook] that may have been carried out by one of
// several attempts is [ErrUnknownOutcome], and Unknown.
func OutcomeOf(err error) Outcome { return classify(reveal(err)).outcome }

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
	ReasonBusy        Reason = "busy"        // BUSY: a script of somebody's takes too long
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

// kind is what may be done about a failure.
type kind uint8

const (
	final       kind = iota // nothing: it is the answer, or trying again is no use
	away                    // the node is away or not ready: wait, it costs no attempt
	unwritten               // nothing was written to this connection: take another one
	lost                    // no reply: only if the command may be repeated
	notExecuted             // refused for now
)

// failure is an error, understood.
type failure struct {
	err     error
	outcome Outcome
	kind    kind
	reason  Reason
	// node: it is the node that failed, rather than a pool, a context or a command.
	node bool
}

// reveal puts the real error in the place of a hidden one. What a dead Conn wraps
// is the error of an earlier command, and says nothing about this one.
func reveal(err error) error {
	for range 4 {
		if err == nil || err == redis.Nil || isDead(err) {
			return err // as most are; errors.As allocates
		}
		var h hidden
		if !errors.As(err, &h) {
			return err
		}
		real := h.Real()
		if real == nil {
			return err
		}
		err = real
	}
	return err
}

func classify(err error) failure {
	f := failure{err: err, outcome: Unknown, kind: final}
	if err == nil || err == redis.Nil {
		f.outcome = Answered
		return f
	}
	if errors.Is(err, ErrUnknownOutcome) {
		return f // decided before
	}
	if errors.Is(err, ErrBreakerOpen) ||
		errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted) {
		f.outcome = NotSent // waited for once, and that was all
		return f
	}
	var full *fullError
	if errors.As(err, &full) {
		return failure{err, NotSent, away, ReasonMaxClients, false}
	}
	var answer redis.Error
	if errors.As(err, &answer) {
		f.outcome = Answered
		if r := refusalOf(answer.Error()); r != nil {
			f.kind, f.reason = r.kind, r.reason
		}
		return f
	}
	if isDead(err) || errors.Is(err, redis.ErrClosed) {
		f.outcome = NotSent // and so would be the next
		return f
	}
	var w waiter
	if errors.As(err, &w) {
		return failure{err, NotSent, away, ReasonDial, true}
	}
	if isDial(err) {
		f = failure{err, NotSent, away, ReasonDial, true}
		if isMisconfigured(err) {
			f.kind, f.node = final, false
		}
		return f
	}
	var hs *handshakeError
	if errors.As(err, &hs) {
		return failure{err, NotSent, away, ReasonDial, true}
	}
	var u unsent
	if errors.As(err, &u) && u.Unsent() {
		return failure{err, NotSent, unwritten, ReasonUnsent, false}
	}
	if u != nil || isConnection(err) {
		return failure{err, Unknown, lost, ReasonLost, !serverIsWell(err)}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		f.kind, f.reason = lost, ReasonLost // an attempt's own limit, if the caller's is not over
	}
	return f
}

// Texts of go-redis errors that have no exported value. Tests pin them.
const (
	textBadConn    = "redis: Conn is in a bad state"
	textNoNodes    = "redis: cluster has no nodes"
	textShardsDown = "redis: all ring shards are down"
	textMarshal    = "redis: can't marshal "
	textParse      = "redis: can't parse "
)

// isDead recognises the error of a Conn or Tx that failed before: it is never
// used again.
func isDead(err error) bool { return strings.HasPrefix(err.Error(), textBadConn) }

func isDial(err error) bool {
	var d *dialError
	var op *net.OpError
	if errors.As(err, &d) || errors.As(err, &op) && op.Op == "dial" {
		return true
	}
	s := err.Error()
	return s == textNoNodes || s == textShardsDown
}

// isMisconfigured recognises failures to dial that waiting does not mend.
func isMisconfigured(err error) bool {
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	return errors.As(err, &cert) || errors.As(err, &record)
}

// isConnection reports whether err is the failure of a connection.
func isConnection(err error) bool {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false // context.DeadlineExceeded is a net.Error, too
	}
	var ne net.Error
	var errno syscall.Errno
	return errors.As(err, &ne) || errors.As(err, &errno)
}
