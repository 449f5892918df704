package conntrack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// troubleApart is the minimum time between two log lines about the start of trouble: a node that
// keeps failing and recovering does not fill the log.
const troubleApart = 10 * time.Second

// health is the health record of a node. Reading the state takes no lock.
type health struct {
	n     *Node
	is    atomic.Uint32 // Health
	place string        // the server's address, see movesTo
	at    atomic.Pointer[outage]

	failedAt     atomic.Int64 // when a connection failed last, or the node was made
	unansweredAt atomic.Int64 // when a new connection got no answer, 0 if one did since

	changes [hooks.Recovering + 1]atomic.Uint64 // by the state that was entered

	mu     sync.Mutex
	since  time.Time // when the trouble began
	cause  error
	full   fullServer
	closed bool
}

// outage is what the log says about the trouble of one server. Nodes of a client with the same
// address share it, as a pool for blocking commands is a node of its own: the first one that sees
// the beginning or the end logs it.
type outage struct {
	nodes    int           // that share it; guarded by the tracker
	troubled int           // of them, those that are not healthy; guarded by logging
	waiting  atomic.Int64  // calls that wait for the server to recover
	again    atomic.Int64  // calls that were tried again during this trouble, see CallWaits
	failed   atomic.Uint64 // calls that failed during this trouble

	logging  sync.Mutex
	logged   hooks.Health // the problem that was logged, Healthy for none
	name     string       // of the server in that line
	loggedAt time.Time
	waited   int64 // calls that were waiting when the server recovered
}

// movesTo makes the node share the outage of the nodes at addr; "": of none any more.
func (h *health) movesTo(addr string) {
	t := h.n.t
	t.outagesMu.Lock()
	defer t.outagesMu.Unlock()
	if addr == h.place {
		return
	}
	if old := h.at.Load(); h.place != "" {
		if old.nodes--; old.nodes == 0 {
			delete(t.outages, h.place)
		}
	}
	h.place = addr
	if addr == "" {
		return
	}
	o := t.outages[addr]
	if o == nil {
		o = &outage{}
		t.outages[addr] = o
	}
	o.nodes++
	h.at.Store(o)
}

// connected is called with the address of the server that a dial has reached: it may have several
// names.
func (h *health) connected(remote string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state() == hooks.Healthy && !h.closed {
		h.movesTo(local(remote))
	}
}

// close is called when the node is closed: it sees no end of its trouble.
func (h *health) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.closed = true
	o := h.at.Load()
	o.logging.Lock()
	if h.state() != hooks.Healthy {
		if o.troubled--; o.troubled == 0 {
			o.logged = hooks.Healthy
		}
	}
	o.logging.Unlock()
	h.movesTo("")
}

// local names this machine in one way: a cluster of one node may give itself no host.
func local(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err == nil && (host == "" || host == "localhost" || net.ParseIP(host).IsLoopback()) {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// Health returns the node's current state. Safe for concurrent use.
func (n *Node) Health() hooks.Health { return n.health.state() }

func (h *health) state() hooks.Health { return hooks.Health(h.is.Load()) }

// HealthChanges counts how often each state was entered, by its name.
func (n *Node) HealthChanges() map[string]uint64 {
	var m map[string]uint64
	for i := range n.health.changes {
		if c := n.health.changes[i].Load(); c > 0 {
			if m == nil {
				m = map[string]uint64{}
			}
			m[hooks.Health(i).String()] = c
		}
	}
	return m
}

// SetDegraded records that the node does not respond, unless something worse is known; SetAnswering
// that it answers again.
func (n *Node) SetDegraded(cause error) { n.health.change(hooks.Healthy, hooks.Degraded, cause) }

// SetAnswering undoes SetDegraded.
func (n *Node) SetAnswering() { n.health.change(hooks.Degraded, hooks.Healthy, nil) }

// recentFailure is how long the sockets of a node are checked more often after one of its connections
// has failed.
const recentFailure = 5 * time.Second

// noRecentFailure reports whether no connection of the node has failed, or been found dead, for a
// while; false for a new node.
func (n *Node) noRecentFailure(now int64) bool {
	return now-n.health.failedAt.Load() >= int64(recentFailure)
}

// noteFailure records a failure.
func (n *Node) noteFailure() { n.health.failedAt.Store(n.t.now()) }

// unansweredFor is how long a node that did not answer a new connection is not asked for the slot
// map.
const unansweredFor = 2 * time.Second

// SetAnswered records whether the node has answered a new connection.
func (n *Node) SetAnswered(yes bool) {
	at := int64(0)
	if !yes {
		at = n.t.now()
	}
	n.health.unansweredAt.Store(at)
}

// Unanswered reports whether the node did not answer a new connection a moment ago.
func (n *Node) Unanswered() bool {
	at := n.health.unansweredAt.Load()
	return at != 0 && n.t.now()-at <= int64(unansweredFor)
}

// HeardSince reports whether a reply has begun to arrive on any connection of the node since t.
func (n *Node) HeardSince(t time.Duration) (heard bool) {
	n.Range(func(c *Conn) bool {
		heard = c.heard.Load() >= int64(t)
		return !heard
	})
	return heard
}

// handshakeFailed records that a handshake failed. late: it got no reply in time to what was sent at the
// given time. If nobody else got one either, the node is not refusing, but does not respond.
func (h *health) handshakeFailed(err error, late bool, sent time.Duration) {
	switch {
	case !late || h.n.HeardSince(sent):
		h.become(hooks.Refusing, err)
	case h.n.Health() != hooks.Unreachable:
		h.become(hooks.Degraded, err)
	}
}

// become changes the state. It may be called from anywhere: neither logger nor handler runs before
// it has returned.
func (h *health) become(to hooks.Health, cause error) {
	if from := h.state(); from != to || to != hooks.Healthy {
		h.change(from, to, cause) // if another goroutine was faster, its state stands
	}
}

// change is become, if the current state is from.
func (h *health) change(from, to hooks.Health, cause error) {
	if h.state() != from {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if cause != nil {
		h.cause = cause
	}
	if h.state() != from || h.n.t.closed.Load() || h.closed {
		return
	}
	now := h.n.t.Now()
	o := h.at.Load()
	o.logging.Lock()
	defer o.logging.Unlock()
	if from == to {
		if line := h.beginLine(o, to, now); line != "" {
			h.n.t.emit(entry{line: line, level: slog.LevelWarn})
		}
		return
	}
	if from == hooks.Healthy {
		h.since = now
		o.troubled++
		if o.logged == hooks.Healthy {
			o.waited = 0
			o.again.Store(0)
			o.failed.Store(0)
		}
	}
	if to == hooks.Recovering {
		o.waited += o.waiting.Load()
	}
	h.is.Store(uint32(to))
	h.changes[to].Add(1)
	if to == hooks.Healthy {
		h.full = fullServer{}
	}
	e := entry{Event: hooks.Event{Kind: hooks.HealthChanged, Time: now, Node: h.n.dialed(), Health: to, Err: h.cause}, level: slog.LevelWarn}
	if to == hooks.Healthy {
		e.Took, e.Err = now.Sub(h.since), nil
		h.cause = nil
		o.troubled--
	}
	switch {
	case to == hooks.Healthy || to == hooks.Recovering:
		if o.logged != hooks.Healthy {
			e.line, e.level = o.endLine(h.nameAtEnd(o), now.Sub(h.since)), slog.LevelInfo
			o.logged = hooks.Healthy
		}
	default:
		e.line = h.beginLine(o, to, now)
	}
	h.n.t.emit(e)
}

// beginLine returns the log line for the beginning of a trouble, "" if there was one not long ago.
func (h *health) beginLine(o *outage, what hooks.Health, now time.Time) string {
	if o.logged == what || !o.loggedAt.IsZero() && now.Sub(o.loggedAt) < troubleApart {
		return ""
	}
	o.logged, o.loggedAt, o.name = what, now, h.n.dialed()
	return fmt.Sprintf("lifeguard: redis %s %s: %s", o.name, what, innermost(h.cause))
}

// nameAtEnd returns the name of the server for the line about the end: as in that about the
// beginning, which a node that knows it by another name may have logged. Sentinels may have named
// another master since.
func (h *health) nameAtEnd(o *outage) string {
	if h.n.resolves {
		return h.n.dialed()
	}
	return o.name
}

// endLine returns the log line for the end of a trouble.
func (o *outage) endLine(addr string, lasted time.Duration) string {
	var b strings.Builder
	what := "reachable again"
	if o.logged == hooks.Degraded {
		what = "answers again"
	} else if o.logged == hooks.Refusing {
		what = "accepts connections again"
	}
	fmt.Fprintf(&b, "lifeguard: redis %s %s after %v", addr, what, errtext.Round(lasted))
	if waited, failed := o.waited+o.again.Load(), o.failed.Load(); waited > 0 || failed > 0 {
		fmt.Fprintf(&b, ", %s waited, %d failed", errtext.Count(waited, "call"), failed)
	}
	return b.String()
}

// innermost returns the text of the error's root cause: "connection refused".
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

// trouble returns since when something is wrong, and what.
func (h *health) trouble() (since time.Time, cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.since, h.cause
}

// fail counts a call that failed while the node was in trouble. Calls of a cluster or ring may
// continue on another node, and are counted by CallFailed.
func (h *health) fail(hook *Hook, err error) {
	if h.state() != hooks.Healthy && !hook.Inner && !hook.Uncounted && !isReply(err) {
		h.at.Load().failed.Add(1)
	}
}

// CallWaits counts a call that failed here and is tried again without waiting at the gate, if the node
// is in trouble. Call it once for each call.
func (n *Node) CallWaits() {
	if n.noWait && n.Health() != hooks.Healthy {
		n.health.at.Load().again.Add(1)
	}
}

// CallFailed counts a call of a client of several nodes that ended with an error of a connection to the node.
func (n *Node) CallFailed() {
	if n.Health() != hooks.Healthy {
		n.health.at.Load().failed.Add(1)
	}
}
