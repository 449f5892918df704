package upkeep

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

// Detection says how half-open connections are found out. It is filled: nothing in it
// stands for a default.
type Detection struct {
	Off      bool
	After    time.Duration // how long a reply may be waited for, negative: for ever
	Patience time.Duration // how long a PING may take
}

// detection is what is suspected of the connections of one node.
type detection struct {
	broken   atomic.Int64 // a connection failed then: what was used last before is suspect
	timedOut atomic.Bool  // a caller's command timed out, or a PING of ours
	silent   atomic.Int64 // a PING of ours timed out then: no more before a fresh connection is answered
	running  atomic.Bool  // it is being found out who still answers
	answered atomic.Int64 // a fresh connection was answered then
	dead     atomic.Pointer[deadSibling]

	asked   time.Duration                // when a question was asked last
	again   time.Duration                // ask no other one before
	unacked map[*conntrack.Conn]unackeds // what the kernel has said so far
}

// deadSibling is an idle connection that was found dead.
type deadSibling struct {
	heard time.Duration // when something came over it last
	found time.Duration
}

// errHalfOpen is why commands on a half-open connection fail before their own
// timeout. It is a timeout like that, and names the evidence.
type errHalfOpen struct{ evidence string }

func (e errHalfOpen) Error() string { return "half-open: " + e.evidence }
func (errHalfOpen) Timeout() bool   { return true }
func (errHalfOpen) Temporary() bool { return true }

var _ net.Error = errHalfOpen{}

// failed hears of every connection that failed by itself, on the goroutine of
// the caller who met it.
func (k *Keeper) failed(f conntrack.Failure) {
	n := k.of(f.Conn.Node())
	if n == nil {
		return
	}
	if !f.Timeout {
		n.learnAgain.Store(true)
	}
	if k.cfg.Detection.Off {
		return
	}
	now := int64(k.tracker.Elapsed())
	switch {
	case !f.Timeout:
		n.detect.broken.Store(now)
	case f.Waking:
		n.detect.silent.Store(now)
		fallthrough
	default:
		n.detect.timedOut.Store(true)
	}
	n.wake()
}

// holdsFor bounds how long visits are held back for want of an answer: where
// nobody new is let in there never is one.
const holdsFor = 5 * time.Second

// holds reports whether visits are to wait: it is being found out who answers, or
// a PING of ours timed out, and the next one would cost another connection of a
// server that is only slow.
func (u *detection) holds(now time.Duration) bool {
	at := time.Duration(u.silent.Load())
	return u.running.Load() || at > 0 && now-at < holdsFor
}

// asks reports whether it is being found out, or will be at once, who still
// answers: other questions would hold that up.
func (u *detection) asks(now time.Duration) bool { return u.holds(now) || u.timedOut.Load() }

// overdue notes a connection that waits for a reply.
func (l *survey) overdue(c *conntrack.Conn, v conntrack.View) {
	p := l.n.k.cfg.Detection
	switch due := v.LastUsed + p.After/2; {
	case p.Off || p.After < 0:
	case v.Writing:
		c.SawWriting() // nothing is judged while a write is running
	case l.now < due:
		l.at(due)
	default:
		l.stuck = append(l.stuck, c)
	}
}

// look acts on what failed since the last look.
func (u *detection) look(n *Node, l *survey) time.Duration {
	p := n.k.cfg.Detection
	if p.Off {
		return never
	}
	if at := time.Duration(u.broken.Swap(0)); at > 0 {
		n.suspectIdle(l, at)
	}
	next, wanted := u.judge(n, l)
	if wanted || u.timedOut.Load() {
		if wait := u.again - l.now; wait > 0 {
			next = min(next, wait)
		} else if u.running.CompareAndSwap(false, true) {
			u.timedOut.Store(false)
			u.asked, u.again = l.now, l.now+n.compareEvery()
			fresh := len(u.unacked) > 0
			go func() {
				u.question(n, fresh)
				u.running.Store(false)
				n.wake()
			}()
		}
	}
	if p.After < 0 {
		return next
	}
	inUse := func() bool { return n.Tracked.InFlight(hooks.PoolMain)+n.Tracked.InFlight(hooks.PoolPipeline) > 0 }
	if l.active || inUse() {
		return min(next, p.After/2)
	}
	n.Tracked.TellOfUse()
	if inUse() { // it may have begun before it could tell
		return min(next, p.After/2)
	}
	return next
}

// suspectIdle asks the connections that nobody uses and that were used last before
// a time.
func (n *Node) suspectIdle(l *survey, before time.Duration) {
	for pool, conns := range l.idle {
		for _, c := range conns {
			if c.View().LastUsed <= before && !c.Due() {
				c.Suspect()
				l.due[pool]++
			}
		}
	}
}
