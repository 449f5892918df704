// Package clients lists who is connected to a server, and closes connections that should not be there.
package clients

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

// keys are the keys by which clients can be sorted and grouped.
var keys = map[string]struct {
	compare func(a, b serverside.Client) int // the order that shows the most interesting ones first
	value   func(c serverside.Client) string // for groups; nil: grouping makes no sense
}{
	"age":  {compare: func(a, b serverside.Client) int { return cmp.Compare(b.Age, a.Age) }},
	"idle": {compare: func(a, b serverside.Client) int { return cmp.Compare(b.Idle, a.Idle) }},
	"mem":  {compare: func(a, b serverside.Client) int { return cmp.Compare(b.TotMem, a.TotMem) }},
	"id":   {compare: func(a, b serverside.Client) int { return cmp.Compare(a.ID, b.ID) }},
	"cmds": {compare: func(a, b serverside.Client) int { return cmp.Compare(b.TotCmds, a.TotCmds) }},
	"user": {compare: by(User), value: User},
	"name": {compare: by(Name), value: Name},
	"lib":  {compare: by(Library), value: Library},
	"addr": {compare: by(Host), value: Host},
	"cmd":  {compare: by(Command), value: Command},
	"type": {compare: by(Type), value: Type},
	"node": {compare: by(Node), value: Node},
	"db":   {compare: func(a, b serverside.Client) int { return cmp.Compare(a.DB, b.DB) }, value: DB},
}

// SortKeys are the keys for Sort, GroupKeys those for Groups.
var (
	SortKeys  = []string{"age", "idle", "user", "name", "lib", "addr", "cmd", "type", "db", "mem", "cmds", "node", "id"}
	GroupKeys = []string{"user", "name", "lib", "addr", "cmd", "type", "db", "node"}
)

func by(value func(serverside.Client) string) func(a, b serverside.Client) int {
	return func(a, b serverside.Client) int { return cmp.Compare(value(a), value(b)) }
}

// User and the following functions return a client's values as shown in the table.
func User(c serverside.Client) string { return c.User }

// Name of CLIENT SETNAME.
func Name(c serverside.Client) string { return c.Name }

// Library with its version.
func Library(c serverside.Client) string {
	if c.LibVer == "" {
		return c.LibName
	}
	return c.LibName + " " + c.LibVer
}

// Host is the client's address without the port.
func Host(c serverside.Client) string {
	if ip, ok := c.IP(); ok {
		return ip.String()
	}
	return c.Addr
}

// Command is the client's last command.
func Command(c serverside.Client) string { return strings.ReplaceAll(c.Cmd, "|", " ") }

// Type is the kind of connection.
func Type(c serverside.Client) string {
	switch {
	case c.Blocked():
		return "blocked"
	case c.Monitor():
		return "monitor"
	default:
		return string(c.Type())
	}
}

// Node is the node that listed the client.
func Node(c serverside.Client) string { return c.Node }

// DB is its database.
func DB(c serverside.Client) string { return fmt.Sprint(c.DB) }

// Sort sorts by a key of SortKeys: the largest first, names in alphabetical order.
func Sort(all []serverside.Client, key string, reverse bool) {
	compare := keys[key].compare
	slices.SortStableFunc(all, func(a, b serverside.Client) int {
		if n := compare(a, b); n != 0 {
			if reverse {
				return -n
			}
			return n
		}
		return cmp.Or(cmp.Compare(b.Age, a.Age), cmp.Compare(a.Node, b.Node), cmp.Compare(a.ID, b.ID))
	})
}

// column is a column of the table, and the key that it is sorted by.
type column struct {
	show.Column
	key   string
	value func(serverside.Client) string
}

var columns = []column{
	{show.Column{Name: "NODE", Min: 12, Rank: 3}, "node", Node},
	{show.Column{Name: "ID", Right: true, Rank: 5}, "id", func(c serverside.Client) string { return fmt.Sprint(c.ID) }},
	{show.Column{Name: "ADDRESS", Min: 21}, "addr", func(c serverside.Client) string { return c.Addr }},
	{show.Column{Name: "USER", Min: 7, Rank: 6}, "user", User},
	{show.Column{Name: "NAME", Min: 14}, "name", Name},
	{show.Column{Name: "LIBRARY", Min: 9, Rank: 9}, "lib", Library},
	{show.Column{Name: "DB", Right: true, Rank: 8}, "db", DB},
	{show.Column{Name: "AGE", Right: true, Rank: 2}, "age", func(c serverside.Client) string { return show.Seconds(c.Age) }},
	{show.Column{Name: "IDLE", Right: true}, "idle", func(c serverside.Client) string { return show.Seconds(c.Idle) }},
	{show.Column{Name: "MEMORY", Right: true, Rank: 7}, "mem", memory},
	{show.Column{Name: "COMMANDS", Right: true, Rank: 10}, "cmds", commands},
	{show.Column{Name: "TYPE", Rank: 4}, "type", Type},
	{show.Column{Name: "LAST COMMAND", Min: 8, Rank: 1}, "cmd", Command},
}

// Fits reports whether a client matches a search: "name=web-1" matches exactly that value of a key
// of GroupKeys, any other text a part of what the table shows of it.
func Fits(c serverside.Client, text string) bool {
	if key, want, found := strings.Cut(text, "="); found && slices.Contains(GroupKeys, key) {
		return keys[key].value(c) == want
	}
	text = strings.ToLower(text)
	return slices.ContainsFunc(columns, func(col column) bool { return strings.Contains(strings.ToLower(col.value(c)), text) })
}

// Trouble returns what is wrong with a client; "" if nothing is.
func Trouble(c serverside.Client) string {
	switch {
	case c.OMem >= 1<<20:
		return "reads its replies too slowly: " + show.Bytes(c.OMem) + " wait for it"
	case c.Type() == serverside.TypeNormal && !c.Blocked() && !c.Monitor() && c.Idle >= time.Hour:
		return "sent nothing for " + show.Seconds(c.Idle)
	}
	return ""
}

// Layout is how a table is laid out.
type Layout struct {
	Nodes   bool   // show the node
	Sort    string // the key that it is sorted by: this column is neither dropped nor narrowed
	Reverse bool   // it is sorted the other way round
	Width   int    // columns of the terminal; 0: no limit
}

// Table returns a line for each client, after a header.
func Table(all []serverside.Client, l Layout) []string {
	cols := make([]show.Column, len(columns))
	for i, c := range columns {
		cols[i] = c.Column
		if c.key == l.Sort {
			cols[i].Min, cols[i].Rank = 0, 0
			cols[i].Name += arrow(l.Reverse)
		}
	}
	rows := make([][]string, len(all))
	for i, c := range all {
		rows[i] = make([]string, len(columns))
		for k, col := range columns {
			if col.key != "node" || l.Nodes {
				rows[i][k] = col.value(c)
			}
		}
	}
	return show.Table(cols, rows, l.Width)
}

// arrow marks the column by which a table is sorted.
func arrow(reverse bool) string {
	if reverse {
		return "↑"
	}
	return "↓"
}

func commands(c serverside.Client) string {
	if !c.Has("tot-cmds") {
		return ""
	}
	return fmt.Sprint(c.TotCmds)
}

func memory(c serverside.Client) string {
	if !c.Has("tot-mem") {
		return ""
	}
	return show.Bytes(c.TotMem)
}

// Group holds the totals of the clients with the same value of a key.
type Group struct {
	Value     string  `json:"value"`
	Clients   int     `json:"clients"`
	Blocked   int     `json:"blocked"`
	IdleHour  int     `json:"idle_over_an_hour"`
	OldestS   float64 `json:"oldest_seconds"`
	LongestS  float64 `json:"longest_idle_seconds"`
	MeanIdleS float64 `json:"mean_idle_seconds"`
	Memory    int64   `json:"memory_bytes"`
}

// Groups counts the clients by a key of GroupKeys, the largest group first.
func Groups(all []serverside.Client, key string) []Group {
	value := keys[key].value
	found := map[string]*Group{}
	for _, c := range all {
		v := value(c)
		g := found[v]
		if g == nil {
			g = &Group{Value: v}
			found[v] = g
		}
		g.Clients++
		g.Memory += c.TotMem
		g.OldestS = max(g.OldestS, c.Age.Seconds())
		g.LongestS = max(g.LongestS, c.Idle.Seconds())
		g.MeanIdleS += c.Idle.Seconds()
		if c.Blocked() {
			g.Blocked++
		} else if c.Idle >= time.Hour {
			g.IdleHour++
		}
	}
	out := make([]Group, 0, len(found))
	for _, g := range found {
		g.MeanIdleS /= float64(g.Clients)
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Clients, a.Clients), cmp.Compare(a.Value, b.Value))
	})
	return out
}

// GroupTable returns a line for each group, after a header, of at most width columns.
func GroupTable(groups []Group, key string, width int) []string {
	cols := []show.Column{{Name: strings.ToUpper(key), Min: 12}, {Name: "CLIENTS", Right: true}, {Name: "BLOCKED", Right: true, Rank: 2}, {Name: "IDLE > 1h", Right: true, Rank: 1},
		{Name: "OLDEST", Right: true, Rank: 3}, {Name: "LONGEST IDLE", Right: true, Rank: 4}, {Name: "MEAN IDLE", Right: true, Rank: 6}, {Name: "MEMORY", Right: true, Rank: 5}}
	rows := make([][]string, len(groups))
	seconds := func(s float64) string {
		return show.Seconds(time.Duration(s * float64(time.Second)).Round(time.Second))
	}
	for i, g := range groups {
		rows[i] = []string{cmp.Or(g.Value, "(none)"), fmt.Sprint(g.Clients), fmt.Sprint(g.Blocked), fmt.Sprint(g.IdleHour), seconds(g.OldestS), seconds(g.LongestS), seconds(g.MeanIdleS), show.Bytes(g.Memory)}
	}
	return show.Table(cols, rows, width)
}
