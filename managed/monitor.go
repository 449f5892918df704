package managed

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// WithMonitor makes the client's Monitor with these options and starts it: samples are taken every
// period (monitor.WithInterval, default 10 s), thresholds are checked, and alerts that no callback
// gets are logged. Default: the Monitor is not started until a callback is registered or its Start
// is called, but it counts, so that Stats can be read at any time. Options that monitor.New refuses
// are an error.
func WithMonitor(opts ...monitor.Option) Option {
	return func(s *settings) error {
		s.monitor, s.monitored = append(s.monitor, opts...), true
		return nil
	}
}

// watch makes the Monitor.
func (c *core) watch(retries func() retry.Stats) (err error) {
	c.retries = retries
	opts := append([]monitor.Option{monitor.WithLogger(c.set.log)}, c.set.monitor...)
	c.monitor, err = monitor.New(&source{core: c, nodes: map[string]*sourceNode{}}, opts...)
	if err == nil && c.set.monitored {
		c.monitor.Start()
	}
	return err
}

// source is the Source of the Monitor. Its fields are used only by Sample, which is never called
// concurrently.
type source struct {
	core  *core
	nodes map[string]*sourceNode
}

// sourceNode holds the numbers of one address: usually one unit, more for a moment when a node has
// left and come back.
type sourceNode struct {
	units []*sourceUnit
	past  monitor.Numbers // counters of units that no longer exist
}

type sourceUnit struct {
	*unit
	pools monitor.PoolCounters
	hits  uint64
	here  bool
}

// Sample implements monitor.Source.
func (s *source) Sample(sample *monitor.Sample) {
	defer s.core.keeper.WantClients() // deferred, so that a first sample does not count the query
	s.core.closeIfInsideIs()
	s.meet()
	s.holders(sample)
	for name, n := range s.nodes {
		node := monitor.Node{Name: name, Numbers: n.past.Counters()}
		var units []*sourceUnit
		for _, u := range n.units {
			var part monitor.Numbers
			u.fill(&part)
			node.Add(&part)
			if u.here {
				units = append(units, u)
				s.dialError(sample, u)
				continue
			}
			part = part.Counters()
			n.past.Add(&part)
		}
		if n.units = units; len(units) == 0 {
			delete(s.nodes, name) // the Monitor keeps what was counted
		}
		sample.Nodes = append(sample.Nodes, node)
	}
	s.tellOfServers(sample)
	if s.core.set.leakThreshold <= 0 {
		sample.Gap("overdue leases: there is no leak threshold, see WithLeakThreshold", "leases_overdue")
	}
	if s.core.calls == nil {
		return // the retries of a single server are in its numbers
	}
	s.core.addRetries(&sample.Rest)
	sample.Gap("retries, unknown outcomes and changes of breakers by node: they are counted for the whole client", "nodes.retries",
		"nodes.unknown_outcomes", "nodes.budget_refusals", "nodes.breaker_opened", "nodes.breaker_closed", "nodes.breaker_refusals")
}

func (c *core) addRetries(n *monitor.Numbers) {
	r := c.retries()
	n.UnknownOutcomes, n.BudgetRefusals = r.UnknownOutcomes, r.BudgetRefusals
	n.BreakerOpened, n.BreakerClosed, n.BreakerRefusals = r.BreakerOpened, r.BreakerClosed, r.BreakerRefusals
	n.Retries = make(map[string]uint64, len(r.RetriesByReason))
	for reason, count := range r.RetriesByReason {
		n.Retries[string(reason)] = count
	}
}

// meet adds new units and marks those that have left.
func (s *source) meet() {
	known := map[*unit]*sourceUnit{}
	for _, n := range s.nodes {
		for _, u := range n.units {
			u.here = false
			known[u.unit] = u
		}
	}
	for _, unit := range s.core.units() {
		u := known[unit]
		if u == nil {
			u = &sourceUnit{unit: unit}
			name := u.node.Addr()
			if !u.main() {
				name += " (blocking)"
			}
			n := s.nodes[name]
			if n == nil {
				n = &sourceNode{}
				s.nodes[name] = n
			}
			n.units = append(n.units, u)
		}
		u.here = true
	}
}

// holders adds those who hold a connection.
func (s *source) holders(sample *monitor.Sample) {
	t := s.core.tracker
	now, threshold := t.Now(), s.core.set.leakThreshold
	for _, u := range s.core.units() {
		for _, l := range u.leases.Oldest(math.MaxInt) {
			held := now.Sub(l.Start)
			if !sample.Holds(held) {
				continue
			}
			sample.AddHolder(monitor.Holder{Node: u.node.Addr(), Site: l.Site(), Label: l.Label, Command: l.Tracked.Info().LastCommand, For: held,
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

// fill adds the numbers of one unit.
func (u *sourceUnit) fill(n *monitor.Numbers) {
	node := u.node
	m := &u.meter
	m.note(u.rdb)
	ours := node.HitsOfOurs(func() { u.pools.Fill(n, u.rdb.Options(), u.poolStats()) })
	u.hits = max(u.hits, n.Hits-min(n.Hits, ours))
	n.Hits = u.hits // the two are read one after the other, and it must never fall
	n.PeakDemand = node.TakeSeenPeak(hooks.PoolMain) + node.TakeSeenPeak(hooks.PoolPipeline)
	n.PeakInUse = min(n.PeakDemand, node.TakePeakOpen())
	n.Dialing, n.Leases, n.LeasesOverdue = node.Dialing(), u.leases.Len(), u.leases.Overdue()
	n.Dialed = node.Opened()
	_, n.DialErrors = node.Dials()
	ends := node.CloseReasons()
	n.Closed = make(map[string]uint64, len(ends))
	for reason, count := range ends {
		n.Closed[string(reason)] = count
	}
	n.HealthChanges = node.HealthChanges()
	n.Leaks = u.leases.Leaks.Load()
	gaveUp := m.givenUp.Load()
	n.PoolTimeoutsCtx = gaveUp
	n.Waits, n.PoolTimeouts, n.WaitTime = n.Waits+gaveUp, n.PoolTimeouts+gaveUp, n.WaitTime+time.Duration(m.lost.Load())
	n.Dial, n.Wait, n.Hold, n.Command = m.Dial.Snapshot(), m.Wait.Snapshot(), u.leases.Hold.Snapshot(), m.Command.Snapshot()
	if u.breaker != nil && u.breaker.BreakerOpen() {
		n.BreakersOpen = 1
	}
	if u.core.calls == nil && u.main() {
		u.core.addRetries(n)
	}
	n.ServerClients, n.MaxClients, _ = u.keep.Clients()
}

func (s *source) dialError(sample *monitor.Sample, u *sourceUnit) {
	f := u.node.LastDialFailure()
	if f == nil || sample.LastDialError != nil && !f.Time.After(sample.LastDialError.Time) {
		return
	}
	sample.LastDialError = &monitor.DialError{Time: f.Time.Round(0), Node: u.node.Addr(), Err: errtext.Brief(f.Err)}
}

// tellOfServers reports gaps where it is unknown how many clients a server has and accepts.
func (s *source) tellOfServers(sample *monitor.Sample) {
	known := false
	servers := map[string][]string{} // by what is wrong
	for _, u := range s.core.units() {
		if !u.main() {
			continue // the same server again
		}
		_, most, text := u.keep.Clients()
		if most > 0 {
			known = true
			continue
		}
		if text == "" {
			text = "not known yet"
		}
		servers[text] = append(servers[text], u.node.Addr())
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

// Connections implements monitor.Lister.
func (s *source) Connections() []monitor.Connection {
	infos := s.core.tracker.Conns()
	all := make([]monitor.Connection, len(infos))
	for i, c := range infos {
		all[i] = monitor.Connection{ID: c.ID, Node: c.Node, Local: c.Local, Pool: c.Pool.String(), State: c.State.String(), TLS: c.TLS,
			Age: c.Age, Idle: c.Idle, In: c.BytesIn, Out: c.BytesOut, Command: c.LastCommand, Closing: string(c.Closing)}
	}
	return all
}

// Leases implements monitor.Lister.
func (s *source) Leases() []monitor.Lease {
	infos := s.core.Leases()
	all := make([]monitor.Lease, len(infos))
	for i, l := range infos {
		all[i] = monitor.Lease{ID: l.ID, Node: l.Conn.Node, ConnID: l.Conn.ID, Site: l.Site(), Stack: l.Stack(), Label: l.Label,
			Command: l.Conn.LastCommand, InFlight: l.InFlight, Held: l.Age, Reported: l.Reported}
	}
	return all
}

// EvictIdle implements monitor.Actor.
func (s *source) EvictIdle(ctx context.Context) int { return s.core.EvictIdle(ctx) }

// Reset implements monitor.Actor.
func (s *source) Reset(ctx context.Context) int { return s.core.Reset(ctx) }
