package upkeep

import (
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

const (
	agedAtOnce = 256                    // part of the maximum age within which ends are put together
	beatAtOnce = 16                     // part of the heartbeat within which PINGs are
	dirtyPause = 200 * time.Millisecond // between looks for one that came back with state on it
)

// survey is one look at the connections of a node.
type survey struct {
	n         *Node
	now       time.Duration
	heartbeat time.Duration
	distrust  time.Duration // what was used last before that must answer
	active    bool          // it was used since the last look
	away      bool          // the server takes nobody new
	waiting   bool          // something is not done because of that
	next      time.Duration
	due       [3]int
	idle      [3][]*conntrack.Conn // could be ended as surplus
	total     [3]int
	stuck     []*conntrack.Conn // a reply is overdue
	aged      bool              // one is so old that it has to go
	ageing    []*conntrack.Conn // will be soon
	stateful  int               // commands left state on them: each ends when it is idle
	busy      int               // leased, or with a command in flight, in the main pool
}

// begin starts a look, with the lists of the last one.
func (l *survey) begin(n *Node, now time.Duration) {
	for i := range l.idle {
		l.idle[i] = l.idle[i][:0]
	}
	*l = survey{n: n, now: now, next: never, heartbeat: n.heartbeat(), away: n.Tracked.ClosedToNew(),
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
	if v.LastUsed > l.n.looked {
		l.active = true
	}
	if v.Ready && v.Pool == hooks.PoolMain && (v.Leased || v.Awaiting) {
		l.busy++
	}
	if dirty, _ := c.HasSessionState(); dirty && !v.Leased {
		switch {
		case v.Awaiting:
		case v.Pool == hooks.PoolPipeline:
			l.due[v.Pool]++ // nobody keeps one of those
		default:
			l.stateful++
		}
		if v.Awaiting && v.Ready {
			l.overdue(c, v)
		}
		return true
	}
	if l.away {
		c.CancelOrder()
	}
	l.age(c, v)
	l.silence(c, v)
	if !c.Evicting() {
		l.total[pool]++
	}
	if v.Awaiting && (v.Ready || l.n.Inner) {
		l.overdue(c, v)
	}
	if c.Due() && v.Awaiting && !v.Leased {
		l.next = min(l.next, 5*retryPause) // it cannot be idle before its reply is there
	} else if c.Due() && !v.Leased {
		l.due[v.Pool]++ // go-redis says whether it is idle; only a visit can tell
	}
	if !v.Leased && !v.Awaiting && !c.Evicting() {
		l.idle[pool] = append(l.idle[pool], c)
	}
	return true
}

// dirty sees to the connections on which commands left state. As long as callers may
// hold them, in a Conn or a Watch, they are left alone, and nobody tells when they are
// idle again: but then fewer are in use than there are of them.
func (l *survey) dirty() {
	n := l.stateful
	if n == 0 {
		return
	}
	l.next = min(l.next, dirtyPause)
	if quiet := l.n.Tracked.Main().InUse - l.busy; n > quiet {
		l.due[hooks.PoolMain] += n - max(quiet, 0)
	}
}

// age retires connections a little before the age at which they are refused at
// checkout, so that callers do not meet it.
func (l *survey) age(c *conntrack.Conn, v conntrack.View) {
	if v.MaxAge <= 0 {
		return
	}
	soft := v.Born + v.MaxAge - min(50*time.Millisecond, v.MaxAge/10)
	switch {
	case l.now < soft-v.MaxAge/agedAtOnce:
		l.at(soft)
	case l.now < soft:
		l.at(soft)
		l.ageing = append(l.ageing, c)
	case l.away:
		l.waiting = true
	default:
		l.aged = true
		c.EvictIdle(hooks.ReasonAge)
	}
}

// old retires those that are nearly as old with those that are too old: in a
// large pool each sweep for one alone would have to meet half of the others.
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

// silence wakes connections without network traffic for the heartbeat's time.
func (l *survey) silence(c *conntrack.Conn, v conntrack.View) {
	due := v.LastUsed + l.heartbeat
	if v.Leased || v.Awaiting {
		if l.heartbeat > 0 { // nobody tells when it is given back
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
