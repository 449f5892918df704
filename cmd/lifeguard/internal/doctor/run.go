package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/target"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
	"github.com/lifeguard-redis/lifeguard/monitor/server"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

// Limits of measuring the round trip: number of PINGs and total time.
const (
	pings   = 100
	pingFor = 2 * time.Second
)

// RoundTrip is how long PINGs took, on one connection that was already in use.
type RoundTrip struct {
	Node   string        `json:"node"`
	Count  int           `json:"count"` // 0: it could not be measured
	Median time.Duration `json:"median_ns"`
	P99    time.Duration `json:"p99_ns"`
}

func roundTrip(node string, all []time.Duration) RoundTrip {
	r := RoundTrip{Node: node, Count: len(all)}
	if len(all) > 0 {
		slices.Sort(all)
		r.Median, r.P99 = all[len(all)/2], all[len(all)*99/100]
	}
	return r
}

// Report is the result of an examination. It is a value.
type Report struct {
	Server     string          `json:"server"`
	Nodes      []server.Sample `json:"nodes"`
	RoundTrips []RoundTrip     `json:"round_trips"`
	Client     Effective       `json:"client"`
	Findings   []Finding       `json:"findings"` // the worst first
	Worst      Severity        `json:"worst"`
}

// Examine runs all checks. An error means that some could not be run; the report has the results of
// the others.
func Examine(ctx context.Context, t *target.Target, c Client) (Report, error) {
	r := Report{Server: t.Name, Client: c.effective()}
	samples, err := server.GetAll(ctx, t.UniversalClient)
	if len(samples) == 0 && err != nil {
		return r, t.Explain(err)
	}
	r.Nodes = samples
	var mu sync.Mutex
	err = errors.Join(err, t.EachNode(ctx, func(ctx context.Context, node *redis.Client) error {
		all, err := target.RoundTrips(ctx, node, pings, pingFor)
		if redis.IsPermissionError(err) {
			err = nil // the rules work without it
		}
		mu.Lock()
		defer mu.Unlock()
		r.RoundTrips = append(r.RoundTrips, roundTrip(node.Options().Addr, all))
		return err
	}))
	slices.SortFunc(r.RoundTrips, func(a, b RoundTrip) int { return strings.Compare(a.Node, b.Node) })
	var found []Finding
	if i := slices.IndexFunc(samples, func(s server.Sample) bool { return s.Mode.Or("") == "sentinel" }); i >= 0 {
		r.Findings = []Finding{sentinel(ctx, t)}
		r.Worst = worst(r.Findings)
		return r, nil
	}
	slowest := RoundTrip{}
	for _, m := range r.RoundTrips {
		if m.Count > 0 && m.Median >= slowest.Median {
			slowest = m
		}
	}
	all := samples
	samples = servers(all)
	if f, ok := fullness(samples); ok {
		found = append(found, f)
	}
	for _, s := range samples {
		for _, f := range append(serverRules(s), bothRules(s, slowest, r.Client)...) {
			if t.Cluster {
				f.Nodes = []string{s.Node}
			}
			found = append(found, f)
		}
		if s.Mode.Or("") == "cluster" && !t.Cluster {
			found = append(found, Finding{ID: "one-node", Severity: Note, What: "the server belongs to a cluster, and only this node was checked",
				Why: "the other nodes have settings, connections and limits of their own", Change: "lifeguard doctor --cluster"})
		}
	}
	judged := timeRules(slowest, r.Client)
	var pageErr error
	if c.Page != "" {
		var running *Running
		if running, pageErr = ReadPage(ctx, c.Page); pageErr == nil {
			judged = slices.DeleteFunc(judged, func(f Finding) bool { return f.ID == poolSize && f.Severity == OK })
			judged = append(judged, runningPool(running, slowest))
		} else {
			pageErr = fmt.Errorf("--monitor: %w", pageErr)
		}
	}
	found = append(found, judged...)
	found = append(found, clientRules(r.Client)...)
	clients, listErr := t.Clients(ctx, serverside.Filter{})
	noList := errors.Is(listErr, serverside.ErrDenied) && len(clients) == 0
	if !noList {
		err = errors.Join(err, listErr)
		found = append(found, listRules(onceEach(clients, all, samples), r.Client)...)
	}
	var gaps []server.Gap
	for _, s := range samples {
		gaps = append(gaps, s.Gaps...)
	}
	if f, ok := denied(gaps, noList, cmp.Or(t.Options.Username, "default")); ok {
		found = append(found, f)
	}
	if !target.Loopback(t.Options) && t.Options.TLSConfig == nil && t.Options.Password != "" {
		found = append(found, Finding{ID: "plain-text", Severity: Warning, What: "the password goes over the network in plain text",
			Why: "anyone who can listen on the network can read it, and everything else", Change: "rediss:// in the URL, or --tls; on the server tls-port 6380 and port 0"})
	}
	if t.Cluster {
		for i := range found {
			found[i].Change = forClusters.Replace(found[i].Change)
		}
	}
	r.Findings = merge(found)
	r.Worst = worst(r.Findings)
	if err != nil {
		err = t.Explain(err)
	}
	return r, errors.Join(err, pageErr)
}

// forClusters rewrites advice about a client for a cluster client.
var forClusters = strings.NewReplacer("redis.Options{", "redis.ClusterOptions{", "managed.NewClient(", "managed.NewClusterClient(", "managed.New(", "managed.NewCluster(")

// sentinel reports about a Sentinel: where the masters are.
func sentinel(ctx context.Context, t *target.Target) Finding {
	f := Finding{ID: "sentinel", Severity: Warning, What: "this is a Sentinel: ask it for the master, and examine that",
		Why: "a Sentinel has no data and no clients of yours; its settings say nothing about them", Change: "redis-cli SENTINEL get-master-addr-by-name <name>   (and then lifeguard doctor -h <host> -p <port>)"}
	all, err := t.Do(ctx, "SENTINEL", "MASTERS").Slice()
	if err != nil {
		return f
	}
	var lines []string
	for _, one := range all {
		m := map[string]string{}
		switch one := one.(type) {
		case []any:
			for i := 0; i+1 < len(one); i += 2 {
				m[fmt.Sprint(one[i])] = fmt.Sprint(one[i+1])
			}
		case map[any]any:
			for k, v := range one {
				m[fmt.Sprint(k)] = fmt.Sprint(v)
			}
		}
		if m["ip"] != "" && m["port"] != "" {
			lines = append(lines, show.Clean(fmt.Sprintf("lifeguard doctor -h %s -p %s   (the master of %s)", m["ip"], m["port"], m["name"])))
		}
	}
	if len(lines) > 0 {
		slices.Sort(lines)
		f.Change = or(lines...)
	}
	return f
}

// Print writes the report as text, in lines of at most width columns.
func (r Report) Print(w io.Writer, style show.Style, width int) {
	head := func(name, text string) {
		fmt.Fprintf(w, "%s %s\n", style.Bold(fmt.Sprintf("%-11s", name)), show.Wrap(show.Clean(text), width, 12))
	}
	for _, s := range r.Nodes {
		head("Server", describe(s))
	}
	for _, m := range r.RoundTrips {
		if m.Count == 0 {
			continue
		}
		text := fmt.Sprintf("%s median, %s for 99 %% of %d PINGs", show.Short(m.Median), show.Short(m.P99), m.Count)
		if len(r.RoundTrips) > 1 {
			text = m.Node + ": " + text
		}
		head("Round trip", text)
	}
	e := r.Client
	head("Client", e.String())
	head("", fmt.Sprintf("%s of up to %d connections; maximum age %s, idle time %s, read timeout %s, pool timeout %s", errtext.Count(e.Instances, "instance"), e.PerInstance,
		idleTime(e.MaxAge), idleTime(e.MaxIdle), noneOr(e.ReadTimeout), noneOr(e.PoolTimeout)))
	var fine []Finding
	for _, f := range r.Findings {
		if f.Severity == OK {
			fine = append(fine, f)
			continue
		}
		label := fmt.Sprintf("%-8s", strings.ToUpper(f.Severity.String()))
		switch f.Severity {
		case Critical:
			label = style.Red(label)
		case Warning:
			label = style.Yellow(label)
		}
		fmt.Fprintf(w, "\n%s  %s\n", label, style.Bold(show.Wrap(f.What, width, 10)))
		if len(f.Nodes) > 0 && len(f.Nodes) < len(r.Nodes) {
			fmt.Fprintf(w, "  on      %s\n", show.Wrap(strings.Join(f.Nodes, ", "), width, 10))
		}
		if f.Why != "" {
			fmt.Fprintf(w, "  why     %s\n", show.Wrap(f.Why, width, 10))
		}
		for i, line := range strings.Split(f.Change, "\nor: ") {
			name := "change"
			if i > 0 {
				name = "or"
			}
			if line == "" {
				continue
			}
			line, remark, found := strings.Cut(line, "   (")
			switch {
			case !found:
				fmt.Fprintf(w, "  %-6s  %s\n", name, style.Green(line))
			case len(line)+len(remark)+12 > width:
				fmt.Fprintf(w, "  %-6s  %s\n          %s\n", name, style.Green(line), style.Dim("("+remark))
			default:
				fmt.Fprintf(w, "  %-6s  %s  %s\n", name, style.Green(line), style.Dim("("+remark))
			}
		}
	}
	if len(fine) > 0 {
		fmt.Fprintf(w, "\n")
		for _, f := range fine {
			where := ""
			if len(f.Nodes) > 0 && len(f.Nodes) < len(r.Nodes) {
				where = " (" + strings.Join(f.Nodes, ", ") + ")"
			}
			fmt.Fprintf(w, "%s  %s\n", style.Dim("OK      "), style.Dim(show.Wrap(f.What+where, width, 10)))
		}
	}
	fmt.Fprintf(w, "\n%s\n", style.Bold(r.summary()))
}

func (r Report) summary() string {
	var parts []string
	for s := Critical; s > OK; s-- {
		n := 0
		for _, f := range r.Findings {
			if f.Severity == s {
				n++
			}
		}
		switch {
		case n > 0 && s == Critical:
			parts = append(parts, fmt.Sprintf("%d critical", n))
		case n > 0:
			parts = append(parts, errtext.Count(n, s.String()))
		}
	}
	if len(parts) == 0 {
		return "Nothing found that will hurt."
	}
	return strings.Join(parts, ", ") + "."
}

func noneOr(d time.Duration) string {
	if d == 0 {
		return "none"
	}
	return show.Short(d)
}

func describe(s server.Sample) string {
	parts := []string{s.Node, strings.TrimSpace(s.Product.Or("") + " " + s.Version.Or("")), s.Mode.Or(""), s.Role.Or("")}
	if up, ok := s.Uptime.Get(); ok {
		parts = append(parts, "up "+show.Seconds(up))
	}
	if n, ok := s.ConnectedClients.Get(); ok {
		text := errtext.Count(n, "client")
		if limit, ok := s.MaxClients.Get(); ok {
			text = fmt.Sprintf("%d of %d clients", n, limit)
		}
		parts = append(parts, text)
	}
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "" })
	return strings.Join(parts, ", ")
}
