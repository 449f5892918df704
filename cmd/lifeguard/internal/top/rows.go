package top

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/clients"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

// table is the content of a tab.
type table struct {
	head string
	rows []row
	none string // why there are no rows
}

// row is a line of a table, and what it shows.
type row struct {
	text   string
	key    string // identifies the row in the next snapshot
	bad    int    // 1: a warning, 2: worse
	client *serverside.Client
	group  string // a filter for its clients
	pool   *fleet.Instance
}

// clients returns those that match the filter, in order.
func (v View) clients(s Snapshot) []serverside.Client {
	all := slices.Clone(s.Clients)
	if v.Filter != "" {
		all = slices.DeleteFunc(all, func(c serverside.Client) bool { return !clients.Fits(c, v.Filter) })
	}
	clients.Sort(all, v.sort(), v.Reverse)
	return all
}

func (v View) table(s Snapshot) table {
	if v.Tab == Pools {
		return v.pools(s)
	}
	all := v.clients(s)
	if len(all) == 0 {
		if len(s.Clients) > 0 {
			return table{none: fmt.Sprintf("No client fits the filter %q.", v.Filter)}
		}
		return table{none: "No other client is connected."}
	}
	if v.Tab == Groups {
		groups := clients.Groups(all, v.group())
		if v.Reverse {
			slices.Reverse(groups)
		}
		t := tableOf(clients.GroupTable(groups, v.group(), v.room()))
		for i := range groups {
			t.rows[i].key, t.rows[i].group = groups[i].Value, v.group()+"="+groups[i].Value
		}
		return t
	}
	t := tableOf(clients.Table(all, clients.Layout{Nodes: s.manyNodes, Sort: v.sort(), Reverse: v.Reverse, Width: v.room()}))
	for i := range all {
		t.rows[i].key, t.rows[i].client = clients.Key(all[i]), &all[i]
		if clients.Trouble(all[i]) != "" {
			t.rows[i].bad = 1
		}
	}
	return t
}

func tableOf(lines []string) table {
	t := table{head: lines[0], rows: make([]row, len(lines)-1)}
	for i, l := range lines[1:] {
		t.rows[i].text = l
	}
	return t
}

var poolColumns = []show.Column{{Name: "SERVICE", Min: 8}, {Name: "HOST", Min: 14, Rank: 5}, {Name: "PID", Right: true, Rank: 8}, {Name: "STATE"},
	{Name: "IN USE", Rank: 6}, {Name: "ACTIVE", Right: true}, {Name: "IDLE", Right: true, Rank: 4}, {Name: "TOTAL", Right: true, Rank: 2}, {Name: "SIZE", Right: true},
	{Name: "WAITING", Right: true}, {Name: "LEASES", Right: true, Rank: 3}, {Name: "DIALED", Right: true, Rank: 9}, {Name: "CLOSED", Right: true, Rank: 10},
	{Name: "TIMEOUTS", Right: true}, {Name: "UNKNOWN", Right: true, Rank: 7}, {Name: "LEAKS", Right: true, Rank: 1}}

func (v View) pools(s Snapshot) table {
	if s.Fleet == nil {
		return table{none: "The fleet could not be read."}
	}
	if len(s.Fleet.Instances) == 0 {
		return table{none: fmt.Sprintf("Nobody publishes to the fleet %q: fleet.Publish(client.PoolMonitor(), client) does.", show.Clean(s.Fleet.Name))}
	}
	all := slices.Clone(s.Fleet.Instances)
	if v.Filter != "" {
		all = slices.DeleteFunc(all, func(i fleet.Instance) bool { return !poolFits(i, v.Filter) })
		if len(all) == 0 {
			return table{none: fmt.Sprintf("No instance fits the filter %q.", v.Filter)}
		}
	}
	if v.Reverse {
		slices.Reverse(all)
	}
	cells := make([][]string, 0, len(all)+1)
	add := func(service, host, pid, state string, n fleet.Numbers, use float64) {
		bar := ""
		if n.Size > 0 {
			bar = show.Bar(use, 10)
		}
		cells = append(cells, []string{service, host, pid, state, bar, fmt.Sprint(n.Active), fmt.Sprint(n.Idle), fmt.Sprint(n.Total), fmt.Sprint(n.Size), fmt.Sprint(n.Waiting),
			fmt.Sprint(n.Leases), fmt.Sprint(n.Dialed), fmt.Sprint(n.Disconnected), fmt.Sprint(n.PoolTimeouts), fmt.Sprint(n.UnknownOutcomes), fmt.Sprint(n.Leaks)})
	}
	fullest := 0.0 // a sum would hide it
	for _, i := range all {
		add(i.Service, i.Host, fmt.Sprint(i.PID), state(i), i.Numbers, i.Use())
		if !i.Lost {
			fullest = max(fullest, i.Use())
		}
	}
	if len(all) > 1 && v.Filter == "" {
		add("all", "", "", fmt.Sprintf("%d live", s.Fleet.Alive), s.Fleet.Sum, fullest)
	}
	t := tableOf(show.Table(poolColumns, cells, v.room()))
	for i := range all {
		t.rows[i].key, t.rows[i].pool, t.rows[i].bad = all[i].ID, &all[i], badness(all[i])
	}
	return t
}

func state(i fleet.Instance) string {
	if i.Lost {
		return "lost " + show.Seconds(i.Age)
	}
	return "lives"
}

func poolFits(i fleet.Instance, text string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc([]string{i.Service, i.Host, fmt.Sprint(i.PID), state(i)}, func(s string) bool { return strings.Contains(strings.ToLower(s), text) })
}

func badness(i fleet.Instance) int {
	switch {
	case i.Lost, i.Waiting > 0, i.Leaks > 0, i.Use() >= 0.95:
		return 2
	case i.Use() >= 0.8:
		return 1
	}
	return 0
}

// details returns everything that is known about a row.
func (r row) details() []string {
	switch {
	case r.client != nil:
		lines := []string{}
		if what := clients.Trouble(*r.client); what != "" {
			lines = append(lines, "This client "+what+".", "")
		}
		return append(lines, fields(*r.client)...)
	case r.pool != nil:
		return fields(*r.pool)
	}
	return nil
}

// fields of a value as its JSON has them, one a line.
func fields(v any) []string {
	var m map[string]any
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return []string{err.Error()}
	}
	var lines []string
	put := func(name string, v any) {
		text := fmt.Sprint(v)
		switch v := v.(type) {
		case float64:
			text = fmt.Sprintf("%.0f", v)
		case string:
			text = v
		}
		lines = append(lines, show.Clean(fmt.Sprintf("%-22s %s", name, text)))
	}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list, ok := m[name].([]any)
		if !ok {
			put(name, m[name])
			continue
		}
		for _, one := range list {
			if b, err := json.Marshal(one); err == nil && fmt.Sprintf("%T", one) != "string" {
				one = string(b)
			}
			put(name, one)
		}
	}
	return lines
}
