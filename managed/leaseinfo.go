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

func (i LeaseInfo) forLog() callsite.Held {
	return callsite.Held{Stack: i.callers, For: i.Age, Label: i.Label, ConnID: i.Conn.ID, Node: i.Conn.Node, LastCommand: i.Conn.LastCommand}
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

func (l *lease) info(now time.Time) LeaseInfo {
	return LeaseInfo{ID: l.id, Label: l.label, Acquired: l.start, Age: now.Sub(l.start), Reported: l.reported.Load(),
		InFlight: l.inFlight.Load() > 0, Conn: l.tracked.Info(), callers: &l.callers}
}
