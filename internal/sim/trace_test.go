//go:build unix

package sim

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// Trace is what happened when, in simulated time.
type Trace struct {
	mu    sync.Mutex
	start time.Time
	lines []Line
}

// Line belongs to a token, to a link, or to both.
type Line struct {
	At    time.Duration
	Token string
	Link  int
	Text  string
}

func (l Line) String() string {
	s := fmt.Sprintf("%9.3fs  %-12s ", l.At.Seconds(), l.Token)
	if l.Link > 0 {
		s += fmt.Sprintf("link %d: ", l.Link)
	}
	return s + l.Text
}

func (t *Trace) now() time.Duration { return time.Since(t.start) }

func (t *Trace) add(token string, link int, text string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, Line{time.Since(t.start), token, link, fmt.Sprintf(text, args...)})
}

// about is the part of the trace that a failure is about: the lines of its call
// and of the links it went over, the faults until then, and, at the end of a link,
// the calls made just before.
func (t *Trace) about(f Failure) []Line {
	links := map[int]bool{f.Link: true}
	from, to := time.Duration(1<<62), time.Duration(0)
	call := callOf(f.Token)
	mine := func(l Line) bool {
		if call == "" {
			return f.Link == 0 && l.Token == "" || f.Link > 0 && l.Link == f.Link
		}
		return callOf(l.Token) == call
	}
	fails := func(l Line) bool { return strings.HasPrefix(l.Text, "FAILS") }
	for _, l := range t.lines {
		if mine(l) && !fails(l) {
			from, to = min(from, l.At), max(to, l.At)
			links[l.Link] = true
		}
	}
	if call == "" { // a link lives long
		from = max(from, to-2*time.Second)
	}
	var out []Line
	for _, l := range t.lines {
		near := l.At >= from && l.At <= to
		around := f.Link > 0 && l.At >= to-100*ms && (strings.HasPrefix(l.Text, "call") || strings.HasPrefix(l.Text, "returned"))
		if near && (mine(l) || l.Token == "" && l.Link > 0 && links[l.Link] || l.Token == "retry" || around) ||
			l.Token == "fault" && l.At <= to || fails(l) && mine(l) {
			out = append(out, l)
		}
	}
	return out
}
