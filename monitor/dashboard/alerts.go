package dashboard

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lifeguard-redis/lifeguard/monitor"
)

// maxOver is how many alerts that are over are kept.
const maxOver = 50

// maxHolders is how many an alert names on the page: those that have held the longest.
const maxHolders = 3

// alert is one as the page shows it.
type alert struct {
	Name    string   `json:"name"`
	Level   string   `json:"level"`
	Node    string   `json:"node,omitempty"`
	Text    string   `json:"text"`
	Since   int64    `json:"since"`         // Unix time in ms
	End     int64    `json:"end,omitempty"` // when it was found to be over
	Holders []string `json:"holders,omitempty"`
}

// alertLog has the alerts of now and those that were seen before. It is safe for
// concurrent use.
type alertLog struct {
	mu        sync.Mutex
	now, over []alert
}

// note returns the alerts of now, and those that are over, the latest first.
func (l *alertLog) note(active []monitor.Alert, at time.Time) (now, over []alert) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now = make([]alert, 0, len(active))
	for i := range active {
		now = append(now, alertOf(&active[i]))
	}
	for _, a := range l.now {
		if slices.ContainsFunc(now, func(b alert) bool { return a.Name == b.Name && a.Node == b.Node && a.Since == b.Since }) {
			continue
		}
		a.End, a.Holders = at.UnixMilli(), nil
		l.over = append([]alert{a}, l.over[:min(len(l.over), maxOver-1)]...)
	}
	l.now = now
	if l.over == nil {
		l.over = []alert{} // not null
	}
	return now, l.over
}

func alertOf(a *monitor.Alert) alert {
	out := alert{Name: a.Name, Level: a.Level.String(), Node: a.Node, Since: a.Since.UnixMilli()}
	for _, h := range a.Holders[:min(len(a.Holders), maxHolders)] {
		h.Site = shortSite(h.Site)
		out.Holders = append(out.Holders, h.String())
	}
	short := *a
	short.Holders, short.LastDialError = nil, hideIn(a.LastDialError)
	out.Text = short.String()
	return out
}

// shortSite leaves the last folder, the file and the line of a call site.
func shortSite(site string) string {
	if i := strings.LastIndexByte(site, '/'); i > 0 {
		if j := strings.LastIndexByte(site[:i], '/'); j >= 0 {
			return site[j+1:]
		}
	}
	return site
}
