package upkeep

import (
	"context"
	"errors"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// probe finds out whether the node still answers. newToo: probe a new connection in any case.
func (u *detection) probe(n *Node, newToo bool) {
	const atMost = 3
	if newToo || u.noPong.Load() > 0 {
		if u.probeNew(n) != nil {
			return
		}
	}
	if n.pings.off(n) || !n.visiting.take(n.k.ctx) {
		return
	}
	defer n.visiting.end()
	asked := map[*conntrack.Conn]bool{}
	for len(asked) < atMost {
		c := u.candidate(n, asked)
		if c == nil {
			break
		}
		asked[c] = true
		if u.compare(n, c) {
			return
		}
	}
	if len(asked) == 0 && n.Inner {
		_ = u.probeNew(n) // in a cluster the other nodes know whether another one has taken over
	}
}

// candidate returns, of the connections that nobody uses and that had no traffic for a while, the
// one that received something last: if that one is dead, so are those that have received nothing
// for longer.
func (u *detection) candidate(n *Node, but map[*conntrack.Conn]bool) (last *conntrack.Conn) {
	before := n.k.tracker.Elapsed() - n.k.detection.Patience
	var heard time.Duration
	n.eachIdle(func(c *conntrack.Conn, v conntrack.View) {
		if v.Heard <= before && v.Heard >= heard && v.LastUsed <= before && v.Pool != hooks.PoolUnknown && !but[c] {
			last, heard = c, v.Heard
		}
	})
	return last
}

// eachIdle calls f for the node's connections that nobody uses.
func (n *Node) eachIdle(f func(*conntrack.Conn, conntrack.View)) {
	n.Tracked.Range(func(c *conntrack.Conn) bool {
		if v := c.View(); v.Ready && !v.PubSub && !v.Leased && !v.Awaiting && !c.Evicting() {
			f(c, v)
		}
		return true
	})
}

// compare probes a connection that nobody uses and, if the reply is late, a new one. If the new
// one is answered although its PING was sent later, the old one is dead, and so are the unused
// connections that have received nothing for longer. As long as neither is answered, the server is
// slow or down, and nothing is closed.
func (u *detection) compare(n *Node, c *conntrack.Conn) (dead bool) {
	const longest = 30 * time.Second
	tracker, patience := n.k.tracker, n.k.detection.Patience
	begin := tracker.Elapsed()
	answer := make(chan struct{})
	go func() {
		defer close(answer)
		n.Tracked.Ask(c, longest)
	}()
	timer := time.NewTimer(patience / 4)
	defer timer.Stop()
	answered := func(wait time.Duration) bool {
		timer.Reset(wait)
		select {
		case <-answer:
			return true
		case <-n.k.ctx.Done():
			return true
		case <-timer.C:
			return false
		}
	}
	for pause, wait := n.compareEvery(), patience/4; ; wait = pause {
		if answered(wait) {
			return false
		}
		later := tracker.Elapsed()
		if err := u.probeNew(n); err != nil {
			if !timedOut(err) { // the server refused it: asking again would change nothing
				pause = min(2*pause, longest)
			}
			continue
		}
		if answered(max(begin+patience-tracker.Elapsed(), patience/4)) {
			return false
		}
		heard, killed := n.killPinged(begin, later)
		if !killed { // its own PING was sent later: compare again
			continue
		}
		<-answer
		u.dead.Store(&deadSibling{heard, tracker.Elapsed()})
		n.eachIdle(func(x *conntrack.Conn, v conntrack.View) {
			if v.Heard <= heard {
				x.Evict(hooks.ReasonSuspected)
			}
		})
		return true
	}
}

// killPinged closes the connection that was probed between the two times, and returns when it last
// received something.
func (n *Node) killPinged(from, to time.Duration) (heard time.Duration, killed bool) {
	n.Tracked.Range(func(c *conntrack.Conn) bool {
		v := c.View()
		if v.Pinging && from <= v.LastUsed && v.LastUsed <= to &&
			c.KillUnanswered(v.LastUsed, hooks.ReasonSuspected, errHalfOpen{"it did not answer a PING, while a new connection did"}) {
			heard, killed = v.Heard, true
		}
		return !killed
	})
	return heard, killed
}

// probeNew probes a new connection.
func (u *detection) probeNew(n *Node) error {
	const replies = 8 // of a handshake and a PING; more would be one that hangs
	patience := n.k.detection.Patience
	ctx, cancel := context.WithTimeout(n.k.ctx, replies*patience)
	defer cancel()
	began := n.k.tracker.Elapsed()
	err := n.Tracked.PingNew(ctx, patience)
	if err == nil {
		n.Tracked.SetAnswering()
		u.answered.Store(int64(n.k.tracker.Elapsed()))
		u.noPong.Store(0)
		n.Tracked.SetAnswered(true)
		return nil
	}
	n.unanswered()
	if timedOut(err) {
		if !n.Tracked.HeardSince(began) {
			n.Tracked.SetDegraded(err)
		}
		u.timedOut.Store(u.noPong.Load() > 0 || n.Inner)
	} else {
		u.noPong.Store(0)
	}
	return err
}

func timedOut(err error) bool {
	return errtext.IsTimeout(err) || errors.Is(err, context.DeadlineExceeded)
}
