package managed

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// ExhaustedError says that no connection of the pool became free in time, and
// who holds them. errors.Is(err, redis.ErrPoolTimeout) holds; where it was the
// caller's ctx that ended the wait, errors.Is with its error holds too.
type ExhaustedError struct {
	Addr     string
	PoolSize int
	InUse    int           // of PoolSize
	Waiting  int           // callers waiting for a slot, this one not counted
	Waited   time.Duration // how long this one waited, 0 if it did not

	Leases   []LeaseInfo      // held, the longest first
	InFlight []hooks.ConnInfo // connections with a command in flight and no lease, the longest first
	Other    int              // in use without either: held by a Conn(), a Watch or a handshake

	LastDialError error // nil if the last dial succeeded
	Cause         error // what go-redis or ctx said
}

const shownHolders = 5

func (e *ExhaustedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "lifeguard/managed: pool of %s exhausted: %d of %d connections in use", e.Addr, e.InUse, e.PoolSize)
	if e.Waiting > 0 {
		fmt.Fprintf(&b, ", %d more callers waiting", e.Waiting)
	}
	if e.Waited > 0 {
		fmt.Fprintf(&b, ", gave up after %v", e.Waited.Round(time.Millisecond))
	}
	fmt.Fprintf(&b, ": %d leased, %d with a command in flight", len(e.Leases), len(e.InFlight))
	if e.Other > 0 {
		fmt.Fprintf(&b, ", %d held otherwise", e.Other)
	}
	for i, l := range e.Leases {
		if i == shownHolders {
			fmt.Fprintf(&b, "; and %d more leases", len(e.Leases)-i)
			break
		}
		fmt.Fprintf(&b, "; %v", l)
	}
	for i, c := range e.InFlight {
		if i == shownHolders {
			fmt.Fprintf(&b, "; and %d more commands", len(e.InFlight)-i)
			break
		}
		fmt.Fprintf(&b, "; %s in flight for %v", c.LastCommand, c.Idle.Round(time.Millisecond))
	}
	if e.LastDialError != nil {
		fmt.Fprintf(&b, "; last dial failed: %v", e.LastDialError)
	}
	fmt.Fprintf(&b, ": %v", e.Cause)
	return b.String()
}

// Is makes errors.Is(err, redis.ErrPoolTimeout) hold.
func (e *ExhaustedError) Is(target error) bool { return target == redis.ErrPoolTimeout }

// Unwrap gives what go-redis or ctx said.
func (e *ExhaustedError) Unwrap() error { return e.Cause }

func (u *unit) exhausted(cause error, waited time.Duration) error {
	return u.core.exhausted(u.node, u.rdb.Options().PoolSize, cause, waited)
}

func (c *core) exhausted(n *hooks.Node, size int, cause error, waited time.Duration) error {
	var again *ExhaustedError
	if errors.As(cause, &again) {
		return cause
	}
	now := n.Main()
	e := &ExhaustedError{Addr: n.Addr(), PoolSize: size, InUse: now.InUse, Waiting: now.Waiting, Waited: waited,
		Leases: c.leases(), Cause: cause}
	e.InFlight = c.busy(n)
	e.Other = max(0, e.InUse-len(e.Leases)-len(e.InFlight))
	if f := n.LastDialFailure(); f != nil {
		e.LastDialError = f.Err
	}
	return e
}
