package serverside

import (
	"reflect"
	"slices"
	"time"
)

// Fleet knows the connections of the living members; *fleet.Members of monitor/fleet implements it.
type Fleet interface {
	// Live reports whether a connection may belong to a living member, given the address of the
	// client's end, its name, and its age as the server reports it. It is called like
	// Policy.Spare.
	Live(addr, name string, age time.Duration) bool
}

// SpareLive spares clients that may belong to a living member of the fleet, so that only
// connections of dead members are closed. A nil fleet spares everybody.
//
//	live, err := fleet.NewMembers(rdb)
//	r, err := serverside.NewReaper(rdb, serverside.Policy{User: "web", MaxIdle: time.Hour, Spare: serverside.SpareLive(live)})
func SpareLive(fleet Fleet) func(Client) bool {
	if v := reflect.ValueOf(fleet); fleet == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		return func(Client) bool { return true }
	}
	return func(c Client) bool { return fleet.Live(c.Addr, c.Name, c.Age) }
}

// SpareNames spares clients whose name matches one of the patterns (as in Filter.Name). Names are
// the most robust way to mark a fleet's pools: they work across hosts, proxies and address
// translation. An invalid pattern spares everybody.
func SpareNames(patterns ...string) func(Client) bool {
	patterns = slices.Clone(patterns)
	for _, p := range patterns {
		if checkGlob(p) != nil {
			return func(Client) bool { return true }
		}
	}
	return func(c Client) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return glob(p, c.Name) })
	}
}

// SpareIDs spares clients by id, as returned by CLIENT ID. live is called once for each client. Ids
// belong to one server: on clusters use names.
func SpareIDs(live func() []int64) func(Client) bool {
	return func(c Client) bool { return slices.Contains(live(), c.ID) }
}

// SpareAddrs spares clients by the address of their end (ip:port), which equals the local address
// of the connection unless something translates addresses on the way. live is called once for each
// client.
func SpareAddrs(live func() []string) func(Client) bool {
	return func(c Client) bool { return slices.Contains(live(), c.Addr) }
}

// SpareAny spares clients that any of the given functions spares.
func SpareAny(spare ...func(Client) bool) func(Client) bool {
	spare = slices.Clone(spare)
	return func(c Client) bool {
		return slices.ContainsFunc(spare, func(f func(Client) bool) bool { return f(c) })
	}
}
