// Package dashboard is a live page about the connections of a client: a single http.Handler that
// contains everything it needs.
//
//	page, err := dashboard.New(rdb.PoolMonitor())
//	if err != nil {
//		return err
//	}
//	http.Handle("/debug/redis", page)
//
// It shows charts of connections, waits, commands and retries, in total and per node; alerts; and
// tables of leases with their stacks, of commands in flight and of connections. The page sends
// requests only to its own server, and comes with a strict Content-Security-Policy.
//
// # Where it is mounted
//
// Anywhere: under any prefix, with and without a trailing slash, behind http.StripPrefix or not,
// behind a reverse proxy. All requests of the page differ from its own URL in the query only, so a
// pattern without a slash is enough, and the handler need not know its prefix.
//
//	GET                      the page
//	GET ?get=snapshot.json   everything at one moment, see Snapshot; the path snapshot.json below the page does the same
//	GET ?get=stream          the numbers, as server-sent events, for the page
//	GET ?get=stack&lease=7   where lease 7 was taken
//	POST ?do=evict-idle      closes idle connections, and POST ?do=reset all of them: only with [WithActions]
//
// # Who may see it
//
// It has no authentication of its own, like net/http/pprof: mount it where only authorised people
// have access, or wrap it. It shows addresses, names of commands, call sites, stacks and the labels
// of leases; never a password, a key, or an argument of a command.
//
// # What it costs
//
// Without viewers, the cost of the Monitor: a sample per period (monitor.WithInterval), of which
// the page keeps those of the last 15 minutes, in about 120 KiB. All viewers share one sampling
// loop; each table is made only while somebody has it open, at most once a second.
package dashboard
