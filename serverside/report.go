package serverside

import (
	"fmt"
	"log/slog"
	"time"
)

// Kill is a client that was closed, or would have been in a dry run. It is a value.
type Kill struct {
	Node   string
	Reason Reason
	DryRun bool
	// Client as it was last seen. Of those closed by one CLIENT KILL MAXAGE (see
	// Policy.PerSecond) only the number is known: then it is zero.
	Client Client
	Count  int // 1, or what CLIENT KILL MAXAGE said
}

// LogValue is a group. Implements [slog.LogValuer].
func (k Kill) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("reason", string(k.Reason)), slog.Bool("dry_run", k.DryRun)}
	if k.Client.ID == 0 {
		attrs = append(attrs, slog.String("node", k.Node), slog.Int("count", k.Count))
	} else {
		attrs = append(attrs, slog.Any("client", k.Client))
	}
	return slog.GroupValue(attrs...)
}

// Report says what one sweep of a Reaper did. It is a value.
type Report struct {
	Started time.Time
	Took    time.Duration
	DryRun  bool
	// Busy: another reaper has the lock, and nothing was looked at. In a dry run all the
	// same: it says which clients the sweep would close if it had the lock. A dry run holds no
	// lock, so another reaper is any but this one: of another process, or of this one (one
	// whose Run holds the lock between its sweeps, say).
	Busy    bool
	Nodes   int // nodes that were looked at
	Seen    int // clients listed, the reaper's own connection and malformed lines not counted
	Due     int // of these, selected by the policy and past a limit: all of the following together
	Spared  int // kept by Policy.Spare
	Closed  int // closed by the reaper; 0 in a dry run
	Gone    int // gone, or in use again, by the time it was their turn
	Refused int // the server refused to close them; the error says why
	// Unknown is how many may have been closed or not: CLIENT KILL was sent, and no
	// reply came, or go-redis sent it again because the first reply was lost.
	Unknown int
	Left    int // not tried: the sweep ended early, or it was a dry run
	Kills   []Kill
}

// String is the report in one line.
func (r Report) String() string {
	if r.Busy && !r.DryRun {
		return "another reaper is at work"
	}
	verb := "closed"
	n := r.Closed
	if r.DryRun {
		verb, n = "would close", len(r.Kills)
	}
	s := fmt.Sprintf("%s %d of %d clients (%d due, %d spared, %d gone", verb, n, r.Seen, r.Due, r.Spared, r.Gone)
	for _, f := range []struct {
		n    int
		what string
	}{{r.Refused, "refused"}, {r.Unknown, "unknown"}, {r.Left, "left"}} {
		if f.n > 0 && !(r.DryRun && f.what == "left") {
			s += fmt.Sprintf(", %d %s", f.n, f.what)
		}
	}
	if r.Busy {
		s = "another reaper is at work; without it: " + s
	}
	return s + fmt.Sprintf(") on %d nodes in %v", r.Nodes, r.Took.Round(time.Millisecond))
}
