// Package clients shows who is connected to a server, and ends who should not be.
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

// keys are what clients can be sorted and grouped by.
var keys = map[string]struct {
	compare func(a, b serverside.Client) int // the order that shows first what one looks for
	value   func(c serverside.Client) string // for groups; nil: it makes no sense
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

// SortKeys are what Sort takes, GroupKeys what Groups takes.
var (
	SortKeys  = []string{"age", "idle", "user", "name", "lib", "addr", "cmd", "type", "db", "mem", "cmds", "node", "id"}
	GroupKeys = []string{"user", "name", "lib", "addr", "cmd", "type", "db", "node"}
)

func by(value func(serverside.Client) string) func(a, b serverside.Client) int {
	return func(a, b serverside.Client) int { return cmp.Compare(value(a), value(b)) }
}

// User, and what follows, are a client's values as the table shows them.
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

// Command is the last one.
func Command(c serverside.Client) string { return strings.ReplaceAll(c.Cmd, "|", " ") }

// Type is what sort of connection it is.
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

// Node that said it.
func Node(c serverside.Client) string { return c.Node }

// DB is its database.
func DB(c serverside.Client) string { return fmt.Sprint(c.DB) }

// Sort sorts by a key of SortKeys: what is largest first, names in their order.
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

var columns = []show.Column{{Name: "NODE"}, {Name: "ID", Right: true}, {Name: "ADDRESS"}, {Name: "USER"}, {Name: "NAME"}, {Name: "LIBRARY"},
	{Name: "DB", Right: true}, {Name: "AGE", Right: true}, {Name: "IDLE", Right: true}, {Name: "MEMORY", Right: true}, {Name: "TYPE"}, {Name: "LAST COMMAND"}}

// Table is a line for each client, after a header. The node is shown if there are
// several.
func Table(all []serverside.Client, nodes bool) []string {
	rows := make([][]string, len(all))
	for i, c := range all {
		rows[i] = []string{"", fmt.Sprint(c.ID), c.Addr, c.User, c.Name, Library(c), DB(c), show.Seconds(c.Age), show.Seconds(c.Idle), memory(c), Type(c), Command(c)}
		if nodes {
			rows[i][0] = c.Node
		}
	}
	return show.Table(columns, rows)
}

func memory(c serverside.Client) string {
	if !c.Has("tot-mem") {
		return ""
	}
	return show.Bytes(c.TotMem)
}

// Group is what the clients with the same value of a key have together.
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

// GroupTable is a line for each group, after a header.
func GroupTable(groups []Group, key string) []string {
	cols := []show.Column{{Name: strings.ToUpper(key)}, {Name: "CLIENTS", Right: true}, {Name: "BLOCKED", Right: true}, {Name: "IDLE > 1h", Right: true},
		{Name: "OLDEST", Right: true}, {Name: "LONGEST IDLE", Right: true}, {Name: "MEAN IDLE", Right: true}, {Name: "MEMORY", Right: true}}
	rows := make([][]string, len(groups))
	seconds := func(s float64) string { return show.Seconds(time.Duration(s * float64(time.Second))) }
	for i, g := range groups {
		v := g.Value
		if v == "" {
			v = "(none)"
		}
		rows[i] = []string{v, fmt.Sprint(g.Clients), fmt.Sprint(g.Blocked), fmt.Sprint(g.IdleHour), seconds(g.OldestS), seconds(g.LongestS), seconds(g.MeanIdleS), show.Bytes(g.Memory)}
	}
	return show.Table(cols, rows)
}
