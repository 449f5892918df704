package source

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/lifeguard-redis/lifeguard/monitor"
)

// Connections implements monitor.Lister.
func (s *Source) Connections() []monitor.Connection {
	infos := s.Tracker.Conns()
	all := make([]monitor.Connection, len(infos))
	for i, c := range infos {
		all[i] = monitor.Connection{ID: c.ID, Node: c.Node, Local: c.Local, Pool: c.Pool.String(), State: c.State.String(), TLS: c.TLS,
			Age: c.Age, Idle: c.Idle, In: c.BytesIn, Out: c.BytesOut, Command: c.LastCommand, Closing: string(c.Closing)}
	}
	return all
}

// Leases implements monitor.Lister.
func (s *Source) Leases() []monitor.Lease {
	all := []monitor.Lease{}
	for _, p := range s.Pools() {
		for _, l := range p.Leases.Oldest(math.MaxInt) {
			site, stack := l.Callers().Resolve()
			c := l.Tracked.Info()
			all = append(all, monitor.Lease{ID: l.ID, Node: c.Node, ConnID: c.ID, Site: site, Stack: stack, Label: l.Label,
				Command: c.LastCommand, InFlight: l.Running(), Held: l.For(), Reported: l.Reported()})
		}
	}
	slices.SortFunc(all, func(a, b monitor.Lease) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// EvictIdle implements monitor.Actor.
func (s *Source) EvictIdle(ctx context.Context) int { return s.Keeper.EvictIdle(ctx) }

// Reset implements monitor.Actor.
func (s *Source) Reset(ctx context.Context) int { return s.Keeper.Reset(ctx) }
