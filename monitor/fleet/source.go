package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/server"
)

// Source is a [monitor.Source] for a whole fleet: the sums of the living instances, for each
// server. With it, everything that works on one client's numbers works on a fleet's: callbacks,
// thresholds and alerts, exporters.
//
//	src, err := fleet.NewSource(rdb)
//	m, err := monitor.New(src, monitor.WithoutDefaults(),
//		monitor.Threshold{Metric: monitor.MaxClients, Limit: 0.8})
//
// monitor.InstancesLost is how many instances are lost: Threshold{Metric: monitor.InstancesLost,
// Limit: 1} raises an alert at the first one.
//
// monitor.MaxClients is then the share of a server's maxclients that the fleet's open connections
// use; connections of others are not counted. It is known for servers to which rdb is connected
// under the same address as the fleet, for those whose maxclients the instances know, and for those
// of [WithMaxClients]; for others a gap says that it is unknown.
//
// While the fleet cannot be read, gauges are unknown: a gap says why, and an alert about maxclients
// or the use of pools neither begins nor ends. Counters never fall, also when instances come and
// go. It is safe for concurrent use.
type Source struct {
	rdb redis.UniversalClient
	c   *config

	mu     sync.Mutex
	flight chan readResult               // a read in progress, if not nil
	last   map[string]map[string]Numbers // counters by instance and node
	total  map[string]*Numbers           // the sums over all instances, by node; "": of no node
	nodes  []string                      // in the latest read
	names  map[string]string             // of servers, by what Fleet.server says
}

// NewSource makes a Source, without contacting Redis. Options: [WithName], [WithTimeout],
// [WithMaxClients].
func NewSource(rdb redis.UniversalClient, opts ...Option) (*Source, error) {
	if err := checkClient(ofSource, rdb); err != nil {
		return nil, err
	}
	c, err := configure(ofSource, opts)
	if err != nil {
		return nil, err
	}
	return &Source{rdb: rdb, c: c, last: map[string]map[string]Numbers{}, total: map[string]*Numbers{}, names: map[string]string{}}, nil
}

// readResult is the result of reading from Redis.
type readResult struct {
	fleet   Fleet
	err     error
	limits  map[string]int // maxclients by address and by run id
	limited error          // why some are missing
}

// read reads from Redis, however long that takes: go-redis may ignore ctx.
func (s *Source) read() readResult {
	ctx, cancel := context.WithTimeout(context.Background(), s.c.timeout)
	defer cancel()
	var l readResult
	if l.fleet, l.err = s.c.read(ctx, s.rdb); l.err != nil {
		return l
	}
	l.limits = map[string]int{}
	all, err := server.GetAll(ctx, s.rdb)
	l.limited = err
	for _, one := range all {
		if one.MaxClients.Known && one.MaxClients.Val > 0 {
			l.limits[one.Node] = int(one.MaxClients.Val)
			if one.RunID.Known {
				l.limits[one.RunID.Val] = int(one.MaxClients.Val)
			}
		} else {
			l.limited = errors.Join(l.limited, fmt.Errorf("%s does not report it", one.Node))
		}
	}
	return l
}

// await returns a result of read, within the timeout.
func (s *Source) await() readResult {
	if s.flight != nil { // the previous read was late: its result is old
		select {
		case <-s.flight:
			s.flight = nil
		default:
		}
	}
	if s.flight == nil {
		flight := make(chan readResult, 1)
		s.flight = flight
		go func() { flight <- s.read() }()
	}
	t := time.NewTimer(s.c.timeout)
	defer t.Stop()
	select {
	case l := <-s.flight:
		s.flight = nil
		return l
	case <-t.C:
		return readResult{err: fmt.Errorf("lifeguard/monitor/fleet: fleet %q: no answer within %v", s.c.fleet, s.c.timeout)}
	}
}

// notPublished lists the fields that instances do not publish.
var notPublished = []string{"dialing", "leases_overdue", "peak_in_use", "peak_demand", "breakers_open", "server_clients", "wait_time_ns",
	"budget_refusals", "breaker_opened", "breaker_closed", "breaker_refusals", "dial", "wait", "hold", "command"}

// gauges lists the other fields that are not counters.
var gauges = []string{"open", "idle", "in_use", "waiting", "main", "pipeline", "subscribed", "leases", "max_clients", "instances", "instances_lost"}

// Sample implements [monitor.Source]. It waits for Redis for at most [WithTimeout].
func (s *Source) Sample(to *monitor.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	to.Gap("what instances do not publish, and the clients of others", notPublished...)
	l := s.await()
	if l.err != nil {
		to.Gap("all gauges: "+l.err.Error(), gauges...)
		for _, name := range s.nodes {
			to.Nodes = append(to.Nodes, monitor.Node{Name: name, Numbers: countersOf(s.total[name])})
		}
		to.Rest = countersOf(s.total[""])
		return
	}
	for _, g := range l.fleet.Gaps {
		to.Gap(g)
	}
	s.call(&l.fleet)
	s.count(&l.fleet)
	s.nodes = nil
	var missing []string
	for _, n := range l.fleet.Nodes {
		names := append([]string{n.Name}, n.Names...)
		n.Name = s.names[l.fleet.server(&n)]
		s.nodes = append(s.nodes, n.Name)
		out := monitor.Node{Name: n.Name, Numbers: countersOf(s.total[n.Name])}
		setGauges(&out.Numbers, &n.Numbers)
		var set, said int
		for _, name := range append(names, n.Name) {
			set, said = max(set, s.c.limits[name]), max(said, l.limits[name])
		}
		out.MaxClients = cmp.Or(set, l.limits[n.RunID], said, n.MaxClients)
		if out.MaxClients == 0 {
			missing = append(missing, n.Name)
		}
		to.Nodes = append(to.Nodes, out)
	}
	to.Rest = countersOf(s.total[""])
	var rest Numbers
	for _, i := range l.fleet.Instances {
		if !i.Lost {
			rest.add(i.rest)
		}
	}
	setGauges(&to.Rest, &rest)
	to.Pools = s.pools(&l.fleet)
	to.Rest.Instances, to.Rest.InstancesLost = l.fleet.Alive, l.fleet.Lost
	if len(missing) > 0 {
		why := "this client is not connected to it under that address; see Limit"
		if l.limited != nil {
			why = l.limited.Error()
		}
		var fields []string
		if len(missing) == len(l.fleet.Nodes) {
			fields = []string{"max_clients"}
		}
		to.Gap(fmt.Sprintf("maxclients of %v: %s", missing, why), fields...)
	}
}

// pools returns the single pools of each living instance, for each server.
func (s *Source) pools(f *Fleet) (all []monitor.NamedPool) {
	for _, i := range f.Instances {
		if i.Lost {
			continue
		}
		name := fmt.Sprintf("%s on %s, PID %d", i.Service, i.Host, i.PID)
		for _, n := range append([]Node{{Numbers: i.rest}}, i.Nodes...) {
			one := monitor.Node{}
			if n.Name != "" {
				one.Name = cmp.Or(s.names[f.server(&n)], n.Name)
			}
			setGauges(&one.Numbers, &n.Numbers)
			for _, p := range one.Pools() {
				p.Name = name
				all = append(all, p)
			}
		}
	}
	return all
}

// call gives each server a name, which it keeps as long as it exists. A restarted server is a
// different one at the same address, and inherits the name.
func (s *Source) call(f *Fleet) {
	there := map[string]bool{}
	for i := range f.Nodes {
		there[f.server(&f.Nodes[i])] = true
	}
	taken := map[string]bool{}
	for key, name := range s.names {
		if !there[key] {
			delete(s.names, key)
			continue
		}
		taken[name] = true
	}
	for i := range f.Nodes {
		n := &f.Nodes[i]
		key := f.server(n)
		if s.names[key] != "" {
			continue
		}
		name := n.Name
		if taken[name] {
			name += " (" + cmp.Or(n.RunID, "?")[:min(8, len(cmp.Or(n.RunID, "?")))] + ")"
		}
		s.names[key], taken[name] = name, true
	}
}

// count adds what instances have counted since the last read.
func (s *Source) count(f *Fleet) {
	for i := range f.Instances {
		in := &f.Instances[i]
		last := s.last[in.ID]
		if last == nil {
			last = map[string]Numbers{}
			s.last[in.ID] = last
		}
		for _, n := range append([]Node{{Numbers: in.rest}}, in.Nodes...) {
			name := ""
			if n.Name != "" {
				name = cmp.Or(s.names[f.server(&n)], n.Name)
			}
			total := s.total[name]
			if total == nil {
				total = &Numbers{}
				s.total[name] = total
			}
			total.addCounters(n.since(last[n.Name]))
			last[n.Name] = n.Numbers
		}
	}
	for id := range s.last {
		if !slices.ContainsFunc(f.Instances, func(i Instance) bool { return i.ID == id }) {
			delete(s.last, id)
		}
	}
}

func setGauges(out *monitor.Numbers, n *Numbers) {
	out.Main, out.Pipeline = n.pools()
	out.Subscribed, out.Leases = n.Subscribed, n.Leases
}

func countersOf(n *Numbers) (out monitor.Numbers) {
	if n == nil {
		return out
	}
	out.Dialed, out.DialErrors, out.Hits, out.Misses = n.Dialed, n.DialErrors, n.Hits, n.Misses
	out.Waits, out.PoolTimeouts, out.UnknownOutcomes, out.Leaks = n.Waits, n.PoolTimeouts, n.UnknownOutcomes, n.Leaks
	if n.Disconnected > 0 {
		out.Closed = map[string]uint64{"disconnected": n.Disconnected}
	}
	if n.Retries > 0 {
		out.Retries = map[string]uint64{"retries": n.Retries}
	}
	return out
}
