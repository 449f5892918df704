package monitor

import (
	"slices"
	"time"
)

// watcher raises and ends alerts, from one Stats to the next. It is not safe for concurrent use.
type watcher struct {
	thresholds []Threshold
	states     map[watchKey]*watchState
	advice     func(node string, n, recent *Numbers, holders []Holder) string // what to do about a full main pool
	last       time.Time                                                      // of the latest Stats
}

type watchKey struct{ threshold, node string }

type watchState struct {
	since    time.Time // when the value first passed the limit; zero: it is not past it
	samples  int       // consecutive samples past the limit
	worst    float64
	active   bool
	reported bool      // as active
	alert    Alert     // the latest
	ended    time.Time // end of the last alert; zero: there was none
	seen     bool
}

func newWatcher(ts []Threshold, advice func(node string, n, recent *Numbers, holders []Holder) string) *watcher {
	return &watcher{thresholds: ts, states: map[watchKey]*watchState{}, advice: advice}
}

// check returns the alerts that s causes.
func (w *watcher) check(s *Stats) (alerts []Alert) {
	back := w.last.Sub(s.Time) // above 0: the clock was set back, and durations must not suffer
	w.last = s.Time
	for _, st := range w.states {
		st.seen = false
		if back > 0 {
			st.since, st.ended, st.alert.Since = earlier(st.since, back), earlier(st.ended, back), earlier(st.alert.Since, back)
		}
	}
	for i := range w.thresholds {
		t := &w.thresholds[i]
		if m := metrics[t.Metric]; m.perNode && len(s.Nodes) > 0 {
			for j := range s.Nodes {
				n := &s.Nodes[j]
				v, known := m.compute(s, n.Name, &n.Numbers, &n.Recent)
				alerts = w.see(alerts, t, n.Name, s, &n.Numbers, &n.Recent, v, known && s.Known(ofNodes+m.of))
			}
		} else {
			v, known := m.compute(s, "", &s.Numbers, &s.Recent)
			alerts = w.see(alerts, t, "", s, &s.Numbers, &s.Recent, v, known && s.Known(m.of))
		}
	}
	return w.raise(w.gone(alerts, s), s)
}

func earlier(t time.Time, by time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(-by)
}

// raise adds the active alerts that have not been reported and that no other explains.
func (w *watcher) raise(alerts []Alert, s *Stats) []Alert {
	var begun []Alert
	for key, st := range w.states {
		if st.active && !st.reported && !w.explained(key, st) {
			st.reported, st.alert.Time = true, s.Time
			begun = append(begun, st.alert)
		}
	}
	sortAlerts(begun)
	return append(alerts, begun...)
}

// consequences lists, for a metric, the metrics whose alerts it explains.
var consequences = map[Metric][]Metric{
	PoolUse:     {LeasesOverdue, Waiting, WaitP99, PoolTimeouts, PoolPeak},
	BreakerOpen: {DialFailures},
}

// explained reports whether another active alert has the same cause.
func (w *watcher) explained(key watchKey, st *watchState) bool {
	for k, o := range w.states {
		if o == st || !o.active || k.node != key.node || o.alert.Level < st.alert.Level {
			continue
		}
		if o.alert.Metric == st.alert.Metric && o.alert.Level > st.alert.Level || slices.Contains(consequences[o.alert.Metric], st.alert.Metric) {
			return true
		}
	}
	return false
}

func (w *watcher) see(alerts []Alert, t *Threshold, node string, s *Stats, n, recent *Numbers, v float64, known bool) []Alert {
	key := watchKey{t.Name, node}
	st := w.states[key]
	if st == nil {
		st = &watchState{}
		w.states[key] = st
	}
	st.seen = true
	if !known { // an active alert stays active, none is raised
		if !st.active {
			st.since, st.samples = time.Time{}, 0
		}
		return alerts
	}
	switch {
	case st.active && t.back(v):
		a, reported := st.end(s)
		if a.Value = v; reported {
			alerts = append(alerts, a)
		}
	case st.active:
		st.note(t, v)
		st.alert.Value, st.alert.Worst = v, st.worst
		w.facts(st, s, n, recent)
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
			Value: v, Worst: st.worst, Limit: t.Limit}
		w.facts(st, s, n, recent)
	}
	return alerts
}

// facts adds the current facts to the alert.
func (w *watcher) facts(st *watchState, s *Stats, n, recent *Numbers) {
	a := &st.alert
	a.LastDialError, a.Holders = s.LastDialError, nil
	if a.Metric == PoolUse {
		p, _ := s.FullestPool(a.Node)
		a.Pool, a.Instance = p.Kind, p.Name
		a.Waiting, a.LeasesOverdue, a.Advice = n.Waiting, n.LeasesOverdue, ""
	}
	for _, h := range s.Holders {
		if a.Metric == LeasesOverdue && !h.Overdue {
			continue
		}
		if a.Node == "" || h.Node == "" || h.Node == a.Node {
			a.Holders = append(a.Holders, h)
		}
	}
	if a.Metric == PoolUse && a.Pool == "main" && s.Instances <= 1 { // of a fleet it is the sum of the pools that is known
		a.Advice = w.advice(a.Node, n, recent, a.Holders)
	}
}

func (st *watchState) note(t *Threshold, v float64) {
	if t.Metric == HitRatio {
		st.worst = min(st.worst, v)
	} else {
		st.worst = max(st.worst, v)
	}
}

// end ends the alert; reported says whether its beginning was reported.
func (st *watchState) end(s *Stats) (a Alert, reported bool) {
	a, reported = st.alert, st.reported
	a.Active, a.Time, a.Worst, a.LastDialError = false, s.Time, st.worst, s.LastDialError
	a.Holders, a.Waiting, a.LeasesOverdue, a.Advice = nil, 0, 0, ""
	last := st.ended
	if reported {
		last = s.Time
	}
	*st = watchState{ended: last, seen: true}
	return a, reported
}

// gone ends the alerts of nodes that no longer exist.
func (w *watcher) gone(alerts []Alert, s *Stats) []Alert {
	var over []Alert
	for key, st := range w.states {
		if st.seen {
			continue
		}
		if st.active {
			if a, reported := st.end(s); reported {
				a.Gone = true
				over = append(over, a)
			}
		}
		delete(w.states, key)
	}
	sortAlerts(over)
	return append(alerts, over...)
}

// active returns the active alerts that no other explains.
func (w *watcher) active() []Alert {
	var all []Alert
	for key, st := range w.states {
		if st.active && !w.explained(key, st) {
			all = append(all, st.alert)
		}
	}
	sortAlerts(all)
	return all
}
