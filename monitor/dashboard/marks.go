package dashboard

import (
	"fmt"
	"maps"
	"slices"

	"github.com/lifeguard-redis/lifeguard/internal/errtext"
	"github.com/lifeguard-redis/lifeguard/monitor"
)

// maxMarks is how many marks are kept.
const maxMarks = 200

// mark is something that happened, for the charts and the table of events.
type mark struct {
	At   int64  `json:"t"`    // Unix time in ms
	Kind string `json:"kind"` // "bad", "good" or "note"
	Text string `json:"text"`
}

// routine are reasons for which a healthy client closes connections.
var routine = []string{"age", "idle", "pool", "removed", "disconnected", "shutdown"}

// reasonWords explain reasons to viewers.
var reasonWords = map[string]string{"readonly": "failover, its server became a replica", "reset": "Reset or EvictIdle",
	"leak": "lease dropped without Release", "session_state": "session state left on it", "heartbeat": "no answer to a heartbeat"}

// marker detects what happened between one Stats and the next. It is not safe for concurrent use.
type marker struct {
	marks []mark // the oldest first
	at    int64  // of the latest Stats; 0: there was none
	known marked
}

// marked holds the numbers that were compared last.
type marked struct {
	closed       map[string]uint64
	opened, shut uint64 // breakers
	broken       bool   // one has opened, and none has closed since
	unknown      uint64
	unreachable  bool
	node         string // the unreachable node
	nodes        []string
}

// note returns the marks that s causes.
func (m *marker) note(s *monitor.Stats) (added []mark) {
	at := s.Time.UnixMilli()
	if !s.Known("open") {
		return nil
	}
	if back := m.at - at; back > setBack { // the clock was set back, and what is older stays older
		for i := range m.marks {
			m.marks[i].At -= back
		}
	} else if back > 0 {
		return nil // somebody with newer numbers was faster
	}
	now := marked{closed: maps.Clone(s.Closed), opened: s.BreakerOpened, shut: s.BreakerClosed, unknown: s.UnknownOutcomes}
	if e := s.LastDialError; e != nil {
		now.unreachable, now.node = true, e.Node
	}
	for i := range s.Nodes {
		now.nodes = append(now.nodes, s.Nodes[i].Name)
	}
	was, first := m.known, m.at == 0
	if m.known, m.at = now, at; first {
		return nil
	}
	add := func(kind, format string, a ...any) { added = append(added, mark{at, kind, fmt.Sprintf(format, a...)}) }
	switch {
	case now.unreachable && !was.unreachable:
		add("bad", "Cannot connect%s", to(now.node))
	case !now.unreachable && was.unreachable:
		add("good", "Connected again%s", to(was.node))
	}
	switch m.known.broken = was.broken; { // one that probes in vain opens again and again
	case now.shut > was.shut && was.broken:
		add("good", "Circuit breaker closed")
		m.known.broken = false
	case now.opened > was.opened && !was.broken:
		add("bad", "Circuit breaker opened")
		m.known.broken = true
	}
	for _, reason := range slices.Sorted(maps.Keys(now.closed)) {
		n := now.closed[reason] - was.closed[reason]
		if now.closed[reason] <= was.closed[reason] || slices.Contains(routine, reason) {
			continue
		}
		words := reasonWords[reason]
		if words == "" {
			words = reason
		}
		add("note", "%s closed: %s", errtext.Count(n, "connection"), words)
	}
	if n := now.unknown - was.unknown; now.unknown > was.unknown {
		add("bad", "%s with an unknown outcome", errtext.Count(n, "command"))
	}
	if len(was.nodes) > 0 && len(now.nodes) > 0 {
		for _, name := range now.nodes {
			if !slices.Contains(was.nodes, name) {
				add("note", "Node %s joined", name)
			}
		}
		for _, name := range was.nodes {
			if !slices.Contains(now.nodes, name) {
				add("note", "Node %s left", name)
			}
		}
	}
	m.marks = append(m.marks, added...)
	if over := len(m.marks) - maxMarks; over > 0 {
		m.marks = slices.Clone(m.marks[over:])
	}
	return added
}

func to(node string) string {
	if node == "" {
		return ""
	}
	return " to " + node
}

// since returns the kept marks after a time.
func (m *marker) since(at int64) []mark {
	i, _ := slices.BinarySearchFunc(m.marks, at+1, func(x mark, t int64) int { return int(x.At - t) })
	return slices.Clone(m.marks[i:])
}
