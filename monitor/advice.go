package monitor

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/callsite"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// Advice is a recommendation for the size of the main pool, based on what was observed.
type Advice struct {
	Node      string        `json:"node,omitempty"` // the server whose pool is the most strained; one size applies to all nodes
	PoolSize  int           `json:"pool_size"`      // now; 0: unknown
	Suggested int           `json:"suggested"`      // same as PoolSize if there is no reason to change it
	Seen      time.Duration `json:"seen_ns"`        // how long was observed
	Peak      int           `json:"peak"`           // most callers that wanted a connection at the same time
	// Load is how many connections were in use on average, by Little's law, in the busiest period:
	// how many uses a second, times how long each took.
	Load float64 `json:"load"`
	// Why explains the recommendation.
	Why string `json:"why"`
}

// String returns "pool size 10, suggested 14: ...".
func (a Advice) String() string {
	if a.PoolSize == 0 {
		return a.Why
	}
	if a.Suggested == a.PoolSize {
		return fmt.Sprintf("pool size %d: %s", a.PoolSize, a.Why)
	}
	return fmt.Sprintf("pool size %d, suggested %d: %s", a.PoolSize, a.Suggested, a.Why)
}

const (
	enoughUses    = 100                  // fewer are not significant
	shortWait     = 5 * time.Millisecond // a p99 of waits that is harmless
	longHold      = time.Second          // a mean hold that explains the waits by itself
	shrinkPeriods = 10                   // periods to observe before suggesting less, and
	shrinkAfter   = 5 * time.Minute      // for how long
)

// history is what was observed since the Monitor was made. Guarded by Monitor.sampling.
type history struct {
	since time.Time
	last  time.Time // of the latest Stats
	nodes map[string]*demand
}

type demand struct {
	peak int
	load float64
}

func (h *history) note(s *Stats) {
	if h.nodes == nil {
		h.since, h.nodes = s.Time, map[string]*demand{}
	}
	if back := h.last.Sub(s.Time); back > 0 { // the clock was set back
		h.since = h.since.Add(-back)
	}
	h.last = s.Time
	if len(s.Nodes) == 0 {
		h.noteNode("", s.Interval, &s.Numbers, &s.Recent)
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		h.noteNode(n.Name, s.Interval, &n.Numbers, &n.Recent)
	}
}

func (h *history) noteNode(name string, interval time.Duration, now, recent *Numbers) {
	d := h.nodes[name]
	if d == nil {
		if len(h.nodes) >= maxDeparted {
			return
		}
		d = &demand{}
		h.nodes[name] = d
	}
	d.peak = max(d.peak, now.PeakDemand)
	if interval > 0 {
		// A wait uses no connection; a hold that has ended may have begun long before.
		used := recent.Command.Sum + recent.Hold.Sum - min(recent.Wait.Sum, recent.Command.Sum)
		d.load = max(d.load, min(used.Seconds()/interval.Seconds(), float64(now.PeakInUse)))
	}
}

func (h *history) of(node string) (d demand) {
	if p := h.nodes[node]; p != nil {
		d = *p
	}
	return d
}

// whatToDo returns what Advice says about a node's main pool, in a few words for an alert. It
// returns "" if there is nothing to change, and if the size of the pool is not the cause of what is
// going on now: nobody waits, leases leak or are held for long, or the server is slow or unreachable.
// holders are those of the node. It expects that m.sampling is locked.
func (m *Monitor) whatToDo(node string, n, recent *Numbers, holders []Holder) string {
	done, held := recent.Command.Count+recent.Hold.Count, 0
	for _, h := range holders {
		if h.For >= longHold {
			held++
		}
	}
	busy := recent.Command.Sum - min(recent.Wait.Sum, recent.Command.Sum)
	switch {
	case n.Waiting == 0 && recent.PoolTimeouts == 0, n.LeasesOverdue > 0, 2*held >= n.Main.Size, recent.DialErrors > 0, done == 0,
		busy >= longHold*time.Duration(recent.Command.Count) && busy > 0:
		return ""
	}
	_, do := advise(n, m.past.of(node), nil, 0, false)
	return do
}

// Advice says whether the main pool has the right size, from the peaks, the waits and the times
// that connections were in use since the Monitor was made. It queries the Source. Until it has
// observed enough, it says so. In a cluster it is about the node that needs the most.
func (m *Monitor) Advice() Advice {
	s := m.Stats()
	m.sampling.Lock()
	defer m.sampling.Unlock()
	seen := s.Time.Sub(m.past.since)
	if s.Instances > 1 {
		return Advice{Seen: seen, Why: fmt.Sprintf("the numbers are those of %d instances together, a size is each one's: ask an instance", s.Instances)}
	}
	best := Advice{Seen: seen, Suggested: -1}
	consider := func(name string, n *Numbers) {
		if a, _ := advise(n, m.past.of(name), holdersOf(s.Holders, name), seen, seen >= max(shrinkPeriods*m.every, shrinkAfter)); a.Suggested > best.Suggested {
			a.Node = name
			best = a
		}
	}
	if len(s.Nodes) == 0 {
		consider("", &s.Numbers)
	}
	for i := range s.Nodes {
		if strings.HasSuffix(s.Nodes[i].Name, Blocking) {
			continue // PoolSize is not its size, and its callers wait for the server, not for a connection
		}
		consider(s.Nodes[i].Name, &s.Nodes[i].Numbers)
	}
	return best
}

// holdersOf returns the call sites that hold leases of a node, starting with those that have held
// one the longest.
func holdersOf(all []Holder, node string) (sites []string) {
	for _, h := range all {
		if site := callsite.Short(h.Site); (node == "" || h.Node == node) && site != "" && !slices.Contains(sites, site) {
			sites = append(sites, site)
		}
	}
	return sites
}

// advise is the rule; mayShrink says whether the observation was long enough. do is what to change,
// in a few words.
func advise(n *Numbers, d demand, sites []string, seen time.Duration, mayShrink bool) (a Advice, do string) {
	size := n.Main.Size
	a = Advice{PoolSize: size, Suggested: size, Seen: seen, Peak: d.peak, Load: math.Round(d.load*100) / 100}
	uses := n.Hits + n.Misses
	if uses == 0 {
		uses = n.Command.Count + n.Hold.Count
	}
	var why strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&why, format, args...) }
	switch {
	case size == 0:
		say("the size is not known")
		a.Why = why.String()
		return a, ""
	case uses < enoughUses && n.PoolTimeouts == 0:
		say("too little was seen: %s in %v", errtext.Count(uses, "use"), short(seen))
		a.Why = why.String()
		return a, ""
	}
	say("in %v %s wanted a connection at once", short(seen), upTo(d.peak))
	if d.load > 0 {
		say(", and by Little's law %.2g in use on average in the busiest period", d.load)
	}
	wait, of := n.Wait.P99, "p99 %v"
	if n.Wait.Count == 0 && n.Waits > 0 {
		wait, of = n.WaitTime/time.Duration(n.Waits), "%v on average"
	}
	waits := fmt.Sprintf("%s waited, "+of, errtext.Count(max(n.Waits, n.Wait.Count), "caller"), short(wait))
	if n.PoolTimeouts > 0 {
		waits += fmt.Sprintf(", and %d got no connection", n.PoolTimeouts)
	}
	waited := n.PoolTimeouts > 0 || n.Waits*100 >= uses && wait >= shortWait || n.Wait.Count > 0 && wait >= shortWait
	switch {
	case waited && 2*n.LeasesOverdue >= size:
		at := ""
		if len(sites) > 0 {
			at = " at " + strings.Join(sites, ", ")
		}
		say("; %s", waits)
		say("; leaks%s hold %d of %d connections: more connections will not help", at, n.LeasesOverdue, size)
	case waited && n.Hold.Count > 0 && n.Hold.Mean() >= longHold:
		say("; %s", waits)
		do = fmt.Sprintf("leases are held for %v on average: shorten them first", short(n.Hold.Mean()))
		say("; %s, a larger pool would only be held, too", do)
	case waited && d.peak >= size:
		say("; %s", waits)
		a.Suggested = max(size+1, min(scaled(d.peak, 1.25), 2*size))
		do = fmt.Sprintf("try a PoolSize of %d", a.Suggested)
		if a.Suggested == 2*size {
			say("; twice as many is a step to measure again at, for more connections than the server can serve at once only move the queue")
		} else {
			say(": %d would have done, for that peak and a quarter more", a.Suggested)
		}
	case waited:
		say("; %s", waits)
		say("; but the pool was not full: it was the dialing that took long, so keep more idle connections (MinIdleConns)")
	case mayShrink && d.peak > 0 && d.peak*2 < size:
		a.Suggested = min(size, max(2, scaled(d.peak, 1.5), int(math.Ceil(2*d.load))))
		say("; hardly anybody waited, and the peak and half of it again need %d", a.Suggested)
	case d.peak >= size:
		say("; those that waited did not wait long: the size fits")
	default:
		say("; hardly anybody waited: the size fits")
	}
	a.Why = why.String()
	return a, do
}

func scaled(n int, by float64) int { return int(math.Ceil(float64(n) * by)) }

func upTo(callers int) string {
	if callers == 1 {
		return "one caller"
	}
	return fmt.Sprintf("up to %d callers", callers)
}
