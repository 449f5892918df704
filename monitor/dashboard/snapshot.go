package dashboard

import (
	"regexp"
	"time"

	"github.com/lifeguard-redis/lifeguard/monitor"
)

const snapshotName = "snapshot.json"

// Snapshot is everything the page shows, at one moment. It is what the page's
// snapshot.json is read into; durations in it are in nanoseconds.
type Snapshot struct {
	Time   time.Time       `json:"time"`
	Title  string          `json:"title"`
	Stats  monitor.Stats   `json:"stats"`
	Alerts []monitor.Alert `json:"alerts"` // those that are not over
	Advice monitor.Advice  `json:"advice"`
	// Connections and Leases are null, as opposed to empty, where they are not known.
	Connections []monitor.Connection `json:"connections"`
	Leases      []monitor.Lease      `json:"leases"`
	// Gaps say why, if that is not because the Source lists none.
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

// userInfo is where a URL has its password.
var userInfo = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^/\s"']*@`)

// hideIn returns e without what might be a password: a dialer of somebody's own may
// put a whole URL into its error.
func hideIn(e *monitor.DialError) *monitor.DialError {
	if e == nil {
		return nil
	}
	c := *e
	c.Err = userInfo.ReplaceAllString(e.Err, "$1...@")
	return &c
}
