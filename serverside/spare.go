package serverside

import "slices"

// SpareNames spares clients whose name fits one of the patterns (as
// Filter.Name). Names are the most robust mark of a fleet's pools: they hold
// across hosts, proxies and address translation. A pattern that is not valid
// spares everybody.
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

// SpareIDs spares clients by id, as CLIENT ID gives it. live is asked once for
// each client. Ids are those of one server: on clusters use names.
func SpareIDs(live func() []int64) func(Client) bool {
	return func(c Client) bool { return slices.Contains(live(), c.ID) }
}

// SpareAddrs spares clients by the address of their end (ip:port), which is the
// local address of the connection where nothing translates addresses on the way.
// live is asked once for each client.
func SpareAddrs(live func() []string) func(Client) bool {
	return func(c Client) bool { return slices.Contains(live(), c.Addr) }
}

// SpareAny spares clients that any of the functions spares.
func SpareAny(spare ...func(Client) bool) func(Client) bool {
	spare = slices.Clone(spare)
	return func(c Client) bool {
		return slices.ContainsFunc(spare, func(f func(Client) bool) bool { return f(c) })
	}
}
