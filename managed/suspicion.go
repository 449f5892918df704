package managed

import (
	"context"
	"errors"
	"net"
	"slices"
	"sort"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// SuspicionPolicy says what follows from the failure of one connection for its
// siblings. The zero value is the default.
type SuspicionPolicy struct {
	// Off switches suspicion off: each connection fails on its own.
	Off bool
	// After is how long a reply may be overdue before it is found out whether
	// the connection is half-open. Blocking commands are never overdue.
	// Default 500 ms. Negative: only the caller's own timeout tells.
	After time.Duration
	// Patience is how long a suspect, and the fresh connection it is compared
	// with, may take to answer a PING. Default 300 ms.
	Patience time.Duration
	// UserTimeout is how long bytes may stay unacknowledged by the other side's
	// kernel before ours ends the connection (TCP_USER_TIMEOUT, Linux only).
	// Default: Options.ReadTimeout if it is positive, else 10 s. Negative: the
	// system's default.
	UserTimeout time.Duration
}

func (p SuspicionPolicy) validate() error {
	if p.Patience < 0 {
		return bad("WithSuspicion", p.Patience, "Patience must not be negative")
	}
	return nil
}

func (p SuspicionPolicy) filled(opt *redis.Options) SuspicionPolicy {
	if p.After == 0 {
		p.After = 500 * time.Millisecond
	}
	if p.Patience == 0 {
		p.Patience = 300 * time.Millisecond
	}
	if p.UserTimeout == 0 {
		p.UserTimeout = 10 * time.Second
		if opt.ReadTimeout > 0 {
			p.UserTimeout = opt.ReadTimeout
		} else if opt.ReadTimeout == 0 {
			p.UserTimeout = 5 * time.Second // go-redis's default
		}
	}
	if p.Off || p.UserTimeout < 0 {
		p.UserTimeout = 0
	}
	return p
}

// suspicion is what is suspected of the connections of one node.
type suspicion struct {
	broken   atomic.Int64 // a connection failed then: what was used last before is suspect
	timedOut atomic.Bool  // a caller's command timed out, or a PING of ours
	silent   atomic.Int64 // a PING of ours timed out then: no more before a fresh connection is answered
	running  atomic.Bool
	proven   atomic.Int64  // half-open siblings were found then
	again    time.Duration // do not compare before
}

// errHalfOpen is why commands on a half-open connection fail before their own
// timeout. It is a timeout like that.
type errHalfOpen struct{}

func (errHalfOpen) Error() string {
	return "no reply, while a fresh connection to the same server is answered: the connection is half-open"
}
func (errHalfOpen) Timeout() bool   { return true }
func (errHalfOpen) Temporary() bool { return true }

// ServerIsWell tells package retry that a fresh connection is answered: repeating
// the command takes nothing from its budget.
func (errHalfOpen) ServerIsWell() bool { return true }

var _ net.Error = errHalfOpen{}

// failed hears of every connection that failed by itself, on the goroutine of
// the caller who met it.
func (m *maintainer) failed(f hooks.Failure) {
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

// holds reports whether visits are to wait: a PING of ours timed out, and the
// next one would cost another connection of a server that is only slow.
func (u *suspicion) holds(now time.Duration) bool {
	at := time.Duration(u.silent.Load())
	return at > 0 && now-at < holdsFor
}

// asks reports whether it is being found out, or will be at once, who still
// answers: other questions would hold that up.
func (u *suspicion) asks(now time.Duration) bool {
	return u.holds(now) || u.timedOut.Load() || u.running.Load()
}

// overdue notes a connection whose reply is late.
func (l *survey) overdue(c *hooks.Conn, v hooks.View) {
	p := l.s.m.core.set.suspicion
	if p.Off || p.After < 0 || v.Ready && blocking(c.LastCommand()) {
		return
	}
	if due := v.LastUsed + p.After; l.now < due {
		l.at(due)
	} else {
		l.stuck = append(l.stuck, c)
	}
}

// blocking knows the commands that may wait in the server, and those that may
// work there while it answers others.
func blocking(name string) bool {
	switch name {
	case "blpop", "brpop", "brpoplpush", "blmove", "blmpop", "bzpopmin", "bzpopmax", "bzmpop", "xread", "xreadgroup",
		"wait", "waitaof", "subscribe", "psubscribe", "ssubscribe", "monitor", "debug", "migrate", "save", "shutdown",
		"failover", "":
		return true
	}
	return strings.Contains(name, ".") // modules have threads of their own
}

// quickReads are answered in the order in which they and a later PING arrive, so
// an answered PING on a fresh connection proves that they did not.
func quickRead(name string) bool {
	switch name {
	case "get", "mget", "exists", "ttl", "pttl", "type", "strlen", "hget", "hmget", "hexists", "hlen", "llen", "lindex",
		"scard", "sismember", "zcard", "zscore", "ping", "echo":
		return true
	}
	return false
}

// look acts on what failed since the last look.
func (u *suspicion) look(s *nodeState, l *survey) time.Duration {
	p := s.m.core.set.suspicion
	if p.Off {
		return never
	}
	if at := time.Duration(u.broken.Swap(0)); at > 0 {
		for pool, conns := range l.idle {
			for _, c := range conns {
				if c.View().LastUsed <= at && !c.Due() {
					c.Suspect()
					l.due[pool]++
				}
			}
		}
	}
	next := never
	stuck := u.kill(l.stuck, time.Duration(u.proven.Load()))
	if len(stuck) > 0 || u.timedOut.Load() {
		if wait := u.again - l.now; wait > 0 {
			next = wait
		} else if u.running.CompareAndSwap(false, true) {
			u.timedOut.Store(false)
			u.again = l.now + s.compareEvery()
			s.m.done.Add(1)
			go func() {
				defer s.m.done.Done()
				u.compare(s, stuck)
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

// kill ends those whose command was sent before half-open connections were found
// at a time, and returns the others: about these nothing is known yet.
func (u *suspicion) kill(conns []*hooks.Conn, at time.Duration) (others []*hooks.Conn) {
	for _, c := range conns {
		if v := c.View(); at > 0 && v.Awaiting && v.LastUsed <= at {
			c.KillSilent(hooks.ReasonSuspect, errHalfOpen{})
		} else {
			others = append(others, c)
		}
	}
	return others
}

// compare asks a fresh connection; if that is answered, it asks the idle ones. A
// suspect that then does not answer is half-open, and so are, for all we know,
// those that were silent since. If the fresh one gets no answer either, the
// server is slow or down, and the pool is left alone.
func (u *suspicion) compare(s *nodeState, stuck []*hooks.Conn) {
	tracker := s.m.core.tracker
	begin := tracker.Elapsed()
	if err := s.ask(s.m.core.set.suspicion.Patience); err != nil {
		u.undecided(err)
		s.unanswered()
		return
	}
	s.unit.silent.Store(0)
	u.silent.Store(0)
	stuck = u.stuck(s, stuck, begin)
	if !s.visiting.take(s.m.ctx) {
		return
	}
	defer s.visiting.end()
	suspects := u.suspects(s, begin)
	dead, err := u.probe(s, suspects)
	if err != nil {
		u.undecided(err)
		return
	}
	for _, c := range stuck {
		// The fresh connection asked later and was answered first.
		if v := c.View(); v.Awaiting && v.LastUsed < begin && v.Pool == hooks.PoolMain && quickRead(c.LastCommand()) {
			c.KillSilent(hooks.ReasonSuspect, errHalfOpen{})
			dead = dead || len(suspects) == 0
		}
	}
	if !dead {
		u.killWrites(s, stuck, begin)
		return
	}
	u.proven.Store(int64(tracker.Elapsed()))
	for _, c := range u.suspects(s, begin) {
		c.Condemn(hooks.ReasonSuspect)
	}
	for _, c := range stuck {
		if v := c.View(); v.Awaiting && v.LastUsed < begin {
			c.KillSilent(hooks.ReasonSuspect, errHalfOpen{})
		}
	}
}

// killWrites ends connections whose overdue command is no quick read, where the
// server carries out such commands now: it is not its writes that are paused.
func (u *suspicion) killWrites(s *nodeState, stuck []*hooks.Conn, begin time.Duration) {
	overdue := func(c *hooks.Conn) bool {
		v := c.View()
		return v.Awaiting && v.Pool == hooks.PoolMain && v.LastUsed < begin && !quickRead(c.LastCommand())
	}
	if !slices.ContainsFunc(stuck, overdue) {
		return
	}
	ctx, cancel := context.WithTimeout(s.m.ctx, s.m.core.set.suspicion.Patience)
	defer cancel()
	if !s.node.TakesWrites(ctx) {
		return
	}
	for _, c := range stuck {
		if overdue(c) {
			c.KillSilent(hooks.ReasonSuspect, errHalfOpen{})
		}
	}
}

// stuck adds those whose reply is nearly overdue, too: what fails together was
// seldom used at the very same time.
func (u *suspicion) stuck(s *nodeState, known []*hooks.Conn, begin time.Duration) []*hooks.Conn {
	if len(known) == 0 {
		return nil
	}
	out := known[:len(known):len(known)]
	s.m.core.tracker.Range(func(c *hooks.Conn) bool {
		v := c.View()
		if c.Node() == s.node && v.Awaiting && v.Ready && !v.PubSub && v.LastUsed < begin-s.m.core.set.suspicion.After/2 &&
			!blocking(c.LastCommand()) && !slices.Contains(known, c) {
			out = append(out, c)
		}
		return true
	})
	return out
}

// undecided is what follows when the fresh connection did not tell: it is asked
// again, unless it was turned away and not left without an answer.
func (u *suspicion) undecided(err error) {
	if u.silent.Load() == 0 {
		return
	}
	if isTimeout(err) || errors.Is(err, context.DeadlineExceeded) {
		u.timedOut.Store(true)
	} else {
		u.silent.Store(0)
	}
}

// ask opens a fresh connection and asks that.
func (s *nodeState) ask(patience time.Duration) error {
	ctx, cancel := context.WithTimeout(s.m.ctx, patience)
	defer cancel()
	return s.node.Fresh(ctx)
}

// probe asks some suspects, one after the other, until one is found dead: it did
// not answer, although a fresh connection that asked later was answered. An error
// means that the fresh one was not either.
func (u *suspicion) probe(s *nodeState, suspects []*hooks.Conn) (dead bool, err error) {
	const atMost = 8
	patience := s.m.core.set.suspicion.Patience
	asked := make(map[*hooks.Conn]bool, atMost)
	for _, c := range suspects[:min(atMost, len(suspects))] {
		c.Suspect()
		asked[c] = true
	}
	for _, pool := range []hooks.Pool{hooks.PoolMain, hooks.PoolPipeline} {
		for left := 2 * s.idle(pool); left > 0 && len(asked) > 0 && s.m.ctx.Err() == nil; left-- {
			witness := make(chan error, 1)
			later := time.AfterFunc(patience/4, func() { witness <- s.ask(patience - patience/4) })
			met, removed, err := s.node.Visit(pool, patience)
			var werr error
			if !later.Stop() {
				werr = <-witness
			}
			if met == nil {
				break
			}
			delete(asked, met)
			if !removed || !isTimeout(err) {
				continue
			}
			if werr != nil {
				return false, werr
			}
			u.silent.Store(0)
			return true, nil
		}
	}
	return false, nil
}

// suspects are the connections that nothing was heard from since a time and that
// nobody uses, the longest silent first.
func (u *suspicion) suspects(s *nodeState, since time.Duration) []*hooks.Conn {
	var out []*hooks.Conn
	s.m.core.tracker.Range(func(c *hooks.Conn) bool {
		v := c.View()
		if c.Node() == s.node && v.Ready && !v.PubSub && !v.Leased && !v.Awaiting && v.LastUsed < since && !c.Leaving() {
			out = append(out, c)
		}
		return true
	})
	sort.Slice(out, func(i, j int) bool { return out[i].View().LastUsed < out[j].View().LastUsed })
	return out
}

// readOnly hears that a node refused a write because it is a replica. If it took
// writes before, a failover has happened, and its older connections are retired:
// a name that now leads elsewhere must be resolved again. Once a minute at most.
func (s *nodeState) readOnly() {
	if s.m.core.set.suspicion.Off || !s.node.TookWrites() {
		return
	}
	now := s.m.core.tracker.Elapsed()
	last := s.lastReadOnly.Load()
	if last != 0 && now-time.Duration(last) < time.Minute || !s.lastReadOnly.CompareAndSwap(last, int64(now)) {
		return
	}
	s.node.ForgetWrites()
	s.m.core.tracker.Range(func(c *hooks.Conn) bool {
		if v := c.View(); c.Node() == s.node && v.Born < now && !v.PubSub {
			c.Condemn(hooks.ReasonReadOnly)
		}
		return true
	})
	s.wake()
}
