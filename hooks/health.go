package hooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Health is what is known of a node.
type Health uint32

const (
	Healthy     Health = iota // as far as is known
	Degraded                  // it is connected to, but answers nobody in time
	Unreachable               // it cannot be dialed
	Refusing                  // it can be dialed, but lets nobody new in: maxclients, a password, a cut in the handshake
	Recovering                // it can be dialed again, and nobody has been let in yet
)

var healthNames = [...]string{"healthy", "degraded", "unreachable", "refusing", "recovering"}

// String is the state in lower case.
func (h Health) String() string {
	if int(h) < len(healthNames) {
		return healthNames[h]
	}
	return "unknown"
}

// troubleApart is how far apart in the log the beginnings of two troubles are at
// least: a node that comes and goes does not fill it.
const troubleApart = 10 * time.Second

// health is the record of a node. Reading the state takes no lock.
type health struct {
	n  *Node
	is atomic.Uint32 // Health

	waiting atomic.Int64  // calls that wait for the node's return
	failed  atomic.Uint64 // calls that failed in this trouble

	changes [len(healthNames)]atomic.Uint64 // by the state that was entered

	mu     sync.Mutex
	since  time.Time // when the trouble began
	cause  error
	said   Health // what the log says is wrong, Healthy for nothing
	saidAt time.Time
	waited int64 // calls that waited when the node came back
}

// Health is what is known of the node now. Safe for concurrent use.
func (n *Node) Health() Health { return Health(n.health.is.Load()) }

// HealthChanges counts how often each state was entered.
func (n *Node) HealthChanges() map[Health]uint64 {
	m := map[Health]uint64{}
	for i := range n.health.changes {
		if c := n.health.changes[i].Load(); c > 0 {
			m[Health(i)] = c
		}
	}
	return m
}

// SetDegraded notes that the node answers nobody, if nothing worse is known; SetAnswering,
// that it answers again.
func (n *Node) SetDegraded(cause error) { n.health.change(Healthy, Degraded, cause) }

// SetAnswering ends SetDegraded.
func (n *Node) SetAnswering() { n.health.change(Degraded, Healthy, nil) }

// become notes a state. It may be called from anywhere: neither logger nor handler
// run before it has returned.
func (h *health) become(to Health, cause error) {
	if from := Health(h.is.Load()); from != to || to != Healthy {
		h.change(from, to, cause) // if another one was quicker, its word stands
	}
}

// change is become, if the state is from.
func (h *health) change(from, to Health, cause error) {
	if Health(h.is.Load()) != from {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if cause != nil {
		h.cause = cause
	}
	if Health(h.is.Load()) != from || h.n.t.closed.Load() || h.n.gate.ctx.Err() != nil {
		return
	}
	now := h.n.t.Now()
	if from == to {
		if line := h.begun(to, now); line != "" {
			h.n.t.Emit(Event{line: line, level: slog.LevelWarn})
		}
		return
	}
	if from == Healthy {
		h.since, h.waited = now, 0
		h.failed.Store(0)
	}
	if to == Recovering {
		h.waited += h.waiting.Load()
	}
	h.is.Store(uint32(to))
	h.changes[to].Add(1)
	e := Event{Kind: HealthChanged, Time: now, Node: h.n.dialed(), Health: to, Err: h.cause, level: slog.LevelWarn}
	if to == Healthy {
		e.Took, e.Err = now.Sub(h.since), nil
		h.cause = nil
	}
	switch {
	case to == Healthy || to == Recovering:
		if h.said != Healthy {
			e.line, e.level = h.over(e.Node, now.Sub(h.since)), slog.LevelInfo
			h.said = Healthy
		}
	default:
		e.line = h.begun(to, now)
	}
	h.n.t.Emit(e)
}

// begun is the line at the beginning of a trouble, "" if there was one not long ago.
func (h *health) begun(what Health, now time.Time) string {
	if h.said == what || !h.saidAt.IsZero() && now.Sub(h.saidAt) < troubleApart {
		return ""
	}
	h.said, h.saidAt = what, now
	return fmt.Sprintf("lifeguard: redis %s %s: %s", h.n.dialed(), what, innermost(h.cause))
}

// over is the line at the end of a trouble.
func (h *health) over(addr string, lasted time.Duration) string {
	var b strings.Builder
	what := "reachable again"
	if h.said == Degraded {
		what = "answers again"
	} else if h.said == Refusing {
		what = "accepts connections again"
	}
	fmt.Fprintf(&b, "lifeguard: redis %s %s after %v", addr, what, round(lasted))
	if failed := h.failed.Load(); h.waited > 0 || failed > 0 {
		fmt.Fprintf(&b, ", %d calls waited, %d failed", h.waited, failed)
	}
	return b.String()
}

// round leaves what somebody wants to read of a duration.
func round(d time.Duration) time.Duration {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second)
	case d >= time.Second:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}

// innermost is the text of what an error comes from: "connection refused".
func innermost(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			break
		}
		err = inner
	}
	switch {
	case err == nil:
		return "for a reason that is not known"
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	}
	return err.Error()
}

// why is what is wrong.
func (h *health) why() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.cause
}

// fail counts a call that failed while the node was in trouble. Those of a cluster or
// ring may go on elsewhere, and are not counted.
func (h *health) fail(hook *Hook, err error) {
	if Health(h.is.Load()) != Healthy && !hook.Inner && !isReply(err) {
		h.failed.Add(1)
	}
}
