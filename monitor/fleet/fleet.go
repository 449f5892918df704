package fleet

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/lifeguard-redis/lifeguard/monitor"
)

// Numbers are the numbers of a node, an instance, or a fleet. Gauges are of the
// moment of publishing, counters count since the instances' clients were made.
type Numbers struct {
	Total        int    `json:"total"`        // connections that are open: active ones, idle ones, and those being set up
	Active       int    `json:"active"`       // of these, in use; subscribers as well
	Idle         int    `json:"idle"`         // of these, free
	Disconnected uint64 `json:"disconnected"` // connections closed so far, for whatever reason

	Subscribed int `json:"subscribed"` // of Active, those of pub/sub
	Size       int `json:"size"`       // connections that the pools may have; 0: not known
	Waiting    int `json:"waiting"`    // callers that wait for a connection
	Leases     int `json:"leases"`     // connections that callers hold by Acquire

	Dialed          uint64 `json:"dialed"` // connections opened so far
	DialErrors      uint64 `json:"dial_errors"`
	Hits            uint64 `json:"hits"`   // a connection was wanted and an idle one was there
	Misses          uint64 `json:"misses"` // a connection was wanted and none was idle
	Waits           uint64 `json:"waits"`
	PoolTimeouts    uint64 `json:"pool_timeouts"`
	Retries         uint64 `json:"retries"`
	UnknownOutcomes uint64 `json:"unknown_outcomes"`
	Leaks           uint64 `json:"leaks"`
}

func numbersOf(n *monitor.Numbers) Numbers {
	return Numbers{
		// They may have been counted one after the other.
		Total: max(n.Open, n.InUse+n.Subscribed+n.Idle), Active: n.InUse + n.Subscribed, Idle: n.Idle, Disconnected: n.ClosedAll(),
		Subscribed: n.Subscribed, Size: n.Main.Size + n.Pipeline.Size, Waiting: n.Waiting, Leases: n.Leases,
		Dialed: n.Dialed, DialErrors: n.DialErrors, Hits: n.Hits, Misses: n.Misses, Waits: n.Waits, PoolTimeouts: n.PoolTimeouts,
		Retries: n.RetriesAll(), UnknownOutcomes: n.UnknownOutcomes, Leaks: n.Leaks,
	}
}

func (n *Numbers) gauges() [7]*int {
	return [...]*int{&n.Total, &n.Active, &n.Idle, &n.Subscribed, &n.Size, &n.Waiting, &n.Leases}
}

func (n *Numbers) counters() [10]*uint64 {
	return [...]*uint64{&n.Disconnected, &n.Dialed, &n.DialErrors, &n.Hits, &n.Misses, &n.Waits, &n.PoolTimeouts, &n.Retries,
		&n.UnknownOutcomes, &n.Leaks}
}

func (n *Numbers) add(o Numbers) {
	a, b := n.gauges(), o.gauges()
	for i := range a {
		*a[i] += *b[i]
	}
	n.addCounters(o)
}

func (n *Numbers) addCounters(o Numbers) {
	a, b := n.counters(), o.counters()
	for i := range a {
		*a[i] += *b[i]
	}
}

// since returns the counters of what has come since earlier. One that has fallen
// began anew.
func (n Numbers) since(earlier Numbers) (d Numbers) {
	d.addCounters(n)
	a, b := d.counters(), earlier.counters()
	for i := range a {
		if *a[i] >= *b[i] {
			*a[i] -= *b[i]
		}
	}
	return d
}

// String is "total=12 active=3 idle=9 disconnected=40".
func (n Numbers) String() string {
	return fmt.Sprintf("total=%d active=%d idle=%d disconnected=%d", n.Total, n.Active, n.Idle, n.Disconnected)
}

// Node are the connections to one server. Of instances that may ask the server who it
// is (INFO) it is one, however they spell its address; of others, each address is.
type Node struct {
	Name string `json:"name"` // its address, as the instances know it
	Numbers
	MaxClients int      `json:"max_clients,omitempty"` // its maxclients, if the instances know it; else 0
	RunID      string   `json:"run_id,omitempty"`      // the server's own name, until it restarts; "": not known
	Names      []string `json:"names,omitempty"`       // all addresses, if there are several
}

// Instance is one publisher: the pools of one client in one process.
type Instance struct {
	ID      string    `json:"id"` // unique
	Service string    `json:"service"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"` // of the process, by its own clock

	// Lost is true if it has said nothing for longer than LostAfter: it is dead, or
	// does not reach Redis. Its numbers are the last ones.
	Lost      bool          `json:"lost"`
	Age       time.Duration `json:"age_ns"` // since it last published, by the server's clock
	Every     time.Duration `json:"every_ns"`
	LostAfter time.Duration `json:"lost_after_ns"`

	Numbers
	Nodes []Node `json:"nodes,omitempty"`
	// Unknown is true if its Monitor could not find out how many connections it has;
	// Gaps say why. Its gauges are zero then, and those of the sums are too low.
	Unknown bool     `json:"unknown,omitempty"`
	Gaps    []string `json:"gaps,omitempty"` // as in monitor.Stats

	// How its connections can be told on the server.
	ClientNames []string `json:"client_names,omitempty"`
	Addrs       []string `json:"addrs,omitempty"` // their own ends, if the server sees them as they are

	rest Numbers       // counters that belong to no node
	rev  uint64        // counts what it has published; it never falls
	left time.Duration // until its entry expires
}

// String is "web on host-1 (pid 812): total=12 ...".
func (i Instance) String() string {
	s := fmt.Sprintf("%s on %s (pid %d)", i.Service, i.Host, i.PID)
	if i.Lost {
		s += fmt.Sprintf(", lost %v ago", i.Age.Round(100*time.Millisecond))
	}
	if i.Unknown {
		return s + ": numbers not known"
	}
	return s + ": " + i.Numbers.String()
}

// Fleet is what [Read] found. It is a value.
type Fleet struct {
	Name string    `json:"name"`
	Time time.Time `json:"time"` // of reading, by our clock
	// Instances are all of them, lost ones too, by service, host and pid.
	Instances []Instance `json:"instances"`
	Alive     int        `json:"alive"` // how many of them live
	Lost      int        `json:"lost"`  // how many are lost
	// Sum is that of the instances that live.
	Sum Numbers `json:"sum"`
	// LostSum is that of the lost ones, with the last numbers of each. Connections
	// of a dead process are closed by its system; if that is dead or cut off, too, the
	// server may still have them.
	LostSum Numbers `json:"lost_sum"`
	// Disconnected is how many connections all instances have closed since the fleet
	// began, those included that have left or are lost: it does not fall when they go.
	// It begins anew when the fleet's keys are lost (see Gaps).
	Disconnected uint64 `json:"disconnected"`
	// Nodes are the servers that the living instances are connected to, by name.
	Nodes []Node `json:"nodes,omitempty"`
	// Gaps say what could not be read, so that it is missing in the above.
	Gaps []string `json:"gaps,omitempty"`

	runOf      map[string]string // run ids of addresses; "": there are several
	index      *index
	unreadable []string // instances that are there and cannot be read, and why
	missing    []string // instances of the index without an entry
}

// String is one line: "default: 20 instances, 1 lost: total=...".
func (f Fleet) String() string {
	s := fmt.Sprintf("%s: %d instances", f.Name, f.Alive)
	if f.Lost > 0 {
		s += fmt.Sprintf(" and %d lost", f.Lost)
	}
	s += ": " + f.Sum.String()
	if len(f.Gaps) > 0 {
		s += fmt.Sprintf("; %d gaps: %s", len(f.Gaps), f.Gaps[0])
	}
	return s
}

// LogValue makes a group of the sums.
func (f Fleet) LogValue() slog.Value {
	return slog.GroupValue(slog.String("name", f.Name), slog.Int("alive", f.Alive), slog.Int("lost", f.Lost),
		slog.Int("total", f.Sum.Total), slog.Int("active", f.Sum.Active), slog.Int("idle", f.Sum.Idle),
		slog.Uint64("disconnected", f.Sum.Disconnected), slog.Int("gaps", len(f.Gaps)))
}
