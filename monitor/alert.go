package monitor

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Alert tells that a [Threshold] was passed, or that this is over. It is a value.
type Alert struct {
	Name   string `json:"name"` // of the Threshold
	Level  Level  `json:"level"`
	Metric Metric `json:"metric"`
	// Node is the server it is about; "" for the whole client.
	Node string `json:"node,omitempty"`
	// Active is true on entering, false on leaving.
	Active bool      `json:"active"`
	Time   time.Time `json:"time"`
	// Since is when the value was first seen past the limit.
	Since time.Time `json:"since"`
	Value float64   `json:"value"` // now
	Worst float64   `json:"worst"` // since Since
	Limit float64   `json:"limit"`
	// Gone says, on leaving, that the node left the client, so that Value is the last
	// one known.
	Gone bool `json:"gone,omitempty"`

	// The facts that may help.

	Pool          string     `json:"pool,omitempty"` // PoolUse: which pool, "main" or "pipeline"
	Holders       []Holder   `json:"holders,omitempty"`
	LastDialError *DialError `json:"last_dial_error,omitempty"`
}

// String says it in one line.
func (a Alert) String() string {
	var b strings.Builder
	m := metrics[a.Metric]
	fmt.Fprintf(&b, "%s %s", a.Level, a.Name)
	if a.Node != "" {
		fmt.Fprintf(&b, " on %s", a.Node)
	}
	words := m.words
	if words == "" {
		words = string(a.Metric)
	}
	if a.Pool != "" {
		words = a.Pool + " " + words
	}
	after := short(a.Time.Sub(a.Since))
	switch {
	case a.Gone:
		fmt.Fprintf(&b, " is over after %v: the node is gone; %s was %s at worst", after, words, m.unit.write(a.Worst))
		return b.String()
	case !a.Active:
		fmt.Fprintf(&b, " is over after %v: %s is %s, limit %s, it was %s at worst", after, words, m.unit.write(a.Value), m.unit.write(a.Limit), m.unit.write(a.Worst))
		return b.String()
	}
	fmt.Fprintf(&b, ": %s is %s, limit %s", words, m.unit.write(a.Value), m.unit.write(a.Limit))
	if after > 0 {
		fmt.Fprintf(&b, ", for %v", after)
	}
	for i, h := range a.Holders {
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

// LogValue makes a group of the alert's facts.
func (a Alert) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("name", a.Name), slog.String("level", a.Level.String()), slog.String("metric", string(a.Metric)),
		slog.Bool("active", a.Active), slog.Float64("value", a.Value), slog.Float64("limit", a.Limit), slog.Time("since", a.Since)}
	if a.Node != "" {
		attrs = append(attrs, slog.String("node", a.Node))
	}
	return slog.GroupValue(attrs...)
}

// log writes an alert that nobody listens to.
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

// watcher decides about alerts, from one Stats to the next. It is not safe for
// concurrent use.
type watcher struct {
	thresholds []Threshold
	states     map[watchKey]*watchState
}

type watchKey struct{ threshold, node string }

type watchState struct {
	since   time.Time // when the value was first past the limit; zero: it is not
	samples int       // in a row, past the limit
	worst   float64
	active  bool
	alert   Alert     // the latest
	ended   time.Time // the last alert; zero: there was none
	seen    bool
}

func newWatcher(ts []Threshold) *watcher {
	return &watcher{thresholds: ts, states: map[watchKey]*watchState{}}
}

// look returns the alerts that s brings.
func (w *watcher) look(s *Stats) (alerts []Alert) {
	for _, st := range w.states {
		st.seen = false
	}
	for i := range w.thresholds {
		t := &w.thresholds[i]
		if m := metrics[t.Metric]; m.perNode && len(s.Nodes) > 0 {
			for j := range s.Nodes {
				n := &s.Nodes[j]
				v, known := m.value(&n.Numbers, &n.Recent, s.Interval)
				alerts = w.see(alerts, t, n.Name, s, &n.Numbers, v, known && s.Known(ofNodes+m.of))
			}
		} else {
			v, known := m.value(&s.Numbers, &s.Recent, s.Interval)
			alerts = w.see(alerts, t, "", s, &s.Numbers, v, known && s.Known(m.of))
		}
	}
	return w.gone(alerts, s)
}

func (w *watcher) see(alerts []Alert, t *Threshold, node string, s *Stats, n *Numbers, v float64, known bool) []Alert {
	key := watchKey{t.Name, node}
	st := w.states[key]
	if st == nil {
		st = &watchState{}
		w.states[key] = st
	}
	st.seen = true
	if !known { // an alert goes on, nothing begins
		if !st.active {
			st.since, st.samples = time.Time{}, 0
		}
		return alerts
	}
	switch {
	case st.active && t.back(v):
		a := st.end(t, s)
		a.Value = v
		return append(alerts, a)
	case st.active:
		st.note(t, v)
		st.alert.Value, st.alert.Worst = v, st.worst
	case !t.past(v):
		st.since, st.samples = time.Time{}, 0
	default:
		if st.samples == 0 {
			st.since, st.worst = s.Time, v
		}
		st.samples++
		st.note(t, v)
		if st.samples < t.Samples || s.Time.Sub(st.since) < t.For || !st.ended.IsZero() && s.Time.Sub(st.ended) < t.coolDown() {
			break
		}
		st.active = true
		st.alert = Alert{Name: t.Name, Level: t.Level, Metric: t.Metric, Node: node, Active: true, Time: s.Time, Since: st.since,
			Value: v, Worst: st.worst, Limit: t.Limit, LastDialError: s.LastDialError}
		if t.Metric == PoolUse {
			_, st.alert.Pool = n.PoolUse()
		}
		for _, h := range s.Holders {
			if node == "" || h.Node == "" || h.Node == node {
				st.alert.Holders = append(st.alert.Holders, h)
			}
		}
		return append(alerts, st.alert)
	}
	return alerts
}

func (st *watchState) note(t *Threshold, v float64) {
	if t.Metric == HitRatio {
		st.worst = min(st.worst, v)
	} else {
		st.worst = max(st.worst, v)
	}
}

func (st *watchState) end(t *Threshold, s *Stats) Alert {
	a := st.alert
	a.Active, a.Time, a.Worst, a.LastDialError, a.Holders = false, s.Time, st.worst, s.LastDialError, nil
	*st = watchState{ended: s.Time, seen: true}
	return a
}

// gone ends the alerts of nodes that are no more.
func (w *watcher) gone(alerts []Alert, s *Stats) []Alert {
	var over []Alert
	for key, st := range w.states {
		if st.seen {
			continue
		}
		if st.active {
			a := st.end(nil, s)
			a.Gone = true
			over = append(over, a)
		}
		delete(w.states, key)
	}
	sortAlerts(over)
	return append(alerts, over...)
}

// active returns the alerts that are not over.
func (w *watcher) active() []Alert {
	var all []Alert
	for _, st := range w.states {
		if st.active {
			all = append(all, st.alert)
		}
	}
	sortAlerts(all)
	return all
}

func sortAlerts(as []Alert) {
	slices.SortFunc(as, func(a, b Alert) int {
		if a.Level != b.Level {
			return int(b.Level - a.Level)
		}
		return strings.Compare(a.Name+"\x00"+a.Node, b.Name+"\x00"+b.Node)
	})
}
