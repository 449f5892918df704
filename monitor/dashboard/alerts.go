package dashboard

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/callsite"
	"github.com/lifeguard-redis/lifeguard/monitor"
)

// maxOver is how many ended alerts are kept.
const maxOver = 50

// maxHolders is how many holders an alert lists on the page: those that have held the longest.
const maxHolders = 3

// alert is an alert as shown on the page.
type alert struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"` // in plain words
	Level   string   `json:"level"`
	Node    string   `json:"node,omitempty"`
	Text    string   `json:"text"`
	Runbook string   `json:"runbook"`       // link to the runbook
	Since   int64    `json:"since"`         // Unix time in ms
	End     int64    `json:"end,omitempty"` // when it was found to have ended
	Holders []string `json:"holders,omitempty"`
}

// alertLog holds the active alerts and recently ended ones. It is safe for concurrent use.
type alertLog struct {
	mu        sync.Mutex
	now, over []alert
}

// note returns the active alerts, and the ended ones, the latest first.
func (l *alertLog) note(m *monitor.Monitor, at time.Time) (now, over []alert) {
	l.mu.Lock()
	defer l.mu.Unlock()
	active := m.Alerts()
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
	out := alert{Name: a.Name, Title: titleOf(a), Level: a.Level.String(), Node: a.Node, Since: a.Since.UnixMilli(), Runbook: runbook + "#" + sections[a.Metric]}
	for i, h := range a.OnePerSite() {
		if i == maxHolders {
			break
		}
		h.Site = callsite.Short(h.Site)
		out.Holders = append(out.Holders, h.String())
	}
	short := *a
	short.Holders, short.LastDialError = nil, nil
	short.Since = short.Time // the page itself shows how long it has lasted
	head := short.Level.String() + " " + short.Name
	if short.Node != "" {
		head += " on " + short.Node
	}
	out.Text = strings.TrimPrefix(short.String(), head+": ")
	if e := hideIn(a.LastDialError); e != nil && (a.Metric == monitor.DialFailures || a.Metric == monitor.BreakerOpen) {
		out.Text += "; last dial error: " + e.Err
	}
	return out
}

// titles are the names of alerts in plain words.
var titles = map[monitor.Metric]string{
	monitor.PoolUse: "Pool nearly full", monitor.PoolPeak: "Pool full at its peak", monitor.Waiting: "Callers wait for a connection",
	monitor.WaitP99: "Long waits for a connection", monitor.CommandP99: "Commands are slow", monitor.HitRatio: "Few connections are found idle",
	monitor.PoolTimeouts: "Pool timeouts", monitor.DialFailures: "Cannot connect", monitor.MaxClients: "Server nearly out of clients",
	monitor.LeasesOverdue: "Leases overdue", monitor.BreakerOpen: "Circuit breaker open", monitor.Churn: "Connections are closed too often",
	monitor.UnknownOutcomes: "Unknown outcomes", monitor.Leaks: "Leases leaked",
}

// titleOf returns the name that the program gave, if any.
func titleOf(a *monitor.Alert) string {
	title := titles[a.Metric]
	if a.Name != string(a.Metric)+"_"+a.Level.String() || title == "" {
		return a.Name
	}
	if a.Metric == monitor.PoolUse && a.Level == monitor.Critical {
		return "Pool exhausted"
	}
	return title
}

const runbook = "https://github.com/lifeguard-redis/lifeguard/blob/main/docs/RUNBOOK.md"

// sections of the runbook.
var sections = map[monitor.Metric]string{
	monitor.PoolUse: noConnection, monitor.PoolPeak: noConnection, monitor.Waiting: noConnection, monitor.WaitP99: noConnection,
	monitor.PoolTimeouts: noConnection, monitor.LeasesOverdue: "leaks", monitor.Leaks: "leaks", monitor.DialFailures: unreachable,
	monitor.BreakerOpen: unreachable, monitor.MaxClients: unreachable, monitor.CommandP99: "it-is-slow", monitor.HitRatio: "it-is-slow",
	monitor.Churn: "connections-come-and-go", monitor.UnknownOutcomes: "errors-that-are-new-with-lifeguard",
}

const (
	noConnection = "callers-get-no-connection"
	unreachable  = "the-server-cannot-be-reached"
)
