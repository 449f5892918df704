// Package dashboard is a live page about the connections of a client: one
// http.Handler, with everything it needs inside.
//
//	page, err := dashboard.New(rdb.PoolMonitor())
//	if err != nil {
//		return err
//	}
//	http.Handle("/debug/redis", page)
//
// It shows charts of connections, waits, commands and retries, in all and per node;
// alerts; and tables of leases with their stacks, of commands in flight and of
// connections. It asks nobody but its own server, needs no network beyond that, and
// comes with a strict Content-Security-Policy.
//
// # Where it is mounted
//
// Anywhere: under any prefix, with and without a slash at its end, behind
// http.StripPrefix or not, behind a reverse proxy. All that the page asks for
// differs from its own address in the query only, so a pattern without a slash is
// enough, and the handler need not know its prefix.
//
//	GET                      the page
//	GET ?get=snapshot.json   everything at one moment, see Snapshot; the path snapshot.json below the page does the same
//	GET ?get=stream          the numbers, as server-sent events, for the page
//	GET ?get=stack&lease=7   where lease 7 was taken
//	POST ?do=evict-idle      closes idle connections, and POST ?do=reset all of them: only with [WithActions]
//
// # Who may see it
//
// It has no authentication of its own, like net/http/pprof: mount it where only your
// own people get, or wrap it. It shows addresses, names of commands, call sites,
// stacks and the labels of leases; never a password, a key, or an argument of a
// command.
//
// # What it costs
//
// Without viewers, what the Monitor costs: a sample a period (monitor.WithInterval), of
// which the page keeps those of the last 15 minutes, in about 120 KiB. All who look
// share one sampling loop; each table is made only while somebody has it open, once a
// second at most.
package dashboard
