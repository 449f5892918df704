package retry

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
)

// kind says what can be done about a failure.
type kind uint8

const (
	final       kind = iota // nothing: it is the result, or trying again is useless
	notReady                // the node is unreachable or not ready: wait, it costs no attempt
	unwritten               // nothing was written to this connection: use another one
	lost                    // no reply: repeat only if the command may be repeated
	notExecuted             // the server refused it for now
)

// failure is a classified error.
type failure struct {
	err     error
	outcome Outcome
	kind    kind
	reason  Reason
	// node: the node failed, rather than a pool, a context or a command.
	node bool
	// handshake: it failed in the handshake of a connection.
	handshake bool
	// evicted: we closed the connection instead of using it.
	evicted bool
	// limited: a ctx ended that is not the caller's, if that one has not ended, too.
	limited bool
	// foreign: an error of an argument that cannot be written, of a reply that was read but does not
	// fit, or of the caller's own code. By itself it says nothing about the outcome.
	foreign bool
	// coded: it is a codeError, which knows the outcome.
	coded bool
}

// judge is classify for an error as go-redis returns it. It separates failures from before the
// command was written from later ones, because both can be the same error.
func judge(err error) failure {
	if err == nil || err == redis.Nil {
		return failure{err: err, outcome: Answered}
	}
	var code *codeError
	if errors.As(err, &code) {
		f := failure{err: code.real, outcome: NotSent, foreign: true, coded: true}
		if code.sent {
			f.outcome = Unknown
		}
		return f
	}
	var e early
	if !errors.As(err, &e) || errors.Is(err, ErrUnknownOutcome) {
		return classify(attempt.Reveal(err))
	}
	cause := attempt.Reveal(e.Early())
	f := classify(cause)
	if f.outcome != NotSent && !f.foreign || errors.Is(cause, redis.ErrPoolTimeout) { // not of this pool
		f.err = asEarly(cause)
	}
	switch {
	case f.outcome == Answered && f.kind != final: // the server refused it for now
		f.kind = notReady
	case f.outcome == Unknown, f.kind == unwritten && !f.limited:
		f.kind, f.reason, f.node, f.handshake = notReady, ReasonDial, true, true
	}
	f.outcome, f.foreign = NotSent, false
	return f
}

func classify(err error) failure {
	f := failure{err: err, outcome: Unknown, kind: final}
	if err == nil || err == redis.Nil {
		f.outcome = Answered
		return f
	}
	if errors.Is(err, ErrUnknownOutcome) {
		return f // classified before
	}
	if errors.Is(err, ErrBreakerOpen) {
		f.outcome = NotSent
		return f
	}
	var refused *refusedError
	if errors.As(err, &refused) {
		return failure{err: err, outcome: NotSent, kind: notReady, reason: ReasonMaxClients}
	}
	var u unsent
	answer, isReply := err.(redis.Error)
	if !isReply { // those below may have a reply, or a pool timeout, as their cause, also one of another server's
		if attempt.IsDead(err) || errors.Is(err, redis.ErrClosed) {
			f.outcome = NotSent // and the next attempt would fail in the same way
			return f
		}
		var w waiter
		if errors.As(err, &w) {
			return failure{err: err, outcome: NotSent, kind: notReady, reason: ReasonDial, node: true}
		}
		if isDial(err) {
			f = failure{err: err, outcome: NotSent, kind: notReady, reason: ReasonDial, node: true}
			if isMisconfigured(err) {
				f.kind, f.node = final, false
			}
			return f
		}
		if errors.As(err, &u) && u.Unsent() {
			var ev evicted
			return failure{err: err, outcome: NotSent, kind: unwritten, reason: ReasonUnsent, evicted: errors.As(err, &ev) && ev.Evicted()}
		}
	}
	if errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted) {
		f.outcome = NotSent // it has been waited for once, and once is enough
		return f
	}
	if isReply || errors.As(err, &answer) {
		f.outcome = Answered
		if r := refusalOf(answer.Error()); r != nil {
			f.kind, f.reason = r.kind, r.reason
		}
		return f
	}
	var unread *unreadError
	if errors.As(err, &unread) {
		return failure{err: err, outcome: Unknown, kind: lost, reason: ReasonLost} // the node is well
	}
	if u != nil || isConnection(err) {
		return failure{err: err, outcome: Unknown, kind: lost, reason: ReasonLost, node: true}
	}
	if isParsing(err) {
		f.outcome = Answered
		return f
	}
	// go-redis checks a ctx only while it waits for a connection; on the network the deadline of
	// ctx becomes an i/o timeout (contract_context_test.go).
	f.outcome = NotSent
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		f.kind, f.reason, f.limited = unwritten, ReasonUnsent, true
	case errors.Is(err, context.Canceled), strings.HasSuffix(err.Error(), textCache):
	default:
		f.foreign = true
	}
	return f
}

// isParsing recognises the error of a reply that was read but does not fit its command.
func isParsing(err error) bool {
	var num *strconv.NumError
	return strings.HasPrefix(err.Error(), textParse) || errors.As(err, &num)
}

// Texts of go-redis errors that have no exported value. Tests pin them.
const (
	textNoNodes    = "redis: cluster has no nodes"
	textShardsDown = "redis: all ring shards are down"
	textCache      = " when client-side caching is enabled" // SELECT and the like are refused before they are sent
	textParse      = "redis: can't parse "
)

// unused reports whether f, from an attempt after last, comes from a Conn that cannot be used after
// a failure. The Conn of an OnConnect has no error of its own for that: it returns the error of its
// connection again, the same value.
func unused(f, last failure) bool {
	if f.err == nil || attempt.IsDead(f.err) {
		return f.err != nil
	}
	if f.evicted || f.kind != lost && f.kind != unwritten {
		return false
	}
	var a, b unsent
	return errors.As(f.err, &a) && errors.As(last.err, &b) && a == b
}

func isDial(err error) bool {
	var d *dialError
	var op *net.OpError
	if errors.As(err, &d) || errors.As(err, &op) && op.Op == "dial" {
		return true
	}
	return hasNoNodes(err)
}

func hasNoNodes(err error) bool {
	s := err.Error()
	return s == textNoNodes || s == textShardsDown
}

// isMisconfigured recognises dial failures that waiting cannot fix.
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
	var record tls.RecordHeaderError
	return errors.As(err, &ne) || errors.As(err, &errno) || errors.As(err, &record)
}
