package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
	"github.com/lifeguard-redis/lifeguard/monitor/server"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

// serverRules check one node alone.
func serverRules(s server.Sample) []Finding {
	var out []Finding
	add := func(f Finding) { out = append(out, f) }
	add2 := func(f Finding, ok bool) {
		if ok {
			add(f)
		}
	}
	add2(version(s))
	add2(keepalive(s))
	if n := s.RejectedConnections.Or(0); n > 0 {
		add(Finding{ID: "rejected-connections", Severity: Warning,
			What:   fmt.Sprintf("the server has rejected %s since it started %s ago: maxclients was reached", errtext.Count(n, "connection"), show.Seconds(s.Uptime.Or(0))),
			Why:    "the rejected clients got \"max number of clients reached\": there were more connections than the server accepts",
			Change: or("find out whose they are: lifeguard clients --group name", serverLine("maxclients", s.MaxClients.Or(10000)*2))})
	}
	if n := s.EvictedClients.Or(0); n > 0 {
		add(Finding{ID: "evicted-clients", Severity: Warning,
			What:   fmt.Sprintf("the server has closed %s because all clients together used more than maxmemory-clients", errtext.Count(n, "client")),
			Why:    "their commands in flight were lost; large replies that are read slowly are the usual reason",
			Change: "find out whose they are: lifeguard clients --sort mem"})
	}
	if n := s.OutputBufferKills.Or(0) + s.QueryBufferKills.Or(0); n > 0 {
		add(Finding{ID: "buffer-kills", Severity: Note,
			What:   fmt.Sprintf("the server has closed %s for a buffer that was too large", errtext.Count(n, "client")),
			Why:    "they read too slowly, as subscribers do that fall behind, or sent too much at once",
			Change: "redis.conf: client-output-buffer-limit pubsub 64mb 16mb 60   (look at lifeguard clients --sort mem first)"})
	}
	add2(replica(s))
	add2(memory(s))
	for _, g := range s.Gaps {
		if !g.Denied {
			add(Finding{ID: "not-checked", Severity: Note, What: "not checked: " + g.Source, Why: show.Clean(g.Why)})
		}
	}
	return out
}

// denied reports everything that the user may not ask for, in one finding with all rights.
func denied(gaps []server.Gap, list bool, user string) (Finding, bool) {
	f := Finding{ID: "not-checked", Severity: Note}
	var sources, rights []string
	add := func(source, right string) {
		if !slices.Contains(sources, source) {
			sources = append(sources, source)
		}
		if !slices.Contains(rights, right) {
			rights = append(rights, right)
		}
	}
	for _, g := range gaps {
		switch {
		case !g.Denied:
		case g.Source == "INFO":
			f.Severity = Warning // nearly nothing is known without it
			add(g.Source, "+info")
		default:
			add(g.Source, "+config|get")
		}
	}
	if list {
		add("CLIENT LIST", "+client|list")
	}
	if len(sources) == 0 {
		return Finding{}, false
	}
	f.What = "not checked, for lack of rights: " + strings.Join(sources, ", ")
	f.Why = "the user may not run these commands, or the service does not offer them"
	f.Change = "ACL SETUSER " + show.Clean(user) + " " + strings.Join(rights, " ")
	return f, true
}

func replica(s server.Sample) (Finding, bool) {
	if s.Role.Or("") != "slave" || s.Mode.Or("") == "cluster" {
		return Finding{}, false
	}
	return Finding{ID: "replica", Severity: Note, What: "this server is a replica",
		Why:    "clients that write to it get READONLY; its connections and settings are not the master's",
		Change: "find the master: redis-cli ROLE   (and then lifeguard doctor -h <host> -p <port>)"}, true
}

// memory warns before writes are refused. With any other policy the server makes room itself.
func memory(s server.Sample) (Finding, bool) {
	used, limit := s.UsedMemory.Or(0), s.MaxMemory.Or(0)
	if limit == 0 || s.MaxMemoryPolicy.Or("") != "noeviction" || used < limit/10*9 || s.Role.Or("") == "slave" {
		return Finding{}, false
	}
	f := Finding{ID: "maxmemory", Severity: Warning, What: fmt.Sprintf("%s of maxmemory %s are in use, and nothing is evicted (maxmemory-policy noeviction)", show.Bytes(used), show.Bytes(limit)),
		Why:    "when all of it is in use, writes get \"OOM command not allowed\"",
		Change: or(serverLine("maxmemory", roundUp(max(used, limit)/2*3)), "give keys a time to live; for a cache: redis.conf: maxmemory-policy allkeys-lru")}
	if used >= limit {
		f.Severity, f.Why = Critical, "writes get \"OOM command not allowed\" now"
	}
	return f, true
}

// at converts a version to a number: 7.4 is 704.
func at(version string) int {
	parts := strings.SplitN(version, ".", 3)
	major, err := strconv.Atoi(parts[0])
	if err != nil {
		return 0
	}
	minor := 0
	if len(parts) > 1 {
		minor, _ = strconv.Atoi(parts[1])
	}
	return major*100 + minor
}

func version(s server.Sample) (Finding, bool) {
	v, known := s.Version.Get()
	n := at(v)
	if !known || n == 0 {
		return Finding{}, false
	}
	product := s.Product.Or("redis")
	f := Finding{ID: "version", What: fmt.Sprintf("%s %s", product, v)}
	killMaxAge := product == "valkey" && n >= 800 || product != "valkey" && n >= 704
	switch {
	case product != "valkey" && n < 602:
		f.Severity = Warning
		f.What += " is old"
		f.Why = "it gets no more fixes, and CLIENT LIST does not show the server's own address of a connection; before 6.0 there are neither users nor RESP3"
		f.Change = "upgrade to Redis 7.4 or later, or to Valkey 8 or later"
	case !killMaxAge:
		f.ID, f.Severity = "no-kill-maxage", Note
		f.What += " does not know CLIENT KILL MAXAGE"
		f.Why = "connections that crashed programs left behind cannot be closed by their age with one command; lifeguard closes them one by one instead"
		if n < 702 && product != "valkey" {
			f.Why += ". CLIENT LIST does not name libraries either (7.2)"
		}
		f.Change = or("upgrade to Redis 7.4 or Valkey 8", "lifeguard clients --kill --max-age 24h --dry-run")
	default:
		f.What += " knows CLIENT KILL MAXAGE"
	}
	return f, true
}

func keepalive(s server.Sample) (Finding, bool) {
	d, known := s.TCPKeepAlive.Get()
	switch {
	case !known:
		return Finding{}, false
	case d == 0:
		return Finding{ID: "tcp-keepalive", Severity: Warning, What: "tcp-keepalive is off",
			Why:    "the server never notices that a client's host is gone: its connections stay, and count against maxclients, until somebody closes them",
			Change: serverLine("tcp-keepalive", 300)}, true
	case d > 10*time.Minute:
		return Finding{ID: "tcp-keepalive", Severity: Note, What: "tcp-keepalive is " + show.Seconds(d),
			Why:    "load balancers and firewalls drop connections that are idle for 5 to 15 minutes, and a dead client is noticed late",
			Change: serverLine("tcp-keepalive", 300)}, true
	}
	return Finding{ID: "tcp-keepalive", What: fmt.Sprintf("tcp-keepalive is %s: dead clients are noticed", show.Seconds(d))}, true
}

// fullness reports how much of maxclients is in use, for all servers in one finding: the fullest
// ones, or the range.
func fullness(all []server.Sample) (Finding, bool) {
	var shares []float64
	var limits []int64
	var worst []server.Sample
	level := OK
	for _, s := range all {
		share, known := s.ShareOfMaxClients()
		if !known {
			continue
		}
		at := OK
		switch {
		case share >= 0.95:
			at = Critical
		case share >= 0.8:
			at = Warning
		}
		if at > level {
			level, shares, limits, worst = at, nil, nil, nil
		}
		if at == level {
			shares, limits, worst = append(shares, share), append(limits, s.MaxClients.Or(0)), append(worst, s)
		}
	}
	if len(shares) == 0 {
		return Finding{}, false
	}
	used := fmt.Sprintf("%.0f %%", slices.Min(shares)*100)
	if most := fmt.Sprintf("%.0f %%", slices.Max(shares)*100); most != used {
		used += " to " + most
	}
	f := Finding{ID: "maxclients-used", Severity: level, What: used + " of maxclients are in use now"}
	if least := slices.Min(limits); least == slices.Max(limits) {
		f.What = fmt.Sprintf("%s of maxclients (%d) are in use now", used, least)
	}
	if len(all) > 1 {
		f.What += " on " + errtext.Count(len(worst), "server")
		for _, s := range worst {
			f.Nodes = append(f.Nodes, s.Node)
		}
	}
	if level > OK {
		f.Why = "at 100 % new connections get \"max number of clients reached\", those of your own tools included"
		f.Change = or("find out whose they are: lifeguard clients --group name", serverLine("maxclients", slices.Max(limits)*2))
	}
	return f, true
}

// servers returns the nodes without those that are another address of a server already in the list.
func servers(nodes []server.Sample) []server.Sample {
	seen := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(nodes), func(s server.Sample) bool {
		id, known := s.RunID.Get()
		again := known && seen[id]
		seen[id] = true
		return again
	})
}

// onceEach removes clients that are listed twice because a server has two addresses: kept are the
// nodes that servers selected from all.
func onceEach(clients []serverside.Client, all, kept []server.Sample) []serverside.Client {
	again := map[string]bool{}
	for _, s := range all {
		again[s.Node] = true
	}
	for _, s := range kept {
		again[s.Node] = false
	}
	return slices.DeleteFunc(clients, func(c serverside.Client) bool { return again[c.Node] })
}

// listRules check who is connected.
func listRules(all []serverside.Client, e Effective) []Finding {
	normal, idle, unnamed, blocked := 0, 0, 0, 0
	longest := time.Duration(0)
	for _, c := range all {
		if c.Type() != serverside.TypeNormal {
			continue
		}
		normal++
		if c.Name == "" {
			unnamed++
		}
		if c.Blocked() {
			blocked++
		} else if !c.Monitor() && c.Idle >= time.Hour {
			idle++
			longest = max(longest, c.Idle)
		}
	}
	var out []Finding
	if idle > 0 {
		f := Finding{ID: "idle-connections", Severity: Note, What: fmt.Sprintf("%s of %d sent nothing for an hour, the longest for %s", errtext.Count(idle, "connection"), normal, show.Seconds(longest)),
			Why:    "nothing needs them: their pools never shrink, or their programs are gone",
			Change: "whose are they: lifeguard clients --min-idle 1h --group name; close them: lifeguard clients --kill --max-idle 1h --dry-run"}
		if idle*2 > normal && idle >= 10 {
			f.Severity = Warning
		}
		out = append(out, f)
	}
	if unnamed > 0 {
		change := goLine("ClientName", `"orders"`, "client_name=orders")
		if e.Named {
			change = "yours have one; find out whose they are: lifeguard clients --group addr"
		}
		out = append(out, Finding{ID: "unnamed-connections", Severity: Note, What: fmt.Sprintf("%d of %s have no name", unnamed, errtext.Count(normal, "connection")),
			Why:    "when there are too many, you cannot see whose they are",
			Change: change})
	}
	if blocked > 0 {
		change := "managed.New(opt, managed.WithBlockingPool(n))   (or a client of their own)"
		if e.BlockingPool > 0 {
			change = "yours have a pool of their own; find out whose they are: lifeguard clients --group name"
		}
		out = append(out, Finding{ID: "blocked-connections", Severity: Note, What: errtext.Count(blocked, "connection") + " blocked in BLPOP, XREAD BLOCK or the like",
			Why:    "each of them occupies a connection of its pool all the time, so other commands wait",
			Change: change})
	}
	return out
}
