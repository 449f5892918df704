//go:build unix

package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Fault is something that goes wrong for a while.
type Fault struct {
	Kind    string
	At, For time.Duration
	N       int // how much of it, see strike
	Server  int // at which server, counted round
}

func (f Fault) String() string {
	return fmt.Sprintf("%s at %v for %v (server %d, %d)", f.Kind, f.At, f.For, f.Server, f.N)
}

var (
	faultKinds = []string{"flaky", "lose all", "lose some", "cut all", "cut some", "crash", "pause", "slow", "slow keys", "zero window", "thin line", "lag",
		"no route", "loading", "readonly", "masterdown", "noreplicas", "busy", "full", "push frames", "clock jump", "credentials"}
	moreFaults = map[string][]string{
		"single":   {"name moves"},
		"cluster":  {"move slots", "move slots", "failover", "failover", "crash and failover", "hang and failover", "cluster down", "tryagain"},
		"sentinel": {"failover", "failover", "crash and failover"},
	}
)

func newFault(r *rand.Rand, s Scenario) Fault {
	kinds := slices.Concat(faultKinds, moreFaults[s.Servers], moreFaults[s.Servers])
	f := Fault{Kind: pick(r, kinds...), At: between(r, time.Second, s.Length-quietEnd-5*time.Second)}
	f.For, f.N, f.Server = between(r, 100*ms, 4*time.Second), 1+r.IntN(10), r.IntN(6)
	if f.refuses() && r.IntN(2) == 0 {
		f.For = between(r, 50*ms, briefly)
	}
	return f
}

// briefly is a time that eight attempts outlast.
const briefly = 300 * ms

// refuses reports whether servers answer during the fault, and carry out nothing.
func (f Fault) refuses() bool {
	_, refuses := refusals[f.Kind]
	return refuses || f.Kind == "cluster down" || strings.HasSuffix(f.Kind, "and failover") || f.Kind == "name moves" || f.Kind == "full"
}

// strike makes a fault happen, and ends it.
func (f Fault) strike(r *run) {
	n, s := r.net, r.net.target(f)
	n.trace.add("fault", 0, "%s for %v (%s, %d)", f.Kind, f.For, s.addr, f.N)
	until := time.Now().Add(f.For)
	struck := 0
	some := func(do func(*Link)) func(*Link) { // the first N
		return func(l *Link) {
			if struck++; struck <= f.N {
				do(l)
			}
		}
	}
	line := func(set, undo func(*path)) {
		n.mu.Lock()
		set(&s.path)
		n.mu.Unlock()
		time.Sleep(f.For)
		n.mu.Lock()
		undo(&s.path)
		n.mu.Unlock()
	}
	switch f.Kind {
	case "flaky":
		line(func(p *path) { p.flaky = 1 + f.N }, func(p *path) { p.flaky = 0 })
	case "thin line":
		line(func(p *path) { p.perSecond = f.N * 10 << 10 }, func(p *path) { p.perSecond = 0 })
	case "lag":
		more := time.Duration(f.N) * 20 * ms
		line(func(p *path) { p.latency += more }, func(p *path) { p.latency -= more })
	case "no route":
		line(func(p *path) { p.noRoute = until }, func(*path) {})
	case "lose all":
		n.each(s, (*Link).lose)
	case "lose some":
		n.each(s, some((*Link).lose))
	case "cut all":
		n.each(s, func(l *Link) { l.reset("is cut") })
	case "cut some":
		n.each(s, some(func(l *Link) { l.reset("is cut") }))
	case "zero window":
		n.each(s, some(func(l *Link) { l.freeze(until) }))
	case "crash":
		s.crash(f.For)
	case "pause":
		s.set(func() { s.paused = until })
	case "slow":
		s.set(func() { s.slow = time.Duration(f.N) * 50 * ms })
		time.Sleep(f.For)
		s.set(func() { s.slow = 0 })
	case "slow keys":
		s.set(func() { s.slowKeys = time.Duration(f.N) * 200 * ms })
		time.Sleep(f.For)
		s.set(func() { s.slowKeys = 0 })
	case "credentials":
		r.noCredentials.Store(true)
		time.Sleep(f.For)
		r.noCredentials.Store(false)
	case "full":
		s.set(func() { s.full = until })
	case "push frames":
		for range f.N {
			n.each(s, func(l *Link) { l.push(push{[]byte("news"), []byte("of no interest")}) })
			time.Sleep(f.For / time.Duration(f.N))
		}
	case "clock jump":
		jump := time.Duration(f.N-5) * 10 * time.Second
		n.doubtAll()
		r.clock.Add(int64(jump))
	case "name moves":
		n.each(s, func(l *Link) {
			n.mu.Lock()
			l.stale = true
			n.mu.Unlock()
			l.harm("leads to a replica from now on")
		})
	case "move slots":
		n.move(f.N, f.For)
	case "failover":
		n.promote(s.shard)
	case "crash and failover":
		n.clusterDown(until, f)
		s.crash(f.For + time.Second)
		time.Sleep(f.For)
		n.promote(s.shard)
	case "hang and failover":
		n.clusterDown(until, f)
		s.set(func() { s.paused = until.Add(time.Second) })
		time.Sleep(f.For)
		n.promote(s.shard)
	case "cluster down":
		n.mu.Lock()
		n.down = until
		n.mu.Unlock()
	default:
		refuses, ok := refusals[f.Kind]
		if !ok {
			panic("no such fault: " + f.Kind)
		}
		refuses.until = until
		s.set(func() { s.refuses = refuses })
	}
}

// clusterDown: the others say so in every second case.
func (n *Network) clusterDown(until time.Time, f Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f.N%2 == 0 && n.slots != nil {
		n.down = until
	}
}

// target is the server that a fault strikes: a Redis, and a master if it is
// about a failover.
func (n *Network) target(f Fault) *Server {
	n.mu.Lock()
	defer n.mu.Unlock()
	var of []*Server
	for _, s := range n.servers {
		if s.sentinel == "" && (f.Server < 4 || !s.replica) {
			of = append(of, s)
		}
	}
	s := of[f.Server%len(of)]
	if master := n.masterLocked(s.shard); master != nil && f.Server%2 == 0 {
		return master
	}
	return s
}
