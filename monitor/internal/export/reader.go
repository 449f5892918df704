package export

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/lifeguard-redis/lifeguard/monitor"
)

// Point is a value of a Family.
type Point struct {
	Family *Family
	Node   string   // "": the whole client, or no single node
	Labels []string // as many as Family.Labels
	Value  float64
	Dist   monitor.Distribution // of a Histogram, instead of Value
}

// PeakWindow is how long a peak is shown at least; at most twice as long.
const PeakWindow = 2 * time.Minute

// Reader makes points from the Stats of a Monitor. It is safe for concurrent use.
type Reader struct {
	m      *monitor.Monitor
	remove func()

	mu    sync.Mutex
	began time.Time // start of the current half
	peaks [2]map[string]peak
}

type peak struct{ inUse, demand int }

// New makes a Reader, and starts the Monitor: peaks and alerts cover its periods. A nil Monitor is
// an error.
func New(m *monitor.Monitor) (*Reader, error) {
	if m == nil {
		return nil, errors.New("the Monitor is nil")
	}
	r := &Reader{m: m}
	r.remove = m.OnStats(func(s monitor.Stats) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.note(&s)
	})
	return r, nil
}

// Close detaches the Reader from the Monitor. Read still works. Calls after the first do nothing.
func (r *Reader) Close() { r.remove() }

// note remembers the peaks of a period. A peak is kept for one to two windows, in two halves, so
// that memory does not grow with the window.
func (r *Reader) note(s *monitor.Stats) {
	switch age := s.Time.Sub(r.began); {
	case age >= 2*PeakWindow:
		r.began, r.peaks = s.Time, [2]map[string]peak{}
	case age >= PeakWindow:
		r.began, r.peaks = s.Time, [2]map[string]peak{r.peaks[1]}
	}
	if r.peaks[1] == nil {
		r.peaks[1] = make(map[string]peak)
	}
	add := func(node string, n *monitor.Numbers) {
		p := r.peaks[1][node]
		r.peaks[1][node] = peak{max(p.inUse, n.PeakInUse), max(p.demand, n.PeakDemand)}
	}
	add("", &s.Rest)
	for i := range s.Nodes {
		add(s.Nodes[i].Name, &s.Nodes[i].Numbers)
	}
}

// highest sets the peaks of the window in n.
func (r *Reader) highest(node string, n monitor.Numbers) *monitor.Numbers {
	for _, half := range r.peaks {
		p := half[node]
		n.PeakInUse, n.PeakDemand = max(n.PeakInUse, p.inUse), max(n.PeakDemand, p.demand)
	}
	return &n
}

// Read samples the Monitor and returns everything that is known. No two points of a family have the
// same node and labels; all text is valid UTF-8.
func (r *Reader) Read() []Point {
	advice, active := r.m.Advice(), r.m.Alerts()
	s := r.m.Stats()
	b := builder{seen: map[string]bool{}}
	r.mu.Lock()
	r.note(&s)
	rest := r.highest("", s.Rest)
	nodes := make([]*monitor.Numbers, len(s.Nodes))
	for i := range s.Nodes {
		nodes[i] = r.highest(s.Nodes[i].Name, s.Nodes[i].Numbers)
	}
	r.mu.Unlock()
	b.families(families, &s, rest, nodes)
	if advice.PoolSize > 0 {
		b.put(suggested, advice.Node, float64(advice.Suggested))
	}
	b.alerts(active)
	b.put(gaps, "", float64(len(s.Gaps)))
	return b.points
}

// CheckBuckets returns what is wrong with the limits that were given to WithBuckets.
func CheckBuckets(limits []time.Duration) error {
	if len(limits) == 0 {
		return errors.New("WithBuckets: there are none")
	}
	last := time.Duration(0)
	for _, l := range limits {
		if l <= last {
			return fmt.Errorf("WithBuckets: %v after %v: they must be above 0 and rise", l, last)
		}
		last = l
	}
	return nil
}

// Durations returns only the points of the histograms. It needs no Reader.
func Durations(s *monitor.Stats) []Point {
	b := builder{seen: map[string]bool{}}
	nodes := make([]*monitor.Numbers, len(s.Nodes))
	for i := range s.Nodes {
		nodes[i] = &s.Nodes[i].Numbers
	}
	b.families(durationFamilies, s, &s.Rest, nodes)
	return b.points
}

// known reports whether all fields from which f is computed are known.
func (f *Family) known(s *monitor.Stats, of string) bool {
	for _, field := range f.fields {
		if !s.Known(of + field) {
			return false
		}
	}
	return true
}

// builder collects points.
type builder struct {
	points []Point
	seen   map[string]bool
}

// families adds the known values of fs.
func (b *builder) families(fs []*Family, s *monitor.Stats, rest *monitor.Numbers, nodes []*monitor.Numbers) {
	names, unique := make([]string, len(nodes)), uniqueNames()
	for i := range nodes {
		names[i] = unique(s.Nodes[i].Name)
	}
	for _, f := range fs {
		if f.read == nil && f.dist == nil || !f.known(s, "") || f.unless != "" && s.Known(f.unless) {
			continue
		}
		perNode := f.known(s, "nodes.")
		if perNode {
			for i, n := range nodes {
				b.numbers(f, names[i], n, true)
			}
		}
		// The value without a node is added if it has any information.
		b.numbers(f, "", rest, f.whole || !perNode || len(nodes) == 0)
	}
}

// numbers adds the values of a node. Zeros are left out unless they are wanted.
func (b *builder) numbers(f *Family, node string, n *monitor.Numbers, zeros bool) {
	if f.dist != nil {
		if d := f.dist(n); zeros || d.Count > 0 {
			b.add(Point{Family: f, Node: node, Dist: d})
		}
		return
	}
	f.read(n, func(v float64, labels ...string) {
		if zeros || v != 0 {
			b.put(f, node, v, labels...)
		}
	})
}

func (b *builder) alerts(active []monitor.Alert) {
	count := map[monitor.Level]int{}
	for _, a := range active {
		count[a.Level]++
		b.put(alert, a.Node, 1, a.Name, a.Level.String(), string(a.Metric))
	}
	for _, l := range []monitor.Level{monitor.Warning, monitor.Critical} {
		b.put(alerts, "", float64(count[l]), l.String())
	}
}

func (b *builder) put(f *Family, node string, v float64, labels ...string) {
	b.add(Point{Family: f, Node: node, Labels: labels, Value: v})
}

// add makes the text valid, and drops duplicates: one duplicate point would make the whole export
// invalid.
func (b *builder) add(p Point) {
	p.Node = strings.ToValidUTF8(p.Node, "�")
	key := p.Family.Prom + "\xff" + p.Node
	for i, l := range p.Labels {
		p.Labels[i] = strings.ToValidUTF8(l, "�")
		key += "\xff" + p.Labels[i]
	}
	if !b.seen[key] {
		b.seen[key] = true
		b.points = append(b.points, p)
	}
}

// uniqueNames makes names of nodes valid and distinct from each other and from "", which means no
// node.
func uniqueNames() func(string) string {
	used := map[string]bool{"": true}
	return func(name string) string {
		name = strings.ToValidUTF8(name, "�")
		if name == "" {
			name = "unnamed"
		}
		unique := name
		for i := 2; used[unique]; i++ {
			unique = fmt.Sprintf("%s#%d", name, i)
		}
		used[unique] = true
		return unique
	}
}
