package upkeep

import (
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

const (
	beatAtOnce = 16                     // part of the heartbeat within which PINGs are sent together
	statePause = 200 * time.Millisecond // between checks for a returned connection with session state
)

// survey is one check of the connections of a node.
type survey struct {
	n         *Node
	now       time.Duration
	heartbeat time.Duration
	distrust  time.Duration // connections last used before that must be validated
	active    bool          // the node was used since the last check
	refusing  bool          // the server accepts no new connections
	waiting   bool          // something is postponed because of that
	next      time.Duration
	due       [3]int
	idle      [3][]*conntrack.Conn // may be closed as excess
	total     [3]int
	stuck     []*conntrack.Conn // a reply is overdue
	aged      bool              // a connection is so old that it must be closed
	ageing    []*conntrack.Conn // connections that soon will be
	stateful  int               // connections with session state: each is closed when it is idle
	busy      int               // leased, or with a command in flight, in the main pool
}

// begin starts a check, and reuses the lists of the last one.
func (l *survey) begin(n *Node, now time.Duration) {
	for i := range l.idle {
		l.idle[i] = l.idle[i][:0]
	}
	*l = survey{n: n, now: now, next: never, heartbeat: n.heartbeat(), refusing: n.Tracked.ClosedToNew(),
		distrust: n.k.tracker.Unverified(), idle: l.idle, ageing: l.ageing[:0]}
}

func (l *survey) conn(c *conntrack.Conn) bool {
	v := c.View()
	if v.PubSub {
		return true
	}
	pool := v.Pool
	if pool == hooks.PoolUnknown {
		pool = hooks.PoolMain // dialed for MinIdleConns, not used yet
	}
	if v.LastUsed > l.n.surveyed {
		l.active = true
	}
	if v.Ready && v.Pool == hooks.PoolMain && (v.Leased || v.Awaiting) {
		l.busy++
	}
	if has, _ := c.HasSessionState(); has && !v.Leased {
		switch {
		case v.Awaiting:
		case v.Pool == hooks.PoolPipeline:
			l.due[v.Pool]++ // no caller holds a pipeline connection
		default:
			l.stateful++
		}
		if v.Awaiting && v.Ready {
			l.overdue(c, v)
		}
		return true
	}
	if l.refusing {
		c.CancelOrder()
	}
	l.age(c, v)
	l.validate(c, v)
	if !c.Evicting() {
		l.total[pool]++
	}
	if v.Awaiting && (v.Ready || l.n.Inner) {
		l.overdue(c, v)
	}
	if c.Due() && v.Awaiting && !v.Leased {
		l.next = min(l.next, 5*retryPause) // it cannot be idle before its reply has come
	} else if c.Due() && !v.Leased {
		l.due[v.Pool]++ // only a visit can tell whether go-redis has it idle
	}
	if !v.Leased && !v.Awaiting && !c.Evicting() {
		l.idle[pool] = append(l.idle[pool], c)
	}
	return true
}

// sessionState handles the connections with session state. They are left alone as long as callers may hold
// them, in a Conn or a Watch. No event says when such a connection is idle again, but one of them
// must be when fewer connections are in use than have session state.
func (l *survey) sessionState() {
	n := l.stateful
	if n == 0 {
		return
	}
	l.next = min(l.next, statePause)
	if quiet := l.n.Tracked.Main().InUse - l.busy; n > quiet {
		l.due[hooks.PoolMain] += n - max(quiet, 0)
	}
}

// age evicts connections a little before the age at which a checkout refuses them, so that callers
// do not run into it.
func (l *survey) age(c *conntrack.Conn, v conntrack.View) {
	at, together, ok := v.EvictionTime()
	switch {
	case !ok:
	case l.now < together:
		l.at(at)
	case l.now < at:
		l.at(at)
		l.ageing = append(l.ageing, c)
	case l.refusing:
		l.waiting = true
	default:
		l.aged = true
		c.EvictIdle(hooks.ReasonAge)
	}
}

// old evicts the connections that are nearly too old together with those that are: in a large pool,
// a separate sweep for each would have to visit half of the others.
func (l *survey) old() {
	if !l.aged {
		return
	}
	for _, c := range l.ageing {
		if !c.Due() {
			c.EvictIdle(hooks.ReasonAge)
			if v := c.View(); !v.Leased && !v.Awaiting {
				l.due[max(v.Pool, hooks.PoolMain)]++
			}
		}
	}
}

// validate has connections validated that had no network traffic for the heartbeat's time.
func (l *survey) validate(c *conntrack.Conn, v conntrack.View) {
	due := v.LastUsed + l.heartbeat
	if v.Leased || v.Awaiting {
		if l.heartbeat > 0 { // no event says when it is returned
			l.at(max(due, l.now+l.heartbeat/4))
		}
		return
	}
	if v.LastUsed < l.distrust {
		c.Suspect()
	}
	switch {
	case l.heartbeat <= 0:
	case l.now < due-l.heartbeat/beatAtOnce:
		l.at(due)
	default:
		c.Validate()
		l.at(l.now + l.heartbeat) // the next one
	}
}

// at notes that something is due at t.
func (l *survey) at(t time.Duration) { l.next = min(l.next, max(t-l.now, 0)) }
