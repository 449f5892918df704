package managed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// FailureDetection says what is done to find out whether a connection is half-open:
// dead without a word, as behind a cut cable or a firewall that has forgotten it.
// That a reply is late is no evidence, for no command. The zero value is the default.
type FailureDetection struct {
	// Off switches it off: each connection fails on its own, when its caller's time
	// is over.
	Off bool
	// After is how long a reply may be waited for before evidence is looked for.
	// Default 500 ms. Negative: only the caller's own timeout tells.
	After time.Duration
	// Patience is how long an idle connection, and the fresh one it is compared
	// with, may take to answer a PING. Default 300 ms.
	Patience time.Duration
}

func (p FailureDetection) validate() error {
	if p.Patience < 0 {
		return bad("WithFailureDetection", p.Patience, "Patience must not be negative")
	}
	return nil
}

func (p FailureDetection) filled() FailureDetection {
	if p.After == 0 {
		p.After = 500 * time.Millisecond
	}
	if p.Patience == 0 {
		p.Patience = 300 * time.Millisecond
	}
	return p
}

// suspicion is what is suspected of the connections of one node.
type suspicion struct {
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

// unackeds is what the kernel has said of one connection since its last write.
type unackeds struct {
	written time.Duration
	begin   time.Duration // since when it is looked at
	tries   int           // there were so many when a fresh connection was answered, -1 before
	more    time.Duration // when there were more than that, 0 before
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
func (m *maintainer) failed(f conntrack.Failure) {
	s := m.of(f.Conn.Node())
	if s == nil {
		return
	}
	if !f.Timeout {
		s.learnAgain.Store(true)
	}
	if m.core.set.suspicion.Off {
		return
	}
	now := int64(m.core.tracker.Elapsed())
	switch {
	case !f.Timeout:
		s.suspect.broken.Store(now)
	case f.Waking:
		s.suspect.silent.Store(now)
		fallthrough
	default:
		s.suspect.timedOut.Store(true)
	}
	s.wake()
}

// holdsFor bounds how long visits are held back for want of an answer: where
// nobody new is let in there never is one.
const holdsFor = 5 * time.Second

// holds reports whether visits are to wait: it is being found out who answers, or
// a PING of ours timed out, and the next one would cost another connection of a
// server that is only slow.
func (u *suspicion) holds(now time.Duration) bool {
	at := time.Duration(u.silent.Load())
	return u.running.Load() || at > 0 && now-at < holdsFor
}

// asks reports whether it is being found out, or will be at once, who still
// answers: other questions would hold that up.
func (u *suspicion) asks(now time.Duration) bool { return u.holds(now) || u.timedOut.Load() }

// overdue notes a connection that waits for a reply.
func (l *survey) overdue(c *conntrack.Conn, v conntrack.View) {
	p := l.s.m.core.set.suspicion
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
func (u *suspicion) look(s *nodeState, l *survey) time.Duration {
	p := s.m.core.set.suspicion
	if p.Off {
		return never
	}
	if at := time.Duration(u.broken.Swap(0)); at > 0 {
		s.suspectIdle(l, at)
	}
	next, wanted := u.judge(s, l)
	if wanted || u.timedOut.Load() {
		if wait := u.again - l.now; wait > 0 {
			next = min(next, wait)
		} else if u.running.CompareAndSwap(false, true) {
			u.timedOut.Store(false)
			u.asked, u.again = l.now, l.now+s.compareEvery()
			fresh := len(u.unacked) > 0
			s.m.done.Add(1)
			go func() {
				defer s.m.done.Done()
				u.question(s, fresh)
				u.running.Store(false)
				s.wake()
			}()
		}
	}
	if p.After < 0 {
		return next
	}
	inUse := func() bool { return s.node.InFlight(hooks.PoolMain)+s.node.InFlight(hooks.PoolPipeline) > 0 }
	if l.active || inUse() {
		return min(next, p.After/2)
	}
	s.node.TellOfUse()
	if inUse() { // it may have begun before it could tell
		return min(next, p.After/2)
	}
	return next
}

const (
	unackedFor  = time.Second // without an acknowledgement, for a connection to be dead
	unackedLook = 50 * time.Millisecond
)

// judge ends those of the connections that wait for a reply which are dead by the
// evidence there is. wanted means that there may be more for the asking.
func (u *suspicion) judge(s *nodeState, l *survey) (next time.Duration, wanted bool) {
	after := s.m.core.set.suspicion.After
	next = never
	seen := u.unacked
	u.unacked = nil
	for _, c := range l.stuck {
		v := c.View()
		if !v.Awaiting || v.Writing {
			continue
		}
		k, _ := c.Unacked()
		if k.Pending && k.Tries == 0 {
			next = min(next, after/2)
			continue // it is on its way
		}
		if k.Pending && v.Ready {
			x, known := seen[c]
			if !known || x.written != v.LastUsed {
				x = unackeds{written: v.LastUsed, begin: l.now, tries: -1}
			}
			if x.dead(k, time.Duration(u.answered.Load()), l.now) {
				c.KillSilent(v.LastUsed, hooks.ReasonUnacked, errHalfOpen{fmt.Sprintf("sent again %d times in %v and nothing was acknowledged, while a fresh connection is answered",
					k.Tries, min(k.Silence, l.now-v.LastUsed).Round(time.Millisecond))})
				s.suspectIdle(l, v.LastUsed)
				continue
			}
			if u.unacked == nil {
				u.unacked = map[*conntrack.Conn]unackeds{}
			}
			u.unacked[c] = x
			wanted = wanted || x.tries < 0
			next = min(next, unackedLook)
		}
		if due := v.LastUsed + after; l.now < due {
			next = min(next, due-l.now)
			continue
		}
		if d := u.dead.Load(); d != nil && v.Ready && v.Heard <= d.heard && v.LastUsed <= d.found {
			c.KillSilent(v.LastUsed, hooks.ReasonSuspected, errHalfOpen{"an idle connection, silent for as long, did not answer a PING, while a fresh one did"})
			continue
		}
		// Each time that its age has doubled.
		if due := v.LastUsed + 2*(u.asked-v.LastUsed); l.now < due {
			next = min(next, due-l.now)
			continue
		}
		wanted = true
	}
	return next, wanted
}

// suspectIdle asks the connections that nobody uses and that were used last before
// a time.
func (s *nodeState) suspectIdle(l *survey, before time.Duration) {
	for pool, conns := range l.idle {
		for _, c := range conns {
			if c.View().LastUsed <= before && !c.Due() {
				c.Suspect()
				l.due[pool]++
			}
		}
	}
}

// dead reports whether a connection is dead for what the kernel says: it has
// tried again after a fresh connection was answered, and nothing was acknowledged.
func (x *unackeds) dead(k conntrack.Unacked, answered, now time.Duration) bool {
	switch {
	case answered <= x.begin:
		return false
	case x.tries < 0 || k.Tries < x.tries: // fewer: some were acknowledged meanwhile
		x.tries, x.more = k.Tries, 0
	case k.Tries > x.tries && x.more == 0:
		x.more = now
	}
	return x.more > 0 && now-x.more >= max(unackedLook, 2*k.RTT) && k.Tries >= 2 && min(k.Silence, now-x.written) >= unackedFor
}

// question finds out who still answers. fresh: that a fresh connection is answered
// is wanted in any case.
func (u *suspicion) question(s *nodeState, fresh bool) {
	const atMost = 3
	if fresh || u.silent.Load() > 0 {
		if u.ask(s) != nil {
			return
		}
	}
	if s.pings.off(s) || !s.visiting.take(s.m.ctx) {
		return
	}
	defer s.visiting.end()
	asked := map[*conntrack.Conn]bool{}
	for len(asked) < atMost {
		c := u.candidate(s, asked)
		if c == nil {
			break
		}
		asked[c] = true
		if u.compare(s, c) {
			return
		}
	}
	if len(asked) == 0 && s.unit.inner {
		_ = u.ask(s) // in a cluster the others know whether another node has taken over
	}
}

// candidate is the connection over which something came last, of those that
// nobody uses and that have been silent for a while: what was silent for longer
// than that one is dead if it is.
func (u *suspicion) candidate(s *nodeState, but map[*conntrack.Conn]bool) (last *conntrack.Conn) {
	before := s.m.core.tracker.Elapsed() - s.m.core.set.suspicion.Patience
	var heard time.Duration
	s.eachIdle(func(c *conntrack.Conn, v conntrack.View) {
		if v.Heard <= before && v.Heard >= heard && v.LastUsed <= before && v.Pool != hooks.PoolUnknown && !but[c] {
			last, heard = c, v.Heard
		}
	})
	return last
}

// eachIdle calls f for the connections of the node that nobody uses.
func (s *nodeState) eachIdle(f func(*conntrack.Conn, conntrack.View)) {
	s.node.Range(func(c *conntrack.Conn) bool {
		if v := c.View(); v.Ready && !v.PubSub && !v.Leased && !v.Awaiting && !c.Leaving() {
			f(c, v)
		}
		return true
	})
}

// compare asks a connection that nobody uses and, if that takes long, a fresh one.
// If the latter is answered, although it asked later, the former is dead, and so
// are those that nobody uses and that were silent for longer. While neither is, the
// server is slow or down, and nothing is ended.
func (u *suspicion) compare(s *nodeState, c *conntrack.Conn) (dead bool) {
	const longest = 30 * time.Second
	tracker, patience := s.m.core.tracker, s.m.core.set.suspicion.Patience
	begin := tracker.Elapsed()
	answer := make(chan struct{})
	go func() {
		defer close(answer)
		s.node.Ask(c, longest)
	}()
	timer := time.NewTimer(patience / 4)
	defer timer.Stop()
	answered := func(wait time.Duration) bool {
		timer.Reset(wait)
		select {
		case <-answer:
			return true
		case <-s.m.ctx.Done():
			return true
		case <-timer.C:
			return false
		}
	}
	for pause, wait := s.compareEvery(), patience/4; ; wait = pause {
		if answered(wait) {
			return false
		}
		later := tracker.Elapsed()
		if err := u.ask(s); err != nil {
			if !timedOut(err) { // it is turned away: it is no use to ask again and again
				pause = min(2*pause, longest)
			}
			continue
		}
		if answered(max(begin+patience-tracker.Elapsed(), patience/4)) {
			return false
		}
		heard, killed := s.killAsked(begin, later)
		<-answer
		if !killed {
			return false
		}
		u.dead.Store(&deadSibling{heard, tracker.Elapsed()})
		s.eachIdle(func(x *conntrack.Conn, v conntrack.View) {
			if v.Heard <= heard {
				x.Condemn(hooks.ReasonSuspected)
			}
		})
		return true
	}
}

// killAsked ends the connection that was asked between two times, and says when
// something came over it last.
func (s *nodeState) killAsked(from, to time.Duration) (heard time.Duration, killed bool) {
	s.node.Range(func(c *conntrack.Conn) bool {
		v := c.View()
		if v.Asked && from <= v.LastUsed && v.LastUsed <= to &&
			c.KillSilent(v.LastUsed, hooks.ReasonSuspected, errHalfOpen{"it did not answer a PING, while a fresh connection did"}) {
			heard, killed = v.Heard, true
		}
		return !killed
	})
	return heard, killed
}

// ask asks a fresh connection.
func (u *suspicion) ask(s *nodeState) error {
	ctx, cancel := context.WithTimeout(s.m.ctx, s.m.core.set.suspicion.Patience)
	defer cancel()
	began := s.m.core.tracker.Elapsed()
	err := s.node.Fresh(ctx)
	if err == nil {
		s.node.SetAnswering()
		u.answered.Store(int64(s.m.core.tracker.Elapsed()))
		u.silent.Store(0)
		s.unit.silent.Store(0)
		return nil
	}
	s.unanswered()
	if timedOut(err) {
		s.degraded(began, err)
		u.timedOut.Store(u.silent.Load() > 0 || s.unit.inner)
	} else {
		u.silent.Store(0)
	}
	return err
}

// degraded notes that nobody gets an answer, if nobody has got one since a time.
func (s *nodeState) degraded(since time.Duration, err error) {
	heard := false
	s.node.Range(func(c *conntrack.Conn) bool {
		heard = c.View().Heard >= since
		return !heard
	})
	if !heard {
		s.node.SetDegraded(err)
	}
}

func timedOut(err error) bool {
	return errtext.IsTimeout(err) || errors.Is(err, context.DeadlineExceeded)
}

// readOnly hears that a node refused a write because it is a replica. If it took
// writes before, a failover has happened, and its older connections are retired:
// a name that now leads elsewhere must be resolved again. Once a second at most; the
// connection that was answered so is closed in any case.
func (s *nodeState) readOnly() {
	if s.m.core.set.suspicion.Off || !s.node.TookWrites() {
		return
	}
	now := s.m.core.tracker.Elapsed()
	last := s.lastReadOnly.Load()
	if last != 0 && now-time.Duration(last) < time.Second || !s.lastReadOnly.CompareAndSwap(last, int64(now)) {
		return
	}
	s.node.ForgetWrites()
	s.node.Range(func(c *conntrack.Conn) bool {
		if v := c.View(); v.Born < now && !v.PubSub {
			c.Condemn(hooks.ReasonReadOnly)
		}
		return true
	})
	s.wake()
}
