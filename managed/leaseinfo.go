package managed

import (
	"fmt"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/callsite"
)

// LeaseInfo describes a lease that is held. It is a value.
type LeaseInfo struct {
	ID       uint64 // unique in the process
	Label    string // given with WithLabel
	Acquired time.Time
	Age      time.Duration
	Reported bool // it has been reported as held for too long
	InFlight bool // a command is running on it
	Conn     hooks.ConnInfo

	callers *callsite.Stack // nil in a LeaseInfo made by a user
}

// Site returns the file and line of the Acquire.
func (i LeaseInfo) Site() string {
	site, _ := i.callers.Resolve()
	return site
}

// Stack returns the call stack of the Acquire, one frame per line, as much of it as was kept: see
// StackMode.
func (i LeaseInfo) Stack() string {
	_, stack := i.callers.Resolve()
	return stack
}

// String returns a short line for a log or an error.
func (i LeaseInfo) String() string {
	s := fmt.Sprintf("lease %d held %v", i.ID, i.Age.Round(time.Millisecond))
	if i.Label != "" {
		s += fmt.Sprintf(" (%s)", i.Label)
	}
	if site := i.Site(); site != "" {
		s += " by " + site
	}
	if i.Conn.LastCommand != "" {
		s += ", last command " + i.Conn.LastCommand
	}
	return s
}

// leaseInfos describes up to n leases of the unit, the oldest first.
func (u *unit) leaseInfos(n int) []LeaseInfo {
	leases := u.leases.Oldest(n)
	out := make([]LeaseInfo, len(leases))
	for i, l := range leases {
		out[i] = LeaseInfo{ID: l.ID, Label: l.Label, Acquired: l.Start, Age: l.For(), Reported: l.Reported(), InFlight: l.Running(),
			Conn: l.Tracked.Info(), callers: l.Callers()}
	}
	return out
}
