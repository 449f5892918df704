package dashboard

import (
	"strconv"
	"time"
)

const (
	// keep is how long points are kept for viewers that come later.
	keep = 15 * time.Minute
	// keepEvery is the shortest time between two of them.
	keepEvery = time.Second
)

// history has the latest points of the whole client, while somebody looks.
type history struct {
	points []past // a ring
	next   int    // where the next one goes
	every  int64  // ms between two
}

type past struct {
	at int64 // Unix time in ms; 0: there is none yet
	v  values
}

func newHistory(every time.Duration) history {
	every = max(every, keepEvery)
	return history{points: make([]past, 0, keep/every), every: every.Milliseconds()}
}

func (h *history) add(p *point) {
	if n := len(h.points); n > 0 && p.at-h.points[(h.next+n-1)%n].at < h.every*9/10 {
		return
	}
	if len(h.points) < cap(h.points) {
		h.points = append(h.points, past{p.at, p.all})
		return
	}
	h.points[h.next] = past{p.at, p.all}
	h.next = (h.next + 1) % len(h.points)
}

// appendTo writes the points after since, the oldest first, as [[time, [values]], ...].
func (h *history) appendTo(b []byte, since int64) []byte {
	b = append(b, '[')
	first := true
	for i := range h.points {
		p := &h.points[(h.next+i)%len(h.points)]
		if p.at <= since {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = strconv.AppendInt(append(b, '['), p.at, 10)
		b = append(p.v.appendTo(append(b, ',')), ']')
	}
	return append(b, ']')
}
