package top

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/clients"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
)

func (m model) key(msg tea.KeyPressMsg) (tea.Model, tea.Cmd) {
	v := &m.view
	key := msg.String()
	v.said = ""
	switch {
	case key == "ctrl+c":
		return m, tea.Quit
	case v.ask != "":
		return m.answer(key == "y" || key == "Y")
	case v.typing:
		v.edit(key, msg.Text)
		*v = v.follow(m.last)
		return m, nil
	case v.page != none && v.turn(key):
		return m, nil
	case v.page == help && key == "?":
		v.page = none
		return m, nil
	case v.page == help && key == "K": // the selected row cannot be seen
		return m, nil
	}
	switch key {
	case "q":
		return m, tea.Quit
	case "?":
		v.page, v.scroll = help, 0
	case "esc":
		if v.page == none {
			v.Filter = ""
		}
		v.page = none
	case "enter":
		v.open(m.last)
	case "/":
		v.page, v.typing, v.Filter = none, true, ""
	case "K":
		return m.question()
	case "tab", "right":
		v.show((v.Tab + 1) % tabs)
	case "shift+tab", "left":
		v.show((v.Tab + tabs - 1) % tabs)
	case "s":
		v.Sort = next(clients.SortKeys, v.sort())
	case "g":
		if v.Tab == Groups {
			v.Group = next(clients.GroupKeys, v.group())
		}
		v.show(Groups)
	case "r":
		v.Reverse = !v.Reverse
	case "space":
		v.Paused = !v.Paused
	default:
		v.move(key, m.last)
		return m, nil
	}
	*v = v.follow(m.last)
	return m, nil
}

// show goes to a tab, to its first row.
func (v *View) show(t Tab) { v.Tab, v.row, v.picked, v.page = t, 0, "", none }

// turn scrolls a page, and reports whether it handled the key.
func (v *View) turn(key string) bool {
	v.scroll = moved(v.scroll, key, v.Height)
	return key == "up" || key == "down" || key == "j" || key == "k" || key == "pgup" || key == "pgdown" || key == "home" || key == "end"
}

func moved(at int, key string, height int) int {
	page := max(height-8, 1)
	switch key {
	case "down", "j":
		at++
	case "up", "k":
		at--
	case "pgdown":
		at += page
	case "pgup":
		at -= page
	case "home":
		at = 0
	case "end":
		at = 1 << 30
	}
	return max(at, 0)
}

// move selects another row.
func (v *View) move(key string, s Snapshot) {
	rows := v.table(s).rows
	v.row = max(0, min(moved(v.row, key, v.Height), len(rows)-1))
	v.picked = ""
	if v.row > 0 {
		v.picked = rows[v.row].key
	}
}

// follow finds the selected row again.
func (v View) follow(s Snapshot) View {
	rows := v.table(s).rows
	if v.picked != "" {
		if i := slices.IndexFunc(rows, func(r row) bool { return r.key == v.picked }); i >= 0 {
			v.row = i
			return v
		}
		if v.page == details {
			v.page, v.said = none, "It is gone."
		}
	}
	v.row = max(0, min(v.row, len(rows)-1))
	if v.picked != "" && len(rows) > 0 {
		v.picked = rows[v.row].key
	}
	return v
}

// edit handles a key while the filter is typed.
func (v *View) edit(key, text string) {
	switch {
	case key == "enter":
		v.typing = false
	case key == "esc":
		v.typing, v.Filter = false, ""
	case key == "backspace":
		_, n := utf8.DecodeLastRuneInString(v.Filter)
		v.Filter = v.Filter[:len(v.Filter)-n]
	case len(v.Filter) < 100:
		v.Filter += text
	}
}

// open shows details of the selected row.
func (v *View) open(s Snapshot) {
	rows := v.table(s).rows
	switch {
	case v.row >= len(rows):
	case rows[v.row].group != "":
		v.Filter = rows[v.row].group
		v.show(Clients)
	case rows[v.row].details() != nil:
		v.page, v.scroll, v.picked = details, 0, rows[v.row].key
	}
}

// question asks whether to close the selected client.
func (m model) question() (tea.Model, tea.Cmd) {
	v := &m.view
	rows := v.table(m.last).rows
	if v.row >= len(rows) || rows[v.row].client == nil {
		v.said = "Only a client can be killed: go to the table of clients."
		return m, nil
	}
	c := *rows[v.row].client
	m.due = &c
	// The keys first: what comes after them may be cut off.
	v.ask = fmt.Sprintf("Kill %s? y: yes, other keys: no   %s", c.Addr, strings.TrimSpace(c.Name+" idle for "+show.Seconds(c.Idle)))
	return m, nil
}

func (m model) answer(yes bool) (tea.Model, tea.Cmd) {
	c, end := *m.due, m.end
	m.view.ask, m.due = "", nil
	if !yes {
		m.view.said = "Nobody was killed."
		return m, nil
	}
	m.view.said = "Killing " + c.Addr + " ..."
	return m, func() tea.Msg {
		was, err := end(c)
		return ended{c, was, err}
	}
}

func outcome(e ended) string {
	switch {
	case e.err != nil:
		return "Not killed: " + e.err.Error()
	case !e.was:
		return e.c.Addr + " was gone already."
	}
	return "Killed " + e.c.Addr + "."
}

func next(all []string, now string) string { return all[(slices.Index(all, now)+1)%len(all)] }
