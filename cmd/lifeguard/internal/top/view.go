package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/clients"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
)

// Tab is what the table shows.
type Tab int

// The tabs, in their order.
const (
	Clients Tab = iota
	Groups
	Pools
	tabs
)

var tabNames = []string{"Clients", "Groups", "Pools"}

// View is how to show a snapshot. The zero View shows clients by age.
type View struct {
	Tab     Tab
	Sort    string // of clients.SortKeys; "" is age
	Group   string // of clients.GroupKeys; "" is name
	Reverse bool
	Offset  int // lines of the table that are scrolled away
	Paused  bool
	Width   int // columns; 0: as wide as it gets
	Height  int // lines; 0: as many as it takes, all tabs but Groups below each other
	Style   show.Style
}

func (v View) sort() string  { return cmp.Or(v.Sort, "age") }
func (v View) group() string { return cmp.Or(v.Group, "name") }

// Frame is the snapshot as lines, none wider than v.Width, and not more than v.Height.
func (v View) Frame(s Snapshot) []string {
	head := v.head(s)
	if v.Height == 0 {
		for _, tab := range []Tab{Clients, Pools} {
			v.Tab = tab
			head = append(head, "", v.Style.Bold(tabNames[tab]))
			head = append(head, v.table(s)...)
		}
		return v.fit(head)
	}
	head = append(head, v.bar(s))
	table := v.table(s)
	foot := v.foot()
	room := max(v.Height-len(head)-1, 0)
	body := table[:min(1, len(table))]
	if rest := table[len(body):]; room > 1 {
		from := min(v.Offset, max(len(rest)-(room-1), 0))
		to := min(len(rest), from+room-1)
		body = append(slices.Clone(body), rest[from:to]...)
	}
	lines := append(head, body...)
	for len(lines) < v.Height-1 {
		lines = append(lines, "")
	}
	lines = v.fit(lines[:max(min(len(lines), v.Height-1), 0)])
	return append(lines, v.Style.Reverse(show.Clip(foot, v.Width)))
}

// lines of the table that can be scrolled.
func (v View) scrollable(s Snapshot) int { return max(len(v.table(s))-1, 0) }

// fit cuts lines to the width. Marks are only at the ends of a line.
func (v View) fit(lines []string) []string {
	if v.Width <= 0 {
		return lines
	}
	for i, l := range lines {
		lines[i] = clipMarked(l, v.Width)
	}
	return lines
}

// clipMarked cuts a line with marks to a width.
func clipMarked(line string, width int) string {
	if !strings.Contains(line, "\x1b") {
		return show.Clip(line, width)
	}
	var b strings.Builder
	n := 0
	for i := 0; i < len(line); {
		if line[i] == '\x1b' {
			end := strings.IndexByte(line[i:], 'm')
			if end < 0 {
				break
			}
			b.WriteString(line[i : i+end+1])
			i += end + 1
			continue
		}
		_, size := utf8.DecodeRuneInString(line[i:])
		if n < width {
			b.WriteString(line[i : i+size])
		}
		n++
		i += size
	}
	return b.String()
}

func (v View) head(s Snapshot) []string {
	title := "lifeguard top  " + show.Clean(s.Server) + "  " + s.At.Format("15:04:05")
	if v.Paused {
		title += "  PAUSED"
	}
	lines := []string{v.Style.Bold(title)}
	for i, n := range s.Nodes {
		var parts []string
		add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
		name := ""
		if len(s.Nodes) > 1 {
			name = n.Node + " "
		}
		add("%s%s", name, strings.Join(slices.DeleteFunc([]string{n.Product.Or(""), n.Version.Or(""), n.Role.Or("")}, func(p string) bool { return p == "" }), " "))
		connected, ok := n.ConnectedClients.Get()
		if limit, known := n.MaxClients.Get(); ok && known {
			share, _ := n.ShareOfMaxClients()
			text := fmt.Sprintf("%d of %d clients", connected, limit)
			switch {
			case share >= 0.95:
				text = v.Style.Red(text)
			case share >= 0.8:
				text = v.Style.Yellow(text)
			}
			add("%s", text)
		} else if ok {
			add("%d clients", connected)
		}
		if b := n.BlockedClients.Or(0); b > 0 {
			add("%d blocked", b)
		}
		if b := n.PubSubClients.Or(0); b > 0 {
			add("%d subscribed", b)
		}
		if i < len(s.since) && s.since[i].Elapsed > 0 {
			add("%.1f new/s", float64(s.since[i].Connected.Or(0))/s.since[i].Elapsed.Seconds())
		}
		if r := n.RejectedConnections.Or(0); r > 0 {
			add("%s", v.Style.Red(fmt.Sprintf("%d rejected", r)))
		}
		if e := n.EvictedClients.Or(0); e > 0 {
			add("%s", v.Style.Yellow(fmt.Sprintf("%d evicted", e)))
		}
		if m, ok := n.ClientMemory.Get(); ok {
			add("client memory %s", show.Bytes(m))
		}
		if up, ok := n.Uptime.Get(); ok {
			add("up %s", show.Seconds(up))
		}
		lines = append(lines, strings.Join(parts, "  "))
	}
	if s.Fleet != nil && len(s.Fleet.Instances) > 0 {
		f := s.Fleet
		text := fmt.Sprintf("fleet %s: %s", show.Clean(f.Name), show.Count(f.Alive, "instance"))
		if f.Lost > 0 {
			text += ", " + v.Style.Red(fmt.Sprintf("%d lost", f.Lost))
		}
		text += fmt.Sprintf("  %s: %d active, %d idle  %d waiting", show.Count(f.Sum.Total, "connection"), f.Sum.Active, f.Sum.Idle, f.Sum.Waiting)
		if f.Sum.Leaks > 0 {
			text += "  " + v.Style.Red(fmt.Sprintf("%d leaks", f.Sum.Leaks))
		}
		lines = append(lines, text)
	}
	for _, t := range s.Trouble {
		lines = append(lines, v.Style.Yellow("! "+show.Clean(t)))
	}
	return lines
}

// bar is the row of tabs.
func (v View) bar(s Snapshot) string {
	counts := []string{fmt.Sprint(len(s.Clients)), "by " + v.group(), "0"}
	if s.Fleet != nil {
		counts[Pools] = fmt.Sprint(len(s.Fleet.Instances))
	}
	parts := make([]string, tabs)
	for i := range parts {
		parts[i] = fmt.Sprintf(" %s %s ", tabNames[i], counts[i])
		if Tab(i) == v.Tab {
			if parts[i] = v.Style.Reverse(parts[i]); !strings.Contains(parts[i], "\x1b") {
				parts[i] = "[" + strings.TrimSpace(parts[i]) + "]" // without marks
			}
		}
	}
	return strings.Join(parts, " ")
}

func (v View) foot() string {
	order := "s sort: " + v.sort()
	if v.Tab == Groups {
		order = "g group: " + v.group()
	}
	if v.Tab == Pools {
		order = "by service"
	}
	return " q quit  tab next  " + order + "  r reverse  space pause  up/down scroll "
}

func (v View) table(s Snapshot) []string {
	var lines []string
	switch v.Tab {
	case Groups:
		if len(s.Clients) == 0 {
			return []string{"No other client is connected."}
		}
		groups := clients.Groups(s.Clients, v.group())
		if v.Reverse {
			slices.Reverse(groups)
		}
		lines = clients.GroupTable(groups, v.group())
	case Pools:
		return v.pools(s)
	default:
		if len(s.Clients) == 0 {
			return []string{"No other client is connected."}
		}
		all := slices.Clone(s.Clients)
		clients.Sort(all, v.sort(), v.Reverse)
		lines = clients.Table(all, s.manyNodes)
	}
	lines[0] = v.Style.Bold(lines[0])
	return lines
}

var poolColumns = []show.Column{{Name: "SERVICE"}, {Name: "HOST"}, {Name: "PID", Right: true}, {Name: "STATE"}, {Name: "TOTAL", Right: true}, {Name: "ACTIVE", Right: true},
	{Name: "IDLE", Right: true}, {Name: "SIZE", Right: true}, {Name: "WAITING", Right: true}, {Name: "LEASES", Right: true}, {Name: "DIALED", Right: true},
	{Name: "ENDED", Right: true}, {Name: "TIMEOUTS", Right: true}, {Name: "UNKNOWN", Right: true}, {Name: "LEAKS", Right: true}}

func (v View) pools(s Snapshot) []string {
	switch {
	case s.Fleet == nil:
		return []string{"The fleet could not be read."}
	case len(s.Fleet.Instances) == 0:
		return []string{fmt.Sprintf("Nobody publishes to the fleet %q: fleet.Publish(client.PoolMonitor(), client) does.", show.Clean(s.Fleet.Name))}
	}
	all := slices.Clone(s.Fleet.Instances)
	if v.Reverse {
		slices.Reverse(all)
	}
	rows := make([][]string, 0, len(all)+1)
	row := func(service, host, pid, state string, n fleet.Numbers) {
		rows = append(rows, []string{service, host, pid, state, fmt.Sprint(n.Total), fmt.Sprint(n.Active), fmt.Sprint(n.Idle), fmt.Sprint(n.Size), fmt.Sprint(n.Waiting),
			fmt.Sprint(n.Leases), fmt.Sprint(n.Dialed), fmt.Sprint(n.Disconnected), fmt.Sprint(n.PoolTimeouts), fmt.Sprint(n.UnknownOutcomes), fmt.Sprint(n.Leaks)})
	}
	for _, i := range all {
		state := "lives"
		if i.Lost {
			state = "lost " + show.Seconds(i.Age)
		}
		row(i.Service, i.Host, fmt.Sprint(i.PID), state, i.Numbers)
	}
	if len(all) > 1 {
		row("all", "", "", fmt.Sprintf("%d live", s.Fleet.Alive), s.Fleet.Sum)
	}
	lines := show.Table(poolColumns, rows)
	for i := range lines {
		switch {
		case i == 0, i > len(all):
			lines[i] = v.Style.Bold(lines[i])
		case all[i-1].Lost:
			lines[i] = v.Style.Red(lines[i])
		}
	}
	return lines
}
