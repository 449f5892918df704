package monitor

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Source provides the numbers that a [Monitor] reports. A managed client has one; [FromClient]
// makes one for a plain client.
type Source interface {
	// Sample fills s, which is empty. It is called on every request for the Stats and at every
	// period, never concurrently. It must not block for long and must not call the Monitor.
	// Counters count since the client was made; peaks cover the time since the last call of
	// Sample, so a Source can serve only one Monitor. The Monitor reads s before the next call,
	// and copies its maps. Report unknown values with [Sample.Gap]. If Sample panics, the Stats
	// say so.
	Sample(s *Sample)
}

// Sample is what a Source knows at one moment.
type Sample struct {
	// Rest has the numbers that belong to no single node, for example those of the client's
	// retries. The totals are Rest and Nodes together.
	Rest Numbers
	// Nodes has the numbers of each server, each under a unique name.
	Nodes []Node
	// Pools has the single pools of a Source whose Nodes have only sums over several, such as a
	// fleet's. Nodes and Rest have to contain them: they are not added to the totals.
	Pools []NamedPool
	// LastDialError is the last dial that failed, unless a later one succeeded; nil: none.
	LastDialError *DialError

	holders []Holder
	gaps    []string
	unknown []string
}

// Node is one server.
type Node struct {
	Name string `json:"name"` // its address
	Numbers
}

// Blocking is the suffix of the name of a node that stands for a server's separate pool for blocking
// commands: "10.0.0.7:6379 (blocking)". Such a node has only a main pool.
const Blocking = " (blocking)"

// NamedPool is a single pool: of a node, or of several whose sum is the pool of a node.
type NamedPool struct {
	Name string `json:"name,omitempty"` // of a fleet: the instance whose pool it is
	Node string `json:"node,omitempty"` // name of its node
	Kind string `json:"kind"`           // "main", "pipeline" or "blocking"
	Pool
}

// Pools returns the single pools of the node, without those that have no size.
func (n *Node) Pools() []NamedPool { return poolsOf(n.Name, &n.Numbers) }

func poolsOf(node string, n *Numbers) (all []NamedPool) {
	kind := "main"
	if strings.HasSuffix(node, Blocking) {
		kind = "blocking"
	}
	if n.Main.Size > 0 {
		all = append(all, NamedPool{Node: node, Kind: kind, Pool: n.Main})
	}
	if n.Pipeline.Size > 0 && kind == "main" {
		all = append(all, NamedPool{Node: node, Kind: "pipeline", Pool: n.Pipeline})
	}
	return all
}

// Holder is a caller that holds a connection now.
type Holder struct {
	Node    string        `json:"node,omitempty"`    // the server of the connection
	Site    string        `json:"site,omitempty"`    // file:line of the call that took it; "": unknown
	Label   string        `json:"label,omitempty"`   // its name, given by the caller
	Command string        `json:"command,omitempty"` // name of the last command, without arguments
	For     time.Duration `json:"for_ns"`            // how long it has been held
	Overdue bool          `json:"overdue,omitempty"` // it is a lease held for longer than the leak threshold
}

// String returns a short line: "web.go:31 (report) for 3.2s, last command blpop".
func (h Holder) String() string {
	s := h.Site
	if s == "" {
		s = "somebody"
	}
	if h.Label != "" {
		s += " (" + h.Label + ")"
	}
	s += fmt.Sprintf(" for %v", short(h.For))
	if h.Command != "" {
		s += ", last command " + h.Command
	}
	return s
}

// DialError is a dial that failed.
type DialError struct {
	Time time.Time `json:"time"`
	Node string    `json:"node,omitempty"`
	Err  string    `json:"err"`
}

// MaxHolders is how many holders a Sample keeps: those that have held a connection the longest.
const MaxHolders = 5

// AddHolder adds a caller that holds a connection. Add all of them, in any order: only the
// [MaxHolders] that have held theirs the longest are kept and use memory.
func (s *Sample) AddHolder(h Holder) {
	i := len(s.holders)
	if i == MaxHolders {
		if h.For <= s.holders[i-1].For {
			return
		}
		s.holders = s.holders[:i-1]
		i--
	}
	s.holders = append(s.holders, h)
	for ; i > 0 && s.holders[i-1].For < h.For; i-- {
		s.holders[i-1], s.holders[i] = s.holders[i], s.holders[i-1]
	}
}

// Holds reports whether AddHolder would keep a holder with that duration, so that a Source need not
// look up the Site of the others.
func (s *Sample) Holds(since time.Duration) bool {
	return len(s.holders) < MaxHolders || since > s.holders[MaxHolders-1].For
}

// Gap says, in a few words, what the Source does not know; the same words are kept only once.
// fields are the numbers that have no meaning for that reason, so that exporters omit them: see
// [Stats].Unknown for their names. A field name that does not exist is itself reported as a gap.
func (s *Sample) Gap(what string, fields ...string) {
	if !slices.Contains(s.gaps, what) {
		s.gaps = append(s.gaps, what)
	}
	for _, f := range fields {
		if !slices.Contains(Fields(), strings.TrimPrefix(f, ofNodes)) {
			s.Gap(fmt.Sprintf("there is no field %q", f))
		} else if !slices.Contains(s.unknown, f) {
			s.unknown = append(s.unknown, f)
		}
	}
}
