package fleet

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/errtext"
	"github.com/lifeguard-redis/lifeguard/monitor"
)

// Numbers are the numbers of a node, an instance, or a fleet. Gauges are from the time of
// publishing; counters count since the instances' clients were made.
type Numbers struct {
	Total        int    `json:"total"`        // open connections: active ones, idle ones, and those being set up
	Active       int    `json:"active"`       // of these, in use; includes subscribers
	Idle         int    `json:"idle"`         // of these, free
	Disconnected uint64 `json:"disconnected"` // connections closed so far, for whatever reason

	Subscribed int `json:"subscribed"` // of Active, those of pub/sub
	Size       int `json:"size"`       // maximum number of connections in the pools; 0: unknown
	Waiting    int `json:"waiting"`    // callers that wait for a connection
	Leases     int `json:"leases"`     // connections that callers hold by Acquire

	// The part of the pipeline pool in the above; the rest is that of the main pool.

	PipelineTotal   int `json:"pipeline_total"`
	PipelineActive  int `json:"pipeline_active"`
	PipelineIdle    int `json:"pipeline_idle"`
	PipelineSize    int `json:"pipeline_size"`
	PipelineWaiting int `json:"pipeline_waiting"`

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
		// The source may have counted them one after the other.
		Total: max(n.Open, n.InUse+n.Subscribed+n.Idle), Active: n.InUse + n.Subscribed, Idle: n.Idle, Disconnected: n.ClosedAll(),
		Subscribed: n.Subscribed, Size: n.Main.Size + n.Pipeline.Size, Waiting: n.Waiting, Leases: n.Leases,
		PipelineTotal: max(n.Pipeline.Open, n.Pipeline.InUse+n.Pipeline.Idle), PipelineActive: n.Pipeline.InUse, PipelineIdle: n.Pipeline.Idle,
		PipelineSize: n.Pipeline.Size, PipelineWaiting: n.Pipeline.Waiting,
		Dialed: n.Dialed, DialErrors: n.DialErrors, Hits: n.Hits, Misses: n.Misses, Waits: n.Waits, PoolTimeouts: n.PoolTimeouts,
		Retries: n.RetriesAll(), UnknownOutcomes: n.UnknownOutcomes, Leaks: n.Leaks,
	}
}

// pools separates the two pools.
func (n *Numbers) pools() (main, pipeline monitor.Pool) {
	p := monitor.Pool{Size: n.PipelineSize, Open: n.PipelineTotal, Idle: n.PipelineIdle, InUse: n.PipelineActive, Waiting: n.PipelineWaiting}
	return monitor.Pool{Size: n.Size - p.Size, Open: n.Total - n.Subscribed - p.Open, Idle: n.Idle - p.Idle,
		InUse: n.Active - n.Subscribed - p.InUse, Waiting: n.Waiting - p.Waiting}, p
}

func (n *Numbers) gauges() [12]*int {
	return [...]*int{&n.Total, &n.Active, &n.Idle, &n.Subscribed, &n.Size, &n.Waiting, &n.Leases,
		&n.PipelineTotal, &n.PipelineActive, &n.PipelineIdle, &n.PipelineSize, &n.PipelineWaiting}
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

// since returns the counts added after earlier. If a counter has fallen, counting has restarted.
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

// String returns "total=12 active=3 idle=9 disconnected=40".
func (n Numbers) String() string {
	return fmt.Sprintf("total=%d active=%d idle=%d disconnected=%d", n.Total, n.Active, n.Idle, n.Disconnected)
}

// Node describes the connections to one server. For instances that may ask the server for its
// identity (INFO), a server is one node, regardless of how they spell its address; for others, each
// address is a node.
type Node struct {
	Name string `json:"name"` // its address, as the instances know it
	Numbers
	MaxClients int      `json:"max_clients,omitempty"` // its maxclients, if the instances know it; else 0
	RunID      string   `json:"run_id,omitempty"`      // the server's run id, which changes at a restart; "": unknown
	Names      []string `json:"names,omitempty"`       // all addresses, if there are several
}

// Instance is one publisher: the pools of one client in one process.
type Instance struct {
	ID      string    `json:"id"` // unique
	Service string    `json:"service"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"` // of the process, by its own clock

	// Lost is true if the instance has not published for longer than LostAfter: it is dead, or
	// cannot reach Redis. Its numbers are the last ones.
	Lost      bool          `json:"lost"`
	Age       time.Duration `json:"age_ns"` // time since it last published, by the server's clock
	Every     time.Duration `json:"every_ns"`
	LostAfter time.Duration `json:"lost_after_ns"`

	Numbers
	Nodes []Node `json:"nodes,omitempty"`
	// Unknown is true if its Monitor does not know how many connections it has; Gaps say why. Its
	// gauges are zero then, and those of the totals are too low.
	Unknown bool     `json:"unknown,omitempty"`
	Gaps    []string `json:"gaps,omitempty"` // as in monitor.Stats

	// How its connections can be recognised on the server.
	ClientNames []string `json:"client_names,omitempty"`
	Addrs       []string `json:"addrs,omitempty"` // their own addresses, if the server sees the same ones

	rest Numbers       // counters that belong to no node
	rev  uint64        // counts its publications; it never falls
	left time.Duration // time until its entry expires
}

// Use returns the share of the instance's fullest pool that is in use: main or pipeline, of whichever
// node. It is 0 if no size is known.
func (i *Instance) Use() (share float64) {
	for _, n := range append([]Node{{Numbers: i.rest}}, i.Nodes...) {
		main, pipeline := n.pools()
		share = max(share, main.Use(), pipeline.Use())
	}
	return share
}

// String returns "web on host-1 (pid 812): total=12 ...".
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

// Fleet is the result of [Read]. It is a value.
type Fleet struct {
	Name string    `json:"name"`
	Time time.Time `json:"time"` // when it was read, by our clock
	// Instances are all of them, including lost ones, sorted by service, host and pid.
	Instances []Instance `json:"instances"`
	Alive     int        `json:"alive"` // how many of them are alive
	Lost      int        `json:"lost"`  // how many are lost
	// Sum is the sum of the living instances.
	Sum Numbers `json:"sum"`
	// LostSum is the sum of the lost ones, with the last numbers of each. The operating system
	// closes the connections of a dead process; if the host is dead or disconnected, the server
	// may still have them.
	LostSum Numbers `json:"lost_sum"`
	// Disconnected is how many connections all instances have closed since the fleet was created,
	// including instances that have left or are lost: it does not fall when they leave. It
	// restarts when the fleet's keys are lost (see Gaps).
	Disconnected uint64 `json:"disconnected"`
	// Nodes are the servers that the living instances are connected to, by name.
	Nodes []Node `json:"nodes,omitempty"`
	// Gaps say what could not be read, and is missing in the above.
	Gaps []string `json:"gaps,omitempty"`

	runOf      map[string]string // run ids by address; "": there are several
	index      *index
	unreadable []string // instances that exist but cannot be read, and why
	missing    []string // instances in the index without an entry
}

// String returns one line: "default: 20 instances, 1 lost: total=...".
func (f Fleet) String() string {
	s := fmt.Sprintf("%s: %s", f.Name, errtext.Count(f.Alive, "instance"))
	if f.Lost > 0 {
		s += fmt.Sprintf(" and %d lost", f.Lost)
	}
	s += ": " + f.Sum.String()
	if len(f.Gaps) > 0 {
		s += fmt.Sprintf("; %s: %s", errtext.Count(len(f.Gaps), "gap"), f.Gaps[0])
	}
	return s
}

// LogValue returns a group of the sums.
func (f Fleet) LogValue() slog.Value {
	return slog.GroupValue(slog.String("name", f.Name), slog.Int("alive", f.Alive), slog.Int("lost", f.Lost),
		slog.Int("total", f.Sum.Total), slog.Int("active", f.Sum.Active), slog.Int("idle", f.Sum.Idle),
		slog.Uint64("disconnected", f.Sum.Disconnected), slog.Int("gaps", len(f.Gaps)))
}
