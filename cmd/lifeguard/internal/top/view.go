package top

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
)

// Tab says what the table shows.
type Tab int

// The tabs, in their order.
const (
	Clients Tab = iota
	Groups
	Pools
	tabs
)

var tabNames = []string{"Clients", "Groups", "Pools"}

// page says what is shown instead of the table.
type page int

const (
	none page = iota
	help
	details // of the selected row
)

// View is how to show a snapshot. The zero View shows clients by age.
type View struct {
	Tab     Tab
	Sort    string // of clients.SortKeys; "" is age
	Group   string // of clients.GroupKeys; "" is name
	Reverse bool
	Filter  string // see clients.Fits
	Paused  bool
	Width   int // columns; 0: as wide as it gets
	Height  int // lines; 0: as many as it takes, all tabs but Groups below each other
	Style   show.Style

	row    int    // index of the selected row
	picked string // its key: the selection follows it; "" stays at the first row
	page   page
	scroll int    // lines of the page above the visible part
	typing bool   // the filter is being typed
	ask    string // a question that waits for its answer
	said   string // result of the last key
}

func (v View) sort() string  { return cmp.Or(v.Sort, "age") }
func (v View) group() string { return cmp.Or(v.Group, "name") }

// Frame returns the snapshot as lines, none wider than v.Width, and at most v.Height.
func (v View) Frame(s Snapshot) []string {
	lines := v.head(s)
	if v.Height == 0 {
		for _, tab := range []Tab{Clients, Pools} {
			v.Tab = tab
			lines = append(lines, "", v.Style.Bold(tabNames[tab]))
			t := v.table(s)
			lines = append(lines, v.lines(t, 0, len(t.rows), -1)...)
		}
		return v.fit(lines)
	}
	lines = append(lines, v.bar(s))
	room := max(v.Height-len(lines)-1, 0)
	t := v.table(s)
	switch {
	case v.page == help:
		lines = append(lines, part(v.helpText(), v.scroll, room)...)
	case v.page == details && v.row < len(t.rows):
		lines = append(lines, v.Style.Bold(t.rows[v.row].text))
		lines = append(lines, part(t.rows[v.row].details(), v.scroll, room-1)...)
	default:
		n := max(room-1, 0) // besides the header
		from := max(0, min(v.row-n/2, len(t.rows)-n))
		lines = append(lines, v.lines(t, from, min(from+n, len(t.rows)), v.row)...)
	}
	for len(lines) < v.Height-1 {
		lines = append(lines, "")
	}
	lines = v.fit(lines[:max(min(len(lines), v.Height-1), 0)])
	return append(lines, v.foot())
}

// lines returns the header and some rows.
func (v View) lines(t table, from, to, selected int) []string {
	if len(t.rows) == 0 {
		return []string{t.none}
	}
	margin := v.margin()
	out := []string{v.Style.Bold(margin + t.head)}
	for i := from; i < to; i++ {
		text := margin + t.rows[i].text
		switch {
		case i == selected && margin != "":
			text = ">" + t.rows[i].text
		case i == selected:
			text = v.Style.Reverse(v.pad(text))
		case t.rows[i].bad == 1:
			text = v.Style.Yellow(text)
		case t.rows[i].bad > 1:
			text = v.Style.Red(text)
		}
		out = append(out, text)
	}
	return out
}

// margin marks the selected row if there are no colours.
func (v View) margin() string {
	if v.Style.Plain() && v.Height > 0 {
		return " "
	}
	return ""
}

// room returns how wide a table may be.
func (v View) room() int {
	if v.Width == 0 {
		return 0
	}
	return max(v.Width-len(v.margin()), 1)
}

func (v View) pad(text string) string {
	return text + strings.Repeat(" ", max(v.Width-ansi.StringWidth(text), 0))
}

// part returns the visible part of lines.
func part(lines []string, from, n int) []string {
	n = max(0, min(n, len(lines)))
	from = max(0, min(from, len(lines)-n))
	return lines[from : from+n]
}

func (v View) fit(lines []string) []string {
	for i, l := range lines {
		lines[i] = show.Clip(l, v.Width)
	}
	return lines
}

// bar is the row of tabs.
func (v View) bar(s Snapshot) string {
	counts := []string{fmt.Sprint(len(s.Clients)), "by " + v.group(), "0"}
	if s.Fleet != nil {
		counts[Pools] = fmt.Sprint(len(s.Fleet.Instances))
	}
	if v.Filter != "" && v.Tab != Groups {
		rows := v.table(s).rows
		if v.Tab == Pools && len(rows) > 0 && rows[len(rows)-1].pool == nil { // the sum of all
			rows = rows[:len(rows)-1]
		}
		counts[v.Tab] = fmt.Sprintf("%d of %s", len(rows), counts[v.Tab])
	}
	parts := make([]string, tabs)
	for i := range parts {
		parts[i] = fmt.Sprintf(" %s %s ", tabNames[i], counts[i])
		if Tab(i) == v.Tab {
			if parts[i] = v.Style.Reverse(parts[i]); v.Style.Plain() {
				parts[i] = "[" + strings.TrimSpace(parts[i]) + "]"
			}
		}
	}
	filter := ""
	if v.Filter != "" && !v.typing {
		filter = v.Style.Yellow("  filter: " + show.Clean(v.Filter))
	}
	text := strings.Join(parts, " ") + filter
	if v.Width > 0 && ansi.StringWidth(text) > v.Width {
		text = parts[v.Tab] + filter
	}
	return text
}

// foot shows the keys, a question, or the result of the last action.
func (v View) foot() string {
	text := ""
	switch {
	case v.ask != "":
		return v.Style.Red(show.Clip(" "+show.Clean(v.ask), v.Width))
	case v.typing:
		text = "/" + show.Clean(v.Filter) + "▏ enter: keep  esc: no filter"
	case v.said != "":
		text = " " + show.Clean(v.said)
	case v.page != none:
		text = " esc back  up/down scroll  q quit"
	default:
		parts := []string{" q quit", "? help"}
		switch v.Tab {
		case Groups:
			parts = append(parts, "g group: "+v.group())
		case Clients:
			parts = append(parts, "s sort: "+v.sort())
		}
		parts = append(parts, "/ filter", "tab next", "enter details")
		if v.Tab == Clients {
			parts = append(parts, "K kill")
		}
		text = show.Fitting(parts, "  ", v.Width)
	}
	return v.Style.Reverse(v.pad(show.Clip(text, v.Width)))
}

var helpRows = [][2]string{
	{"q", "quit"},
	{"?", "this page"},
	{"tab", "next table: clients, groups, pools (shift+tab: the one before)"},
	{"up, down", "select a row (or k, j); also page up, page down, home and end"},
	{"enter", "all that is known about the row; of a group, its clients"},
	{"/", "filter: a part of what the table shows, or exactly one value: user=app, name=web-1, lib=go-redis, addr=10.0.0.7, cmd=get, type=blocked"},
	{"esc", "back; without a page, it takes the filter away"},
	{"K", "kill the selected client, after a question"},
	{"s", "sort by the next column: the one with an arrow"},
	{"g", "groups by the next key"},
	{"r", "reverse the order"},
	{"space", "pause"},
	{"", ""},
	{"yellow", "a client that sent nothing for an hour or reads too slowly, a pool in use to 80 %"},
	{"red", "clients from 95 % of maxclients, rejected clients, a pool that callers wait for or that is in use to 95 %, leaks, instances that are lost"},
}

// helpText explains the keys and colours, wrapped at the width of the terminal.
func (v View) helpText() []string {
	const margin = 10
	width := v.Width
	if width == 0 {
		width = 80
	}
	var lines []string
	for _, r := range helpRows {
		text := fmt.Sprintf("%-*s", margin, r[0]) + show.Wrap(r[1], width, margin)
		lines = append(lines, strings.Split(strings.TrimRight(text, " "), "\n")...)
	}
	return lines
}
