package monitor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// book turns samples into Stats: it remembers the counters at the beginning of the period.
type book struct {
	began    time.Time // of the period; zero: no period has begun
	rest     *entry
	nodes    map[string]*entry
	departed map[string]*Numbers // counters of nodes that have left
	lost     Numbers             // counters of nodes whose counting restarted
}

// entry is what the book holds about one node.
type entry struct {
	base          Numbers // when the period began
	last          Numbers // in the latest sample
	inUse, demand int     // peaks of the period
	seen          bool    // in the latest sample
}

// repeat makes a sample from the latest counters.
func (b *book) repeat() *Sample {
	s := new(Sample)
	if b.rest != nil {
		s.Rest = b.rest.last.countersOnly()
	}
	for name, e := range b.nodes {
		s.Nodes = append(s.Nodes, Node{Name: name, Numbers: e.last.countersOnly()})
	}
	return s
}

// fullestFirst returns a sorted copy.
func fullestFirst(pools []NamedPool) []NamedPool {
	pools = slices.Clone(pools)
	slices.SortFunc(pools, func(a, b NamedPool) int {
		return cmp.Or(cmp.Compare(b.Use(), a.Use()), cmp.Compare(b.Waiting, a.Waiting), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Node, b.Node))
	})
	return pools
}

// enter makes a Stats from a sample. roll means that the period is over.
func (b *book) enter(raw *Sample, now time.Time, roll bool) Stats {
	s := Stats{Time: now.Round(0), Holders: raw.holders, LastDialError: raw.LastDialError, Gaps: raw.gaps, Unknown: raw.unknown, Pools: fullestFirst(raw.Pools)}
	if !b.began.IsZero() {
		s.Interval = now.Sub(b.began)
	}
	if b.nodes == nil {
		b.nodes, b.departed, b.rest = map[string]*entry{}, map[string]*Numbers{}, &entry{}
	}
	for _, e := range b.nodes {
		e.seen = false
	}
	for i := range raw.Nodes {
		n := &raw.Nodes[i]
		e := b.nodes[n.Name]
		if e == nil {
			e = &entry{}
			b.nodes[n.Name] = e
			b.comeBack(n.Name, e)
		} else if e.seen {
			s.Gaps = append(s.Gaps, fmt.Sprintf("two nodes have the name %q: only one is counted", n.Name))
			continue
		}
		out := NodeStats{Name: n.Name}
		out.Numbers, out.Recent = b.turn(e, &n.Numbers, s.Interval > 0, roll)
		out.Rates = ratesOf(&out.Recent, s.Interval)
		s.Nodes = append(s.Nodes, out)
	}
	slices.SortFunc(s.Nodes, func(a, b NodeStats) int { return strings.Compare(a.Name, b.Name) })
	b.leave()
	s.Numbers, s.Recent = b.turn(b.rest, &raw.Rest, s.Interval > 0, roll)
	s.Rest = s.Numbers
	s.own()
	for i := range s.Nodes {
		s.add(&s.Nodes[i].Numbers)
		s.Recent.add(&s.Nodes[i].Recent)
	}
	s.addCounters(&b.lost)
	for _, n := range b.departed {
		s.addCounters(n)
	}
	s.Rates = ratesOf(&s.Recent, s.Interval)
	if roll {
		b.began = now
	}
	return s
}

// turn enters the numbers of a node. compare is false in the first period.
func (b *book) turn(e *entry, raw *Numbers, compare, roll bool) (now, recent Numbers) {
	now = *raw
	now.own()
	now.complete()
	if e.seen = true; now.restarted(&e.last) {
		b.lost.addCounters(&e.last)
		e.base = Numbers{}
	}
	e.last = now
	e.inUse, e.demand = max(e.inUse, now.PeakInUse), max(e.demand, now.PeakDemand)
	now.PeakInUse, now.PeakDemand = e.inUse, e.demand
	if compare { // a node without a base is new: all its counts are recent
		recent = now.since(&e.base)
	}
	if roll {
		e.base, e.inUse, e.demand = e.last, 0, 0
	}
	return now, recent
}

// leave keeps the counters of nodes that are not in the latest sample, so that the totals do not
// fall.
func (b *book) leave() {
	for name, e := range b.nodes {
		if !e.seen {
			last := e.last
			b.departed[name] = &last
			delete(b.nodes, name)
		}
	}
	if len(b.departed) > maxDeparted {
		for name, n := range b.departed {
			b.lost.addCounters(n)
			delete(b.departed, name)
		}
	}
}

// maxDeparted bounds how many nodes that have left are remembered by name.
const maxDeparted = 256

// comeBack adds a node that was not in the latest sample. A known node continues with its old
// counters, unless its counting restarted.
func (b *book) comeBack(name string, e *entry) {
	left := b.departed[name]
	if left == nil {
		return
	}
	delete(b.departed, name)
	e.base, e.last = *left, *left // turn notices if the counting restarted
}
