package source

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
	"github.com/lifeguard-redis/lifeguard/internal/upkeep"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// Source is the Source of a client's Monitor. Its exported fields are set before its first use.
type Source struct {
	Tracker       *conntrack.Tracker
	Keeper        *upkeep.Keeper
	LeakThreshold time.Duration // 0 or negative: none
	Pools         func() []*Pool
	Retries       func() retry.Stats
	Several       bool   // the client has several nodes
	Before        func() // called before each sample

	nodes map[string]*node // used only by Sample, which is never called concurrently
}

// node holds the numbers of one address: usually one pool, more for a moment when a node has left
// and come back.
type node struct {
	pools []*sampled
	past  monitor.Numbers // counters of pools that no longer exist
}

type sampled struct {
	*Pool
	counters monitor.PoolCounters
	hits     uint64
	exists   bool
}

// Sample implements monitor.Source.
func (s *Source) Sample(sample *monitor.Sample) {
	defer s.Keeper.WantClients() // deferred, so that a first sample does not count the query
	s.Before()
	s.update()
	s.holders(sample)
	for name, n := range s.nodes {
		node := monitor.Node{Name: name, Numbers: n.past.Counters()}
		var pools []*sampled
		for _, p := range n.pools {
			var part monitor.Numbers
			p.fill(&part)
			if !s.Several && !p.Blocking {
				s.addRetries(&part)
			}
			node.Add(&part)
			if p.exists {
				pools = append(pools, p)
				s.dialError(sample, p)
				continue
			}
			part = part.Counters()
			n.past.Add(&part)
		}
		if n.pools = pools; len(pools) == 0 {
			delete(s.nodes, name) // the Monitor keeps what was counted
		}
		sample.Nodes = append(sample.Nodes, node)
	}
	s.addServers(sample)
	if s.LeakThreshold <= 0 {
		sample.Gap("overdue leases: there is no leak threshold, see WithLeakThreshold", "leases_overdue")
	}
	if !s.Several {
		return // the retries of a single server are in its numbers
	}
	s.addRetries(&sample.Rest)
	sample.Gap("retries, unknown outcomes and changes of breakers by node: they are counted for the whole client", "nodes.retries",
		"nodes.unknown_outcomes", "nodes.budget_refusals", "nodes.breaker_opened", "nodes.breaker_closed", "nodes.breaker_refusals")
}

func (s *Source) addRetries(n *monitor.Numbers) {
	r := s.Retries()
	n.UnknownOutcomes, n.BudgetRefusals = r.UnknownOutcomes, r.BudgetRefusals
	n.BreakerOpened, n.BreakerClosed, n.BreakerRefusals = r.BreakerOpened, r.BreakerClosed, r.BreakerRefusals
	n.Retries = make(map[string]uint64, len(r.RetriesByReason))
	for reason, count := range r.RetriesByReason {
		n.Retries[string(reason)] = count
	}
}

// update adds new pools and marks those that no longer exist.
func (s *Source) update() {
	known := map[*Pool]*sampled{}
	for _, n := range s.nodes {
		for _, p := range n.pools {
			p.exists = false
			known[p.Pool] = p
		}
	}
	for _, p := range s.Pools() {
		u := known[p]
		if u == nil {
			u = &sampled{Pool: p}
			name := p.Node.Addr()
			if p.Blocking {
				name += monitor.Blocking
			}
			n := s.nodes[name]
			if n == nil {
				n = &node{}
				if s.nodes == nil {
					s.nodes = map[string]*node{}
				}
				s.nodes[name] = n
			}
			n.pools = append(n.pools, u)
		}
		u.exists = true
	}
}

// holders adds those who hold a connection.
func (s *Source) holders(sample *monitor.Sample) {
	t, threshold := s.Tracker, s.LeakThreshold
	for _, p := range s.Pools() {
		for _, l := range p.Leases.Oldest(math.MaxInt) {
			held := l.For()
			if !sample.Holds(held) {
				continue
			}
			sample.AddHolder(monitor.Holder{Node: p.Node.Addr(), Site: l.Site(), Label: l.Label, Command: l.Tracked.Info().LastCommand, For: held,
				Overdue: threshold > 0 && held >= threshold})
		}
	}
	elapsed := t.Elapsed()
	t.Range(func(c *conntrack.Conn) bool {
		v := c.View()
		if !v.Ready || !v.Awaiting || v.Leased || v.PubSub || !sample.Holds(elapsed-v.LastUsed) {
			return true
		}
		i := c.Info()
		sample.AddHolder(monitor.Holder{Node: i.Node, Command: i.LastCommand, For: i.Idle})
		return true
	})
}

func (s *Source) dialError(sample *monitor.Sample, p *sampled) {
	f := p.Node.LastDialFailure()
	if f == nil || sample.LastDialError != nil && !f.Time.After(sample.LastDialError.Time) {
		return
	}
	sample.LastDialError = &monitor.DialError{Time: f.Time.Round(0), Node: p.Node.Addr(), Err: errtext.Brief(f.Err)}
}

// addServers reports gaps where it is unknown how many clients a server has and accepts.
func (s *Source) addServers(sample *monitor.Sample) {
	known := false
	servers := map[string][]string{} // by what is wrong
	for _, p := range s.Pools() {
		if p.Blocking {
			continue // the same server again
		}
		_, most, text := p.Upkeep.Clients()
		if most > 0 {
			known = true
			continue
		}
		if text == "" {
			text = "not known yet"
		}
		servers[text] = append(servers[text], p.Node.Addr())
	}
	for _, why := range slices.Sorted(maps.Keys(servers)) {
		text := fmt.Sprintf("the clients and maxclients of the server %s: %s", servers[why][0], why)
		if n := len(servers[why]); n > 1 {
			text = fmt.Sprintf("the clients and maxclients of %d servers, as %s: %s", n, servers[why][0], why)
		}
		if known {
			sample.Gap(text)
		} else {
			sample.Gap(text, "max_clients", "server_clients")
		}
	}
}
