package monitor

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Alert reports that a [Threshold] was passed, or that the value has recovered. It is a value.
//
// One cause raises one alert: an alert that another alert of the same node explains is not reported
// separately. An alert is explained by one of the same metric and a higher level (pool use critical
// explains pool use warning). PoolUse explains LeasesOverdue, Waiting, WaitP99, PoolTimeouts and
// PoolPeak, and its alert says how many leases are overdue; BreakerOpen explains DialFailures. An
// alert of a lower level never explains another. If the explaining alert ends and the explained one
// goes on, it is reported then.
type Alert struct {
	Name   string `json:"name"` // name of the Threshold
	Level  Level  `json:"level"`
	Metric Metric `json:"metric"`
	// Node is the server that the alert is about; "" for the whole client.
	Node string `json:"node,omitempty"`
	// Active is true when the alert begins, false when it ends.
	Active bool      `json:"active"`
	Time   time.Time `json:"time"`
	// Since is when the value was first seen past the limit.
	Since time.Time `json:"since"`
	Value float64   `json:"value"` // now
	Worst float64   `json:"worst"` // since Since
	Limit float64   `json:"limit"`
	// Gone is set at the end of an alert if the node left the client, so that Value is the last
	// known one.
	Gone bool `json:"gone,omitempty"`

	// Further facts.

	Pool          string     `json:"pool,omitempty"`           // PoolUse: which pool, "main", "pipeline" or "blocking"
	Instance      string     `json:"instance,omitempty"`       // PoolUse of a fleet: whose pool
	Waiting       int        `json:"waiting,omitempty"`        // PoolUse: callers that wait for a connection
	LeasesOverdue int        `json:"leases_overdue,omitempty"` // PoolUse: leases held for longer than the leak threshold
	Advice        string     `json:"advice,omitempty"`         // PoolUse: what to do, in a few words, if [Monitor.Advice] knows
	Holders       []Holder   `json:"holders,omitempty"`        // LeasesOverdue: only those that are overdue
	LastDialError *DialError `json:"last_dial_error,omitempty"`
}

// String returns the alert in one line.
func (a Alert) String() string {
	var b strings.Builder
	m := metrics[a.Metric]
	fmt.Fprintf(&b, "%s %s", a.Level, a.Name)
	if a.Node != "" {
		fmt.Fprintf(&b, " on %s", a.Node)
	}
	if m.words == "" {
		m.words = string(a.Metric)
	}
	after := short(a.Time.Sub(a.Since))
	switch {
	case a.Gone:
		fmt.Fprintf(&b, " is over after %v: the node is gone; it was %s at worst", after, m.unit.write(a.Worst))
		return b.String()
	case !a.Active:
		fmt.Fprintf(&b, " is over after %v: %s%s, it was %s at worst", after, m.describe(a.Value, a.Pool, a.Instance), m.limit(a.Limit), m.unit.write(a.Worst))
		return b.String()
	}
	fmt.Fprintf(&b, ": %s%s", m.describe(a.Value, a.Pool, a.Instance), m.limit(a.Limit))
	if after > 0 {
		fmt.Fprintf(&b, ", for %v", after)
	}
	if a.Waiting > 0 {
		waiting := metrics[Waiting]
		b.WriteString("; " + waiting.describe(float64(a.Waiting), "", ""))
	}
	if a.LeasesOverdue > 0 && a.Metric != LeasesOverdue {
		overdue := metrics[LeasesOverdue]
		b.WriteString("; " + overdue.describe(float64(a.LeasesOverdue), "", ""))
	}
	if a.Advice != "" {
		b.WriteString("; " + a.Advice)
	}
	for i, h := range a.OnePerSite() {
		if i == 0 {
			b.WriteString("; held by ")
		} else {
			b.WriteString(" | ")
		}
		b.WriteString(h.String())
	}
	if e := a.LastDialError; e != nil {
		fmt.Fprintf(&b, "; last dial error %v ago: %s", short(a.Time.Sub(e.Time)), e.Err)
	}
	return b.String()
}

// OnePerSite returns the longest holder of each call site and label.
func (a Alert) OnePerSite() (some []Holder) {
	for _, h := range a.Holders {
		same := func(o Holder) bool { return o.Node == h.Node && o.Site == h.Site && o.Label == h.Label }
		if h.Site == "" || !slices.ContainsFunc(some, same) {
			some = append(some, h)
		}
	}
	return some
}

// LogValue returns a group of the alert's facts.
func (a Alert) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("name", a.Name), slog.String("level", a.Level.String()), slog.String("metric", string(a.Metric)),
		slog.Bool("active", a.Active), slog.Float64("value", a.Value), slog.Float64("limit", a.Limit), slog.Time("since", a.Since)}
	if a.Node != "" {
		attrs = append(attrs, slog.String("node", a.Node))
	}
	return slog.GroupValue(attrs...)
}

// log writes an alert that no callback gets.
func (a Alert) log(l *slog.Logger) {
	level := slog.LevelInfo
	switch {
	case a.Active && a.Level == Critical:
		level = slog.LevelError
	case a.Active:
		level = slog.LevelWarn
	}
	l.Log(context.Background(), level, "lifeguard: "+a.String(), "alert", a)
}

func sortAlerts(as []Alert) {
	slices.SortFunc(as, func(a, b Alert) int {
		if a.Level != b.Level {
			return int(b.Level - a.Level)
		}
		return strings.Compare(a.Name+"\x00"+a.Node, b.Name+"\x00"+b.Node)
	})
}
