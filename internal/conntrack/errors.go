package conntrack

import (
	"errors"
	"net"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/auth"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// Values of ConnError.Op.
const (
	OpDial  = "dial"
	OpWrite = "write"
	OpRead  = "read"
)

// netConnError is a ConnError whose cause is a net.Error, so that callers which
// test err.(net.Error) without errors.As still find one.
type netConnError struct {
	*hooks.ConnError
	net net.Error
}

func (e *netConnError) Unwrap() error   { return e.ConnError }
func (e *netConnError) Timeout() bool   { return e.net.Timeout() }
func (e *netConnError) Temporary() bool { return e.net.Timeout() }

// plainConnError is a ConnError for any other cause. It exists because go-redis unwraps the error
// of a failed handshake once, which must not lose the ConnError.
type plainConnError struct{ *hooks.ConnError }

func (e *plainConnError) Unwrap() error { return e.ConnError }

// typed gives a ConnError the interfaces that its cause has.
func typed(e *hooks.ConnError) error {
	var ne net.Error
	if errors.As(e.Err, &ne) {
		return &netConnError{e, ne}
	}
	return &plainConnError{e}
}

// opaqueError hides what an error is from go-redis, which then repeats nothing
// (TestContractOnlyAPlainErrorIsNotRetried: ClusterClient resends on EOF and timeouts whatever MaxRetries
// says). It has no Unwrap, no Timeout and no Is on purpose. Real gives the error
// behind it; the outermost hook puts that back before callers see it.
type opaqueError struct{ real error }

func (e *opaqueError) Error() string { return e.real.Error() }
func (e *opaqueError) Real() error   { return e.real }

// Unsent reports whether, according to the error behind it, the command was not sent.
func (e *opaqueError) Unsent() bool {
	var u interface{ Unsent() bool }
	return errors.As(e.real, &u) && u.Unsent()
}

// Hide makes err opaque, so that go-redis repeats nothing because of it. attempt.Reveal undoes it.
func Hide(err error) error { return &opaqueError{err} }

// earlyError marks an error of the caller's own code that ran before the command was written:
// OnConnect, a credentials provider, a Limiter. Unwrap returns a slice because go-redis strips one
// layer of errors.Unwrap from handshake errors.
type earlyError struct{ err error }

func early(err error) error {
	if err == nil {
		return nil
	}
	return &earlyError{err}
}

func (e *earlyError) Error() string   { return e.err.Error() }
func (e *earlyError) Unwrap() []error { return []error{e.err} }
func (e *earlyError) Early() error    { return e.err }
func (e *earlyError) Real() error     { return e.err }
func (e *earlyError) Unsent() bool    { return true }

// IsEarly reports whether err is marked as one of the caller's own code that ran before the command
// was written.
func IsEarly(err error) bool {
	var e *earlyError
	return errors.As(err, &e)
}

// limiter marks the errors of a user's Limiter.
type limiter struct{ redis.Limiter }

func (l limiter) Allow() error { return early(l.Limiter.Allow()) }

// streaming marks the errors of a user's StreamingCredentialsProvider.
type streaming struct {
	auth.StreamingCredentialsProvider
}

func (s streaming) Subscribe(l auth.CredentialsListener) (auth.Credentials, auth.UnsubscribeFunc, error) {
	credentials, end, err := s.StreamingCredentialsProvider.Subscribe(l)
	return credentials, end, early(err)
}

// refusal is the error of a visit or of the checkout guard when a connection must end. It is a
// plain error: one with Timeout() or Unwrap would be retried by go-redis. Its text becomes a metric
// label, so there is one constant text per reason (TestContractOnlyAPlainErrorIsNotRetried).
type refusal struct{ reason hooks.Reason }

func (e *refusal) Error() string { return "lifeguard: connection closed: " + string(e.reason) }

// Unsent is always true: nothing is written to a connection that is refused.
func (e *refusal) Unsent() bool { return true }

// Evicted is always true: we decided not to use the connection.
func (e *refusal) Evicted() bool { return true }

var refusals = func() map[hooks.Reason]*refusal {
	m := make(map[hooks.Reason]*refusal)
	for _, r := range reasonCodes[1:] {
		m[r] = &refusal{r}
	}
	return m
}()

func refuse(r hooks.Reason) error {
	if e := refusals[r]; e != nil {
		return e
	}
	return refusals[hooks.ReasonReset]
}

// RefusedFor returns the reason for which a connection was ended instead of being used, if err says
// so. The command was not sent.
func RefusedFor(err error) (hooks.Reason, bool) {
	var r *refusal
	if errors.As(err, &r) {
		return r.reason, true
	}
	return "", false
}
