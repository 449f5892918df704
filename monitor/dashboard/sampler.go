package dashboard

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/lifeguard-redis/lifeguard/monitor"
)

// sampler queries the Monitor, and remembers the previous result.
type sampler struct {
	m     *monitor.Monitor
	stats monitor.Stats
	nodes map[string]*monitor.Numbers // of stats; "" has the totals

	alerts *alertLog // shared by all loops
	advice monitor.Advice
	asked  time.Time // when advice was last requested
}

// point is a sample at one moment.
type point struct {
	at    int64 // Unix time in ms
	all   values
	nodes []nodeValues
	pools []monitor.NamedPool // of a fleet's instances, the fullest first
}

type nodeValues struct {
	name string
	v    values
}

// sample takes a point. If the Source fails, everything in the point is unknown.
func (l *sampler) sample() point {
	s := l.m.Stats()
	d := s.Time.Sub(l.stats.Time)
	p := pointOf(&s, func(now, recent *monitor.Numbers, name string, known *mask) values {
		before := l.nodes[name]
		if before == nil { // for the first point: the Monitor knows the previous numbers
			return valuesOfPeriod(now, recent, s.Interval, known)
		}
		return valuesOf(now, before, d, known)
	})
	l.stats, l.nodes = s, map[string]*monitor.Numbers{"": &s.Numbers}
	for i := range s.Nodes {
		l.nodes[s.Nodes[i].Name] = &s.Nodes[i].Numbers
	}
	return p
}

// pointOf makes a point with the values of the whole client, whose name is "", and of each node.
func pointOf(s *monitor.Stats, valuesFor func(now, recent *monitor.Numbers, name string, known *mask) values) point {
	p := point{at: s.Time.UnixMilli(), nodes: make([]nodeValues, 0, len(s.Nodes)), pools: s.Pools}
	known, ofNodes := maskOf(s, ""), maskOf(s, "nodes.")
	p.all = valuesFor(&s.Numbers, &s.Recent, "", &known)
	p.all[vUse] = useOf(s, "", &known)
	for i := range s.Nodes {
		n := &s.Nodes[i]
		v := valuesFor(&n.Numbers, &n.Recent, n.Name, &ofNodes)
		v[vUse] = useOf(s, n.Name, &ofNodes)
		p.nodes = append(p.nodes, nodeValues{n.Name, v})
	}
	return p
}

func useOf(s *monitor.Stats, node string, known *mask) float64 {
	if fullest, ok := s.FullestPool(node); ok && known[vUse] {
		return percent(fullest.Use())
	}
	return unknown
}

// pointOfPeriod makes the point of a Monitor's period.
func pointOfPeriod(s *monitor.Stats) point {
	return pointOf(s, func(now, recent *monitor.Numbers, _ string, known *mask) values {
		return valuesOfPeriod(now, recent, s.Interval, known)
	})
}

// maxPools is how many pools of a fleet a point has; the page shows fewer.
const maxPools = 50

// event writes the point: {"t":1,"all":[...],"nodes":{"a:1":[...]}}, for a fleet with
// "pools":[["name","node","kind",inUse,size,waiting],...] and how many "morePools" there are.
func (p *point) event() []byte {
	b := make([]byte, 0, 256+len(p.nodes)*160)
	b = append(b, "id: "...)
	b = strconv.AppendInt(b, p.at, 10)
	b = append(b, "\nevent: point\ndata: {\"t\":"...)
	b = strconv.AppendInt(b, p.at, 10)
	b = p.all.appendTo(append(b, `,"all":`...))
	b = append(b, `,"nodes":{`...)
	for i := range p.nodes {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, p.nodes[i].name), ':')
		b = p.nodes[i].v.appendTo(b)
	}
	b = append(b, '}')
	if len(p.pools) > 0 {
		b = append(b, `,"pools":[`...)
		shown := p.pools[:min(len(p.pools), maxPools)]
		for i := range shown {
			n := &shown[i]
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(append(b, '['), n.Name)
			b = appendString(append(b, ','), n.Node)
			b = appendString(append(b, ','), n.Kind)
			for _, x := range []int{n.InUse, n.Size, n.Waiting} {
				b = strconv.AppendInt(append(b, ','), int64(x), 10)
			}
			b = append(b, ']')
		}
		b = append(b, `],"morePools":`...)
		b = strconv.AppendInt(b, int64(len(p.pools)-len(shown)), 10)
	}
	return append(b, "}\n\n"...)
}

// adviceEvery is how often advice is requested, which makes the Monitor take a sample.
const adviceEvery = 5 * time.Second

// summary holds what has no line in a chart.
type summary struct {
	At       int64              `json:"t"`
	Watching bool               `json:"watching"` // for alerts
	Alerts   []alert            `json:"alerts"`
	Over     []alert            `json:"over"` // the latest first
	Gaps     []string           `json:"gaps"`
	Advice   string             `json:"advice"`
	DialErr  *monitor.DialError `json:"dialError"`
	Closed   map[string]uint64  `json:"closed"` // null: not known
	Retries  map[string]uint64  `json:"retries"`
	Counts   map[string]uint64  `json:"counts"`
}

func (l *sampler) summary() []byte {
	s := &l.stats
	if time.Since(l.asked) >= adviceEvery {
		l.advice, l.asked = l.m.Advice(), time.Now()
	}
	now, over := l.alerts.note(l.m, s.Time)
	out := summary{At: s.Time.UnixMilli(), Watching: l.m.Running(), Alerts: now, Over: over, Gaps: s.Gaps,
		Advice: l.advice.String(), DialErr: hideIn(s.LastDialError), Counts: map[string]uint64{}}
	if s.Known("closed") {
		out.Closed = some(s.Closed)
	}
	if s.Known("retries") {
		out.Retries = some(s.Retries)
	}
	for field, n := range map[string]uint64{"command": s.Command.Count, "hits": s.Hits, "misses": s.Misses, "waits": s.Waits,
		"pool_timeouts": s.PoolTimeouts, "dialed": s.Dialed, "dial_errors": s.DialErrors, "unknown_outcomes": s.UnknownOutcomes,
		"budget_refusals": s.BudgetRefusals, "breaker_opened": s.BreakerOpened, "breaker_refusals": s.BreakerRefusals, "leaks": s.Leaks} {
		if s.Known(field) {
			out.Counts[field] = n
		}
	}
	return eventOf("summary", out)
}

// some returns m, and {} instead of null.
func some(m map[string]uint64) map[string]uint64 {
	if m == nil {
		m = map[string]uint64{}
	}
	return m
}

// tables returns the parts that viewers want.
func (l *sampler) tables(wanted [numParts]bool) (events []event) {
	add := func(p part, data []byte) { events = append(events, event{p, data}) }
	if wanted[partLeases] {
		add(partLeases, leasesEvent(leasesOf(l.m)))
	}
	if !wanted[partConns] && !wanted[partBusy] {
		return events
	}
	conns, known, failed := connsOf(l.m)
	if wanted[partConns] {
		add(partConns, connsEvent(partConns, conns, known, failed))
	}
	if wanted[partBusy] {
		leases, _, _ := leasesOf(l.m)
		add(partBusy, connsEvent(partBusy, inFlight(conns, leases), known, failed))
	}
	return events
}

// leasesOf and connsOf recover from a Source that panics.
func leasesOf(m *monitor.Monitor) (all []monitor.Lease, known bool, failed string) {
	defer catch(&failed)
	all, known = m.Leases()
	return all, known, ""
}

func connsOf(m *monitor.Monitor) (all []monitor.Connection, known bool, failed string) {
	defer catch(&failed)
	all, known = m.Connections()
	return all, known, ""
}

func catch(failed *string) {
	if p := recover(); p != nil {
		*failed = fmt.Sprintf("the source panicked: %v", p)
	}
}

func eventOf(name string, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // numbers, strings and maps of them: not possible
		b, _ = json.Marshal(map[string]string{"error": err.Error()})
	}
	return append(append([]byte("event: "+name+"\ndata: "), b...), "\n\n"...)
}
