package conntrack

import (
	"cmp"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// Config configures a Tracker. The zero value works.
type Config struct {
	OnEvent func(hooks.Event) // called in order, one goroutine at a time; nil: no events are made
	Logger  *slog.Logger      // nil: no logs
	Now     func() time.Time  // a clock for tests; nil: the real, monotonic one
	Wall    func() time.Time  // the corresponding wall clock; nil: the real one
	// Opaque hides network errors from go-redis while a reply is outstanding, so that nothing
	// inside the outermost hook repeats a command. That hook must restore the real error with
	// Reveal. Handshakes that Kill ended are hidden, too.
	Opaque bool
	// ConnLimit is how many connections may be open at once, over all nodes and
	// pools. 0: no limit.
	ConnLimit int
	// ValidateTimeout is how long the reply to a visit's real PING may take. Default 1 s.
	ValidateTimeout time.Duration
}

// Tracker knows every open connection of one managed client, on all its nodes. It is safe for
// concurrent use and starts no goroutine by itself.
type Tracker struct {
	cfg    Config
	base   time.Time
	events *eventQueue
	conns  sync.Map // id -> *Conn; can be iterated without a lock
	count  atomic.Int64
	closed atomic.Bool

	maxAge        atomic.Int64 // ns, 0: none
	jitter        atomic.Int64 // ns, the part of maxAge that is chosen per connection
	validateAfter atomic.Int64 // ns, negative: never

	offset     atomic.Int64 // ns, offset of the wall clock from the monotonic clock at the last check
	unverified atomic.Int64 // ns on our clock: connections last used before that may be dead

	refusing atomic.Pointer[error] // set while the client shuts down

	budget   chan struct{} // a place for each connection, nil without a limit
	reserved chan struct{} // one more for connections of our own, nil without a limit or with a limit of 1
	onLimit  atomic.Pointer[func()]

	waiting atomic.Int32 // callers that wait for a place
	asking  atomic.Bool

	closes closeCounters
	cut    atomic.Uint64

	outagesMu sync.Mutex
	outages   map[string]*outage // by address
}

// Failure is a connection that failed.
type Failure struct {
	Err     *hooks.ConnError
	Timeout bool // a deadline passed without a reply
	Ping    bool // it was our own PING that failed
}

// NewTracker makes a tracker. It never fails.
func NewTracker(cfg Config) *Tracker {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if cfg.ValidateTimeout <= 0 {
		cfg.ValidateTimeout = time.Second
	}
	t := &Tracker{cfg: cfg, base: time.Now(), outages: map[string]*outage{}}
	if cfg.Now != nil {
		t.base = cfg.Now()
	}
	t.validateAfter.Store(-1)
	_, wall := t.clocks()
	t.offset.Store(wall)
	switch {
	case cfg.ConnLimit == 1:
		t.budget = make(chan struct{}, 1)
	case cfg.ConnLimit > 1:
		t.budget, t.reserved = make(chan struct{}, cfg.ConnLimit-1), make(chan struct{}, 1)
	}
	t.events = newEventQueue(cfg.OnEvent, cfg.Logger)
	return t
}

// Distrust makes every connection answer a PING before it is used again, unless it is in use now.
func (t *Tracker) Distrust() {
	t.unverified.Store(t.now())
	t.Range(func(c *Conn) bool {
		c.node.upkeep.Load().Due()
		return true
	})
}

// Emit passes an event to the handler, in order with those of connections.
func (t *Tracker) Emit(e hooks.Event) {
	if t.Observed() {
		t.emit(entry{Event: e})
	}
}

func (t *Tracker) emit(e entry) {
	if e.Time.IsZero() {
		e.Time = t.Now()
	}
	t.events.put(e)
}

// Observed reports whether there is an event handler.
func (t *Tracker) Observed() bool { return t.events.handler != nil }

// Cut counts the connections that failed or were closed after a byte of a command was written to
// them and before that command was over; occasionally it counts one too many. A command that failed
// while nothing was counted has written nothing.
func (t *Tracker) Cut() *atomic.Uint64 { return &t.cut }

// Len returns the number of open connections.
func (t *Tracker) Len() int { return int(t.count.Load()) }

// Range calls f for every open connection until it returns false. f may do anything.
func (t *Tracker) Range(f func(*Conn) bool) {
	t.conns.Range(func(_, v any) bool { return f(v.(*Conn)) })
}

// Conns describes every open connection, the oldest first.
func (t *Tracker) Conns() []hooks.ConnInfo {
	all := make([]*Conn, 0, t.Len())
	t.Range(func(c *Conn) bool {
		all = append(all, c)
		return true
	})
	slices.SortFunc(all, func(a, b *Conn) int { return cmp.Compare(a.id, b.id) })
	out := make([]hooks.ConnInfo, len(all))
	for i, c := range all {
		out[i] = c.Info()
	}
	return out
}

// Shut tells the tracker that its client is being closed, so that connections which end from now on
// have that as their reason.
func (t *Tracker) Shut() { t.closed.Store(true) }

// Refuse makes new commands of the clients fail with err, unsent. Those of leases, transactions and
// dials in progress go on. nil: commands are accepted again.
func (t *Tracker) Refuse(err error) {
	if err == nil {
		t.refusing.Store(nil)
		return
	}
	t.refusing.Store(&err)
}

// remove takes a connection out of the counts. It runs under go-redis's pool lock.
func (t *Tracker) remove(c *Conn) {
	if _, known := t.conns.LoadAndDelete(c.id); known {
		t.count.Add(-1)
		c.node.conns.Delete(c.id)
		if !c.has(fReady) {
			c.node.raw.Add(-1)
		}
		if c.has(fPushSeen) {
			c.node.pushes.Add(-1)
		}
		if c.node.count.Add(-1) == 0 {
			c.node.upkeep.Load().Used()
		}
	}
	why := closeReason{reason: hooks.ReasonPool}
	if e := c.closedFor.Load(); e != nil {
		why = *e
	} else if t.closed.Load() {
		why.reason = hooks.ReasonShutdown
	} else if level, r := unpackOrder(c.order.Load()); level >= orderEvictIdle {
		why.reason = r
	} else if alive, _ := c.peekWith(new(peeker)); !alive {
		why.reason = hooks.ReasonError // found dead by go-redis's own check
	}
	t.closes.add(why.reason)
	c.node.closes.add(why.reason)
	switch why.reason {
	case hooks.ReasonError, hooks.ReasonSuspected, hooks.ReasonUnacked, hooks.ReasonHeartbeat, hooks.ReasonReadOnly:
		c.node.noteFailure()
	}
	if why.reason == hooks.ReasonError && why.err == nil && c.has(fReady) {
		t.failed(c, &hooks.ConnError{Op: OpRead, Node: c.addr, ID: c.id, Err: io.EOF}, false, false)
	}
	if !t.Observed() {
		return
	}
	now := t.now()
	t.Emit(hooks.Event{Kind: hooks.Closed, Node: c.addr, ConnID: c.id, Reason: why.reason, Err: why.err,
		Age: time.Duration(now - c.created), Idle: time.Duration(now - c.lastUsed.Load()),
		BytesIn: c.in.Load(), BytesOut: c.out.Load()})
}

func (t *Tracker) failed(c *Conn, e *hooks.ConnError, timeout, waking bool) {
	if !e.Self && !t.closed.Load() {
		c.node.upkeep.Load().Failed(Failure{e, timeout, waking})
	}
}

// SetValidateAfter sets the idle time after which a lease gets a connection only
// after a real PING. 0: always, negative: never (the default).
func (t *Tracker) SetValidateAfter(d time.Duration) { t.validateAfter.Store(int64(d)) }

// CloseReasons counts the connections that were closed, by reason.
func (t *Tracker) CloseReasons() map[hooks.Reason]uint64 { return t.closes.read() }

// closeCounters counts without a lock, because add runs under go-redis's pool lock.
type closeCounters [16]atomic.Uint64

func (e *closeCounters) add(r hooks.Reason) {
	for i, x := range reasonCodes {
		if x == r {
			e[i].Add(1)
		}
	}
}

func (e *closeCounters) read() map[hooks.Reason]uint64 {
	m := make(map[hooks.Reason]uint64, len(reasonCodes))
	for i, r := range reasonCodes {
		if n := e[i].Load(); i > 0 && n > 0 {
			m[r] = n
		}
	}
	return m
}

// CloseSentinels closes the connections to Sentinels: go-redis's Close waits for the replies that
// are outstanding on them.
func (t *Tracker) CloseSentinels() {
	t.Range(func(c *Conn) bool {
		if c.sentinel() {
			_ = c.Close()
		}
		return true
	})
}

// CloseAll closes the connections that are still open after the client was closed:
// go-redis forgets some (#3999).
func (t *Tracker) CloseAll() {
	t.Range(func(c *Conn) bool {
		_ = c.Close()
		return true
	})
}
