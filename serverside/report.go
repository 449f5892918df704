package serverside

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// Kill is a client that was closed, or would have been in a dry run. It is a value.
type Kill struct {
	Node   string
	Reason Reason
	DryRun bool
	// Client as it was last seen. Of clients closed by one CLIENT KILL MAXAGE (see
	// Policy.PerSecond) only the number is known: then Client is zero.
	Client Client
	Count  int // 1, or the number that CLIENT KILL MAXAGE returned
}

// LogValue returns a group. Implements [slog.LogValuer].
func (k Kill) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("reason", string(k.Reason)), slog.Bool("dry_run", k.DryRun)}
	if k.Client.ID == 0 {
		attrs = append(attrs, slog.String("node", k.Node), slog.Int("count", k.Count))
	} else {
		attrs = append(attrs, slog.Any("client", k.Client))
	}
	return slog.GroupValue(attrs...)
}

// Report describes one sweep of a Reaper. It is a value.
type Report struct {
	Started time.Time
	Took    time.Duration
	DryRun  bool
	// Busy: another reaper has the lock, and nothing was inspected. A dry run goes on
	// nevertheless: it reports which clients the sweep would close if it had the lock. A dry run
	// never holds the lock, so here another reaper is any but this dry run's own: in another
	// process, or in this one (for example one whose Run keeps the lock between its sweeps).
	Busy    bool
	Nodes   int // nodes that were inspected
	Seen    int // clients listed, without the reaper's own connection and malformed lines
	Due     int // of these, selected by the policy and past a limit: the sum of all of the following
	Spared  int // kept by Policy.Spare
	Closed  int // closed by the reaper; 0 in a dry run
	Gone    int // gone, or in use again, before they could be closed
	Refused int // the server refused to close them; the error says why
	// Unknown is how many may or may not have been closed: CLIENT KILL was sent and no reply came,
	// or go-redis sent it again because the first reply was lost.
	Unknown int
	Left    int // not tried: the sweep ended early, or it was a dry run
	Kills   []Kill
}

// String returns the report in one line.
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
	}{{r.Refused, "refused"}, {r.Unknown, "unknown"}, {r.Left, "not tried"}} {
		if f.n > 0 && !(r.DryRun && f.what == "not tried") {
			s += fmt.Sprintf(", %d %s", f.n, f.what)
		}
	}
	if r.Busy {
		s = "another reaper is at work; without it: " + s
	}
	return s + fmt.Sprintf(") on %s in %v", errtext.Count(r.Nodes, "node"), r.Took.Round(time.Millisecond))
}
