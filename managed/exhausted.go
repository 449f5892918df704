package managed

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// ExhaustedError says that no connection of the pool became free in time, and who holds them: on
// that node only, and at most five by name. Nothing was sent. errors.Is(err, redis.ErrPoolTimeout)
// is true; if the caller's ctx ended the wait, errors.Is with the error of ctx is true as well.
type ExhaustedError struct {
	Addr     string
	PoolSize int
	InUse    int           // of PoolSize
	Waiting  int           // callers waiting for a slot, without this one
	Waited   time.Duration // how long this one waited, 0 if it did not

	Leased  int // connections that are leased
	Running int // with a command in flight and no lease
	Other   int // in use otherwise: by a Conn(), a Watch or a handshake

	Leases   []LeaseInfo      // the longest held first
	InFlight []hooks.ConnInfo // those without a lease, the longest first

	LastDialError error // nil if the last dial succeeded
	Cause         error // error of go-redis or of ctx
}

const shownHolders = 5

func (e *ExhaustedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "lifeguard/managed: pool of %s exhausted: %d of %d connections in use", e.Addr, e.InUse, e.PoolSize)
	if e.Waiting > 0 {
		fmt.Fprintf(&b, ", %s waiting", errtext.Count(e.Waiting, "more caller"))
	}
	if e.Waited > 0 {
		fmt.Fprintf(&b, ", gave up after %v", e.Waited.Round(time.Millisecond))
	}
	fmt.Fprintf(&b, ": %d leased, %d with a command in flight", e.Leased, e.Running)
	if e.Other > 0 {
		fmt.Fprintf(&b, ", %d held otherwise", e.Other)
	}
	writeHolders(&b, e.Leases, e.Leased, e.InFlight, e.Running)
	if e.LastDialError != nil {
		fmt.Fprintf(&b, "; last dial failed: %v", e.LastDialError)
	}
	fmt.Fprintf(&b, ": %v", e.Cause)
	return b.String()
}

// writeHolders names those who hold a connection: some of all leases, and of all other connections
// with a command in flight.
func writeHolders(b *strings.Builder, leases []LeaseInfo, leased int, inFlight []hooks.ConnInfo, running int) {
	for _, l := range leases {
		fmt.Fprintf(b, "; %v", l)
	}
	if more := leased - len(leases); more > 0 {
		fmt.Fprintf(b, "; and %s", errtext.Count(more, "more lease"))
	}
	for _, c := range inFlight {
		fmt.Fprintf(b, "; %s in flight for %v", c.LastCommand, c.Idle.Round(time.Millisecond))
	}
	if more := running - len(inFlight); more > 0 {
		fmt.Fprintf(b, "; and %s", errtext.Count(more, "more command"))
	}
}

// Is makes errors.Is(err, redis.ErrPoolTimeout) true.
func (e *ExhaustedError) Is(target error) bool { return target == redis.ErrPoolTimeout }

// Unwrap returns the error of go-redis or of ctx.
func (e *ExhaustedError) Unwrap() error { return e.Cause }

// Timeout reports whether the caller's deadline or PoolTimeout passed, as opposed to the
// cancellation of its ctx. It makes the error a net.Error.
func (e *ExhaustedError) Timeout() bool { return !errors.Is(e.Cause, context.Canceled) }

// Temporary returns the same as Timeout.
func (e *ExhaustedError) Temporary() bool { return e.Timeout() }

func (u *unit) exhausted(cause error, waited time.Duration) error {
	var again *ExhaustedError
	if errors.As(cause, &again) {
		return cause
	}
	n := u.node
	now := n.Main()
	e := &ExhaustedError{Addr: n.Addr(), PoolSize: u.rdb.Options().PoolSize, InUse: now.InUse, Waiting: now.Waiting,
		Waited: waited, Leased: u.leases.Len(), Cause: cause}
	e.Leases = u.leaseInfos(shownHolders)
	busy := u.core.busy(n)
	e.Running = len(busy)
	e.InFlight = busy[:min(len(busy), shownHolders-len(e.Leases))]
	e.Other = max(0, e.InUse-e.Leased-e.Running)
	if f := n.LastDialFailure(); f != nil {
		e.LastDialError = f.Err
	}
	return e
}
