package monitor

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

// Stats is a snapshot. It is immutable: several receivers share it, and none may change its maps
// and slices.
//
// In JSON, durations are in nanoseconds and times in RFC 3339; the JSON can be read back.
type Stats struct {
	Time time.Time `json:"time"`
	// Interval is what Recent and Rates cover: the time since the last sample. It is 0 in the
	// first Stats, which have nothing to compare with; then Recent and Rates are zero.
	Interval time.Duration `json:"interval_ns"`

	// The totals of all nodes. Counters do not fall when a node leaves.
	Numbers
	// Recent has the counters and distributions of the Interval, and the current gauges.
	Recent Numbers `json:"recent"`
	Rates  Rates   `json:"rates"`
	// Nodes are sorted by name.
	Nodes []NodeStats `json:"nodes,omitempty"`
	// Pools are those of the instances of a fleet, the fullest first: the pools of Nodes are their
	// sums. Other Sources have none.
	Pools []NamedPool `json:"pools,omitempty"`
	// Rest has the numbers that belong to no single node: Numbers without those of Nodes and of
	// nodes that have left.
	Rest Numbers `json:"rest"`

	// Holders are the callers that have held a connection the longest, the longest first; at most
	// MaxHolders.
	Holders       []Holder   `json:"holders,omitempty"`
	LastDialError *DialError `json:"last_dial_error,omitempty"`
	// Gaps say what is unknown, and is zero for that reason.
	Gaps []string `json:"gaps,omitempty"`
	// Unknown lists the fields of Numbers that have no meaning because of a gap, by their JSON
	// names. With the prefix "nodes." a field is known for the whole client (it is in Rest), but
	// not for each node. See Known.
	Unknown []string `json:"unknown,omitempty"`
}

// NodeStats are the numbers of one server.
type NodeStats struct {
	Name string `json:"name"`
	Numbers
	Recent Numbers `json:"recent"` // as in Stats
	Rates  Rates   `json:"rates"`
}

// Rates are per second of the Interval.
type Rates struct {
	Commands     float64 `json:"commands"`
	Dialed       float64 `json:"dialed"`
	DialErrors   float64 `json:"dial_errors"`
	Closed       float64 `json:"closed"`
	Retries      float64 `json:"retries"`
	Waits        float64 `json:"waits"`
	PoolTimeouts float64 `json:"pool_timeouts"`
}

func ratesOf(n *Numbers, interval time.Duration) Rates {
	s := interval.Seconds()
	if s <= 0 {
		return Rates{}
	}
	per := func(n uint64) float64 { return float64(n) / s }
	return Rates{Commands: per(n.Command.Count), Dialed: per(n.Dialed), DialErrors: per(n.DialErrors), Closed: per(n.ClosedAll()),
		Retries: per(n.RetriesAll()), Waits: per(n.Waits), PoolTimeouts: per(n.PoolTimeouts)}
}

// FullestPool returns the pool of a node of which the largest share is in use, or of all nodes for
// "". Of a fleet it is the pool of a single instance. It is never a sum, which would hide that one
// pool is full. ok is false if no pool's size is known.
func (s *Stats) FullestPool(node string) (p NamedPool, ok bool) {
	for _, p := range s.Pools { // the fullest first
		if node == "" || p.Node == node {
			return p, true
		}
	}
	var all []NamedPool
	for i := range s.Nodes {
		if n := &s.Nodes[i]; node == "" || n.Name == node {
			all = append(all, poolsOf(n.Name, &n.Numbers)...)
		}
	}
	if len(s.Nodes) == 0 {
		all = poolsOf("", &s.Numbers)
	}
	if len(all) == 0 {
		return NamedPool{}, false
	}
	return fullestFirst(all)[0], true
}

// String returns one line with the most important numbers.
func (s Stats) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "open=%d idle=%d in_use=%d", s.Open, s.Idle, s.InUse)
	if s.Main.Size > 0 {
		fmt.Fprintf(&b, "/%d", s.Main.Size+s.Pipeline.Size)
	}
	fmt.Fprintf(&b, " peak=%d waiting=%d leases=%d dialed=%d closed=%s retries=%s",
		s.PeakInUse, s.Waiting, s.Leases, s.Dialed, reasons(s.Closed), reasons(s.Retries))
	for _, c := range []struct {
		name string
		n    uint64
	}{{"dial_errors", s.DialErrors}, {"pool_timeouts", s.PoolTimeouts}, {"unknown_outcomes", s.UnknownOutcomes}, {"leaks", s.Leaks}} {
		if c.n > 0 {
			fmt.Fprintf(&b, " %s=%d", c.name, c.n)
		}
	}
	for _, d := range []struct {
		name string
		d    Distribution
	}{{"wait", s.Recent.Wait}, {"command", s.Recent.Command}} {
		if d.d.Count > 0 {
			fmt.Fprintf(&b, " %s(%v)", d.name, d.d)
		}
	}
	return b.String()
}

// reasons returns "12(age=10,error=2)".
func reasons(m map[string]uint64) string {
	s := fmt.Sprint(total(m))
	if len(m) == 0 {
		return s
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s=%d", k, m[k]))
	}
	return s + "(" + strings.Join(parts, ",") + ")"
}

// LogValue returns a group of the most important numbers.
func (s Stats) LogValue() slog.Value {
	return slog.GroupValue(
		slog.Int("open", s.Open), slog.Int("idle", s.Idle), slog.Int("in_use", s.InUse), slog.Int("peak_in_use", s.PeakInUse),
		slog.Int("waiting", s.Waiting), slog.Int("leases", s.Leases),
		slog.Uint64("dialed", s.Dialed), slog.Uint64("dial_errors", s.DialErrors), slog.Uint64("closed", s.ClosedAll()),
		slog.Uint64("retries", s.RetriesAll()), slog.Uint64("unknown_outcomes", s.UnknownOutcomes),
		slog.Uint64("pool_timeouts", s.PoolTimeouts), slog.Uint64("leaks", s.Leaks),
		slog.Duration("wait_p99", s.Recent.Wait.P99), slog.Duration("command_p99", s.Recent.Command.P99),
	)
}
