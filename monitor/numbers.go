package monitor

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// Pool describes one of a node's pools at one moment.
type Pool struct {
	Size    int `json:"size"`               // connections that callers can use at once; 0: there is no such pool
	Open    int `json:"open"`               // connections in the pool
	Idle    int `json:"idle"`               // of these, free
	InUse   int `json:"in_use"`             // of these, taken by a caller
	Waiting int `json:"waiting"`            // callers waiting for a connection or for its dial
	MinIdle int `json:"min_idle,omitempty"` // idle connections that are kept ready
	MaxIdle int `json:"max_idle,omitempty"` // idle connections beyond which one is closed; 0: unknown
}

// Use returns the share of the pool's size that is in use, 0 if it has none.
func (p Pool) Use() float64 {
	if p.Size <= 0 {
		return 0
	}
	return float64(p.InUse) / float64(p.Size)
}

func (p Pool) plus(o Pool) Pool {
	return Pool{p.Size + o.Size, p.Open + o.Open, p.Idle + o.Idle, p.InUse + o.InUse, p.Waiting + o.Waiting, p.MinIdle + o.MinIdle, p.MaxIdle + o.MaxIdle}
}

// Numbers are the numbers of a node, or of a whole client.
//
// Gauges are current values. Counters count since the client was made and never fall; in
// [Stats].Recent they count since the last sample. The maps have an entry for each reason that has
// occurred. Numbers that come from a Stats must not be changed.
type Numbers struct {
	// Gauges of all pools together, which the Monitor computes: a Source need not set them.

	Open    int `json:"open"` // including subscribed ones: what the server's CLIENT LIST shows
	Idle    int `json:"idle"`
	InUse   int `json:"in_use"`
	Waiting int `json:"waiting"`

	// Gauges.

	Main          Pool `json:"main"`           // single commands, transactions, leases
	Pipeline      Pool `json:"pipeline"`       // pipelines
	Subscribed    int  `json:"subscribed"`     // pub/sub connections, which belong to no pool
	Dialing       int  `json:"dialing"`        // dials in progress
	Leases        int  `json:"leases"`         // connections that callers hold by Acquire
	LeasesOverdue int  `json:"leases_overdue"` // of these, held for longer than the leak threshold
	PeakInUse     int  `json:"peak_in_use"`    // highest InUse since the last sample; for several nodes: the sum of their peaks
	PeakDemand    int  `json:"peak_demand"`    // the same including the callers that waited
	BreakersOpen  int  `json:"breakers_open"`  // breakers that are open
	MaxClients    int  `json:"max_clients"`    // the server's maxclients; 0: unknown
	ServerClients int  `json:"server_clients"` // all clients that the server has, including those of others; 0: unknown
	Instances     int  `json:"instances"`      // of a fleet: instances that live
	InstancesLost int  `json:"instances_lost"` // of a fleet: instances not heard from for too long

	// Counters.

	Hits            uint64            `json:"hits"`              // a connection was wanted and an idle one was available
	Misses          uint64            `json:"misses"`            // a connection was wanted and none was idle
	Waits           uint64            `json:"waits"`             // a connection was wanted and had to be waited for, in vain or not
	WaitTime        time.Duration     `json:"wait_time_ns"`      // total time of all Waits
	PoolTimeouts    uint64            `json:"pool_timeouts"`     // Waits that got no connection
	PoolTimeoutsCtx uint64            `json:"pool_timeouts_ctx"` // of these, those whose ctx ended before PoolTimeout
	Dialed          uint64            `json:"dialed"`            // connections opened
	DialErrors      uint64            `json:"dial_errors"`       // dials that failed
	Closed          map[string]uint64 `json:"closed"`            // connections closed, by reason
	Retries         map[string]uint64 `json:"retries"`           // commands sent again, by reason
	HealthChanges   map[string]uint64 `json:"health_changes"`    // changes of a node's health, by the state entered: see hooks.Health
	UnknownOutcomes uint64            `json:"unknown_outcomes"`  // commands that may or may not have been executed
	BudgetRefusals  uint64            `json:"budget_refusals"`   // retries that the budget did not allow
	BreakerOpened   uint64            `json:"breaker_opened"`    // changes of a breaker to open
	BreakerClosed   uint64            `json:"breaker_closed"`    // changes of a breaker to closed
	BreakerRefusals uint64            `json:"breaker_refusals"`  // calls that an open breaker did not let through
	Leaks           uint64            `json:"leaks"`             // leases held for too long, or dropped without Release

	// Distributions.

	Dial    Distribution `json:"dial"`    // how long dials took, including failed ones
	Wait    Distribution `json:"wait"`    // how long callers waited for a connection, in vain or not
	Hold    Distribution `json:"hold"`    // how long leases were held
	Command Distribution `json:"command"` // how long commands and pipelines took, including failed ones and waits
}

// ClosedAll returns the number of connections closed, for whatever reason.
func (n Numbers) ClosedAll() uint64 { return total(n.Closed) }

// RetriesAll returns the number of commands sent again, for whatever reason.
func (n Numbers) RetriesAll() uint64 { return total(n.Retries) }

// HitRatio returns which share of the wanted connections was idle when wanted. known is false if
// none was wanted.
func (n Numbers) HitRatio() (ratio float64, known bool) {
	if n.Hits+n.Misses == 0 {
		return 0, false
	}
	return float64(n.Hits) / (float64(n.Hits) + float64(n.Misses)), true
}

func total(m map[string]uint64) (sum uint64) {
	for _, n := range m {
		sum += n
	}
	return sum
}

// complete computes the gauges of all pools together, and corrects peaks that are lower than what
// is in use now, or higher than the size of the pools.
func (n *Numbers) complete() {
	all := n.Main.plus(n.Pipeline)
	n.Open, n.Idle, n.InUse, n.Waiting = all.Open+n.Subscribed, all.Idle, all.InUse, all.Waiting
	if all.Size > 0 {
		n.PeakInUse = min(n.PeakInUse, all.Size)
	}
	n.PeakInUse = max(n.PeakInUse, n.InUse)
	n.PeakDemand = max(n.PeakDemand, n.PeakInUse, n.InUse+n.Waiting)
}

// Add adds gauges, counters and distributions of another part of the same node, or of another node;
// MaxClients and ServerClients become those of the fuller server. It changes n's maps: they must
// belong to n alone.
func (n *Numbers) Add(o *Numbers) { n.add(o) }

// Counters returns n without its gauges, for a part that no longer exists; the result has its own
// maps.
func (n Numbers) Counters() Numbers { return n.countersOnly() }

// countersOnly returns n without its gauges.
func (n Numbers) countersOnly() Numbers {
	var c Numbers
	c.addCounters(&n)
	return c
}

// own copies the maps, so that the Source may keep using its own.
func (n *Numbers) own() {
	for _, m := range n.maps() {
		*m = maps.Clone(*m)
	}
}

// add adds gauges, counters and distributions of another node. MaxClients and ServerClients are
// those of the fullest server.
func (n *Numbers) add(o *Numbers) {
	if share(o) > share(n) {
		n.MaxClients, n.ServerClients = o.MaxClients, o.ServerClients
	}
	n.Open, n.Idle, n.InUse, n.Waiting = n.Open+o.Open, n.Idle+o.Idle, n.InUse+o.InUse, n.Waiting+o.Waiting
	n.Main, n.Pipeline = n.Main.plus(o.Main), n.Pipeline.plus(o.Pipeline)
	n.Subscribed += o.Subscribed
	n.Dialing += o.Dialing
	n.Leases += o.Leases
	n.LeasesOverdue += o.LeasesOverdue
	n.PeakInUse += o.PeakInUse
	n.PeakDemand += o.PeakDemand
	n.BreakersOpen += o.BreakersOpen
	n.Instances += o.Instances
	n.InstancesLost += o.InstancesLost
	n.addCounters(o)
}

func share(n *Numbers) float64 {
	if n.MaxClients <= 0 {
		return -1
	}
	return float64(max(n.ServerClients, n.Open)) / float64(n.MaxClients)
}

// scalars are the counters that are plain numbers.
func (n *Numbers) scalars() [13]*uint64 {
	return [...]*uint64{&n.Hits, &n.Misses, &n.Waits, &n.PoolTimeouts, &n.PoolTimeoutsCtx, &n.Dialed, &n.DialErrors, &n.UnknownOutcomes,
		&n.BudgetRefusals, &n.BreakerOpened, &n.BreakerClosed, &n.BreakerRefusals, &n.Leaks}
}

// maps are the counters by reason.
func (n *Numbers) maps() [3]*map[string]uint64 {
	return [...]*map[string]uint64{&n.Closed, &n.Retries, &n.HealthChanges}
}

func (n *Numbers) distributions() [4]*Distribution {
	return [...]*Distribution{&n.Dial, &n.Wait, &n.Hold, &n.Command}
}

// addCounters adds counters and distributions only.
func (n *Numbers) addCounters(o *Numbers) {
	mine, its := n.scalars(), o.scalars()
	for i := range mine {
		*mine[i] += *its[i]
	}
	n.WaitTime += o.WaitTime
	byReason, more := n.maps(), o.maps()
	for i := range byReason {
		addMap(byReason[i], *more[i])
	}
	ours, theirs := n.distributions(), o.distributions()
	for i := range ours {
		*ours[i] = ours[i].Merge(*theirs[i])
	}
}

func addMap(to *map[string]uint64, from map[string]uint64) {
	if *to == nil && len(from) > 0 {
		*to = make(map[string]uint64, len(from))
	}
	for k, v := range from {
		(*to)[k] += v
	}
}

// since returns n with the counters and distributions of the time since earlier. If a counter has
// fallen, counting has restarted: all of it is recent.
func (n *Numbers) since(earlier *Numbers) Numbers {
	d := *n
	now, then := d.scalars(), earlier.scalars()
	for i := range now {
		if *now[i] >= *then[i] {
			*now[i] -= *then[i]
		}
	}
	if d.WaitTime >= earlier.WaitTime {
		d.WaitTime -= earlier.WaitTime
	}
	byReason, before := d.maps(), earlier.maps()
	for i := range byReason {
		*byReason[i] = sinceMap(*byReason[i], *before[i])
	}
	a, b := d.distributions(), earlier.distributions()
	for i := range a {
		*a[i] = a[i].Sub(*b[i])
	}
	return d
}

func sinceMap(now, then map[string]uint64) map[string]uint64 {
	var d map[string]uint64
	for k, v := range now {
		if t := then[k]; v >= t {
			v -= t
		}
		if v > 0 {
			if d == nil {
				d = make(map[string]uint64, len(now))
			}
			d[k] = v
		}
	}
	return d
}

// restarted reports whether a counter is lower than it was.
func (n *Numbers) restarted(earlier *Numbers) bool {
	now, then := n.scalars(), earlier.scalars()
	for i := range now {
		if *now[i] < *then[i] {
			return true
		}
	}
	return n.Command.Count < earlier.Command.Count || n.Dial.Count < earlier.Dial.Count || n.ClosedAll() < earlier.ClosedAll()
}

// ofNodes is the prefix of a field that is known for the whole client only.
const ofNodes = "nodes."

// Known reports whether a field has a meaningful value. field is one of [Fields], for the client as
// a whole; with the prefix "nodes.", for each node.
func (s Stats) Known(field string) bool {
	return !slices.Contains(s.Unknown, field) && !slices.Contains(s.Unknown, strings.TrimPrefix(field, ofNodes))
}

// Fields returns the JSON names of the fields of [Numbers].
func Fields() []string { return slices.Clone(fieldNames()) }

var fieldNames = sync.OnceValue(func() (names []string) {
	for f := range reflect.TypeFor[Numbers]().Fields() {
		names = append(names, f.Tag.Get("json"))
	}
	return names
})

// gauges are the fields before the counters.
func gauges() []string { return fieldNames()[:slices.Index(fieldNames(), "hits")] }
