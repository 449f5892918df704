package upkeep

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

// Detection says how half-open connections are detected. Its defaults are filled in already.
type Detection struct {
	Off      bool
	After    time.Duration // how long a reply may take before its connection is compared with others; negative: no limit
	Patience time.Duration // how long a reply may take: that to a PING, and each one to a new connection
}

// detection holds what is suspected about the connections of one node.
type detection struct {
	broken   atomic.Int64 // when a connection last failed: connections last used before that are suspect
	timedOut atomic.Bool  // a caller's command timed out, or a PING of ours
	noPong   atomic.Int64 // when a PING of ours timed out: no further PING until a new connection is answered
	running  atomic.Bool  // a probe is running
	answered atomic.Int64 // when a new connection was last answered
	dead     atomic.Pointer[deadSibling]

	asked   time.Duration                // when the last probe was started
	again   time.Duration                // no further probe before this time
	unacked map[*conntrack.Conn]unackeds // what the kernel has reported so far
}

// deadSibling is an idle connection that was found to be dead.
type deadSibling struct {
	heard time.Duration // when it last received something
	found time.Duration
}

// errHalfOpen is the error of commands on a half-open connection, which fail before their own
// timeout. It is a timeout as well, and names the evidence.
type errHalfOpen struct{ evidence string }

func (e errHalfOpen) Error() string { return "half-open: " + e.evidence }
func (errHalfOpen) Timeout() bool   { return true }
func (errHalfOpen) Temporary() bool { return true }

var _ net.Error = errHalfOpen{}

// failed is called for every connection that failed by itself, on the goroutine of the caller that
// used it.
func (n *Node) failed(f conntrack.Failure) {
	if !f.Timeout {
		n.settingsAgain.Store(true)
	}
	if n.k.detection.Off {
		return
	}
	now := int64(n.k.tracker.Elapsed())
	switch {
	case !f.Timeout:
		n.detect.broken.Store(now)
	case f.Ping:
		n.detect.noPong.Store(now)
		fallthrough
	default:
		n.detect.timedOut.Store(true)
	}
	n.wake()
}

// holdsFor bounds how long visits wait because a probe has no answer: if no new connection is
// accepted, there never will be one.
const holdsFor = 5 * time.Second

// holds reports whether visits must wait: a probe is running, or a PING of ours timed out, and the
// next one would cost another connection to a server that may only be slow.
func (u *detection) holds(now time.Duration) bool {
	at := time.Duration(u.noPong.Load())
	return u.running.Load() || at > 0 && now-at < holdsFor
}

// probing reports whether a probe is running or about to start: other requests would delay it.
func (u *detection) probing(now time.Duration) bool { return u.holds(now) || u.timedOut.Load() }

// overdue records a connection whose reply is overdue.
func (l *survey) overdue(c *conntrack.Conn, v conntrack.View) {
	p := l.n.k.detection
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

// act acts on what has failed since the last check.
func (u *detection) act(n *Node, l *survey) time.Duration {
	p := n.k.detection
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
			newToo := len(u.unacked) > 0
			go func() {
				u.probe(n, newToo)
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
	n.Tracked.NotifyOfUse()
	if inUse() { // it may have begun before the check could see it
		return min(next, p.After/2)
	}
	return next
}

// suspectIdle probes the unused connections that were last used before the given time.
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
