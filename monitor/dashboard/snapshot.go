package dashboard

import (
	"regexp"
	"time"

	"github.com/lifeguard-redis/lifeguard/monitor"
)

const snapshotName = "snapshot.json"

// Snapshot is everything the page shows, at one moment. Decode the page's snapshot.json into it;
// durations are in nanoseconds.
type Snapshot struct {
	Time   time.Time       `json:"time"`
	Title  string          `json:"title"`
	Stats  monitor.Stats   `json:"stats"`
	Alerts []monitor.Alert `json:"alerts"` // the active ones
	Advice monitor.Advice  `json:"advice"`
	// Connections and Leases are null, as opposed to empty, if they are unknown.
	Connections []monitor.Connection `json:"connections"`
	Leases      []monitor.Lease      `json:"leases"`
	// Gaps say why, unless the Source does not list any.
	Gaps []string `json:"gaps,omitempty"`
}

func (h *Handler) snapshot() Snapshot {
	s := Snapshot{Title: h.title, Stats: h.m.Stats(), Alerts: h.m.Alerts(), Advice: h.m.Advice()}
	s.Time = s.Stats.Time
	s.Stats.LastDialError = hideIn(s.Stats.LastDialError)
	for i := range s.Alerts {
		s.Alerts[i].LastDialError = hideIn(s.Alerts[i].LastDialError)
	}
	if s.Alerts == nil {
		s.Alerts = []monitor.Alert{}
	}
	if all, known, failed := connsOf(h.m); failed != "" {
		s.Gaps = append(s.Gaps, "connections: "+failed)
	} else if known {
		s.Connections = append([]monitor.Connection{}, all...)
	}
	if all, known, failed := leasesOf(h.m); failed != "" {
		s.Gaps = append(s.Gaps, "leases: "+failed)
	} else if known {
		s.Leases = append([]monitor.Lease{}, all...)
	}
	return s
}

// userInfo matches the part of a URL that can contain a password.
var userInfo = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^/\s"']*@`)

// hideIn returns e without what may be a password: a user's dialer may include a whole URL in its
// error.
func hideIn(e *monitor.DialError) *monitor.DialError {
	if e == nil {
		return nil
	}
	c := *e
	c.Err = userInfo.ReplaceAllString(e.Err, "$1...@")
	return &c
}
