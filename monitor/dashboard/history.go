package dashboard

import (
	"strconv"
	"time"
)

const (
	// keep is how long points are kept for later viewers.
	keep = 15 * time.Minute
	// keepEvery is the shortest time between two of them.
	keepEvery = time.Second
)

// history holds the latest points of the whole client: one per period of the Monitor, and one a
// second while there are viewers. It allocates its memory at once, see historyBytes.
type history struct {
	points []past // a ring
	next   int    // index of the next point
	every  int64  // ms between two points
}

type past struct {
	at int64 // Unix time in ms
	v  [numValues]float32
}

func newHistory(every time.Duration) history {
	every = max(every, keepEvery)
	return history{points: make([]past, 0, keep/every), every: every.Milliseconds()}
}

// setBack is by how many ms a clock has to go back to count as set: less is two samples that were
// taken at the same time.
const setBack = 5000

// newest returns the time of the latest point, 0 if there is none.
func (h *history) newest() int64 {
	n := len(h.points)
	if n == 0 {
		return 0
	}
	return h.points[(h.next+n-1)%n].at
}

func (h *history) add(p *point) {
	if len(h.points) > 0 {
		after := p.at - h.newest()
		if after < -setBack { // the clock was set back, and what is older stays older
			for i := range h.points {
				h.points[i].at += after - h.every
			}
			after = h.every
		}
		if after < h.every*9/10 {
			return
		}
	}
	kept := past{at: p.at}
	for i, x := range p.all {
		kept.v[i] = float32(x)
	}
	if len(h.points) < cap(h.points) {
		h.points = append(h.points, kept)
		return
	}
	h.points[h.next] = kept
	h.next = (h.next + 1) % len(h.points)
}

// appendTo writes the points after since that are recent enough, the oldest first, as [[time,
// [values]], ...].
func (h *history) appendTo(b []byte, since int64) []byte {
	b = append(b, '[')
	since = max(since, h.newest()-keep.Milliseconds()-1)
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
		b = append(b, ",["...)
		for j, x := range p.v {
			if j > 0 {
				b = append(b, ',')
			}
			b = appendFloat(b, float64(x), 32)
		}
		b = append(b, "]]"...)
	}
	return append(b, ']')
}
