package dashboard

import (
	"context"
	"sync"
	"time"

	"github.com/lifeguard-redis/lifeguard/monitor"
)

const (
	// maxViewers bounds the cost of viewers.
	maxViewers = 100
	// slowly is the shortest time between two tables.
	slowly = time.Second
	// maxQueue is how many events a viewer may be behind before it misses some.
	maxQueue = 16
)

// part is what a viewer wants besides the charts.
type part int

const (
	partLeases part = iota
	partBusy
	partConns
	numParts
)

var partNames = [numParts]string{"leases", "busy", "conns"}

// viewer is a stream in progress.
type viewer struct {
	events chan []byte // what is to be written; never closed
	wants  [numParts]bool
}

// hub samples while there are viewers, and sends all of them the same events.
type hub struct {
	m     *monitor.Monitor
	every time.Duration
	over  alertLog

	mu           sync.Mutex
	viewers      map[*viewer]struct{}
	past         history
	marks        marker
	closed       bool
	stop         context.CancelFunc // ends the loop; nil: none runs
	end          chan struct{}      // closed by close
	joined       chan struct{}      // a viewer that wants tables has joined
	loops        sync.WaitGroup
	leaveMonitor func()
}

// newHub starts the Monitor, and records its Stats every period.
func newHub(m *monitor.Monitor, s *settings) *hub {
	h := &hub{m: m, every: s.every, viewers: map[*viewer]struct{}{}, past: newHistory(s.every), end: make(chan struct{}), joined: make(chan struct{}, 1)}
	h.leaveMonitor = m.OnStats(h.record)
	return h
}

// record keeps the results of a period, with or without viewers.
func (h *hub) record(s monitor.Stats) {
	p := pointOfPeriod(&s)
	h.over.note(h.m, s.Time)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.past.add(&p)
	h.mark(&s)
}

// mark records what has happened, and sends it to the viewers. The caller holds the lock.
func (h *hub) mark(s *monitor.Stats) {
	if added := h.marks.note(s); len(added) > 0 {
		h.send(event{to: toAll, data: eventOf("marks", added)})
	}
}

// send sends an event to all viewers that want it. The caller holds the lock.
func (h *hub) send(events ...event) {
	for v := range h.viewers {
		for _, e := range events {
			if e.to != toAll && !v.wants[e.to] {
				continue
			}
			select {
			case v.events <- e.data:
			default: // too slow: it misses this one
			}
		}
	}
}

// join adds a viewer, which gets everything that happens after past. full and closed say why it was
// not added.
func (h *hub) join(v *viewer, since int64) (past []byte, marks []mark, full, closed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.viewers) >= maxViewers {
		return nil, nil, !h.closed, h.closed
	}
	h.viewers[v] = struct{}{}
	if h.stop == nil {
		var ctx context.Context
		ctx, h.stop = context.WithCancel(context.Background())
		h.loops.Go(func() { h.run(ctx) })
	} else {
		select {
		case h.joined <- struct{}{}:
		default:
		}
	}
	if since > h.past.newest()+setBack { // the viewer has it from before the clock was set back
		since = 0
	}
	return h.past.appendTo(nil, since), h.marks.since(since), false, false
}

func (h *hub) leave(v *viewer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.viewers, v)
	if len(h.viewers) == 0 && h.stop != nil {
		h.stop()
		h.stop = nil
	}
}

func (h *hub) close() {
	h.leaveMonitor()
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		close(h.end)
		if h.stop != nil {
			h.stop()
		}
	}
	h.mu.Unlock()
	h.loops.Wait()
}

// run is the loop. A new loop may start before a stopped one has noticed: they share nothing except
// what publish guards.
func (h *hub) run(ctx context.Context) {
	tick := time.NewTicker(h.every)
	defer tick.Stop()
	l := sampler{m: h.m, alerts: &h.over}
	var latest time.Time // when tables were made
	point := true
	for {
		now := time.Now()
		slow := !point || now.Sub(latest) >= slowly-h.every/2
		if slow {
			latest = now
		}
		h.publish(ctx, &l, point, slow)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			point = true
		case <-h.joined: // a viewer wants tables now; the rate is limited for all
			point = false
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Until(latest.Add(MinInterval))):
			}
		}
	}
}

// publish samples once, and sends the result: a point of the charts, or the slow parts, or both.
func (h *hub) publish(ctx context.Context, l *sampler, withPoint, slow bool) {
	var wanted [numParts]bool
	h.mu.Lock()
	for v := range h.viewers {
		for p, w := range v.wants {
			wanted[p] = wanted[p] || w
		}
	}
	h.mu.Unlock()

	var p point
	var events []event
	if withPoint {
		p = l.sample()
		events = append(events, event{to: toAll, data: p.event()})
	}
	if slow {
		events = append(events, event{to: toAll, data: l.summary()})
		events = append(events, l.tables(wanted)...)
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	if withPoint {
		h.past.add(&p)
		h.mark(&l.stats)
	}
	h.send(events...)
}

// event is sent to all viewers, or to those that want a part.
type event struct {
	to   part
	data []byte
}

const toAll part = -1
