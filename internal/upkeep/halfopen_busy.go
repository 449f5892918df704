package upkeep

import (
	"fmt"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// unackeds holds what the kernel has reported about one connection since its last write.
type unackeds struct {
	written time.Duration
	begin   time.Duration // when monitoring of it began
	tries   int           // the count when a new connection was answered, -1 before that
	more    time.Duration // when the count rose above that, 0 before
}

const (
	unackedFor   = time.Second // without an acknowledgement, for a connection to be dead
	unackedEvery = 50 * time.Millisecond
)

// judge closes those connections with an overdue reply that the evidence proves to be dead. wanted
// means that a probe may bring more evidence.
func (u *detection) judge(n *Node, l *survey) (next time.Duration, wanted bool) {
	after := n.k.detection.After
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
			continue // the request is on its way
		}
		if k.Pending && v.Ready {
			x, known := seen[c]
			if !known || x.written != v.LastUsed {
				x = unackeds{written: v.LastUsed, begin: l.now, tries: -1}
			}
			if x.dead(k, time.Duration(u.answered.Load()), l.now) {
				c.KillUnanswered(v.LastUsed, hooks.ReasonUnacked, errHalfOpen{fmt.Sprintf("sent again %s in %v and nothing was acknowledged, while a new connection is answered",
					errtext.Count(int(k.Tries), "time"), min(k.Silence, l.now-v.LastUsed).Round(time.Millisecond))})
				n.suspectIdle(l, v.LastUsed)
				continue
			}
			if u.unacked == nil {
				u.unacked = map[*conntrack.Conn]unackeds{}
			}
			u.unacked[c] = x
			wanted = wanted || x.tries < 0
			next = min(next, unackedEvery)
		}
		if due := v.LastUsed + after; l.now < due {
			next = min(next, due-l.now)
			continue
		}
		if d := u.dead.Load(); d != nil && v.Ready && v.Heard <= d.heard && v.LastUsed <= d.found {
			c.KillUnanswered(v.LastUsed, hooks.ReasonSuspected, errHalfOpen{"another connection, heard from no earlier, did not answer a PING, while a new one did"})
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

// dead reports whether the kernel's report proves that a connection is dead: the kernel has
// retransmitted after a new connection was answered, and nothing was acknowledged.
func (x *unackeds) dead(k conntrack.Unacked, answered, now time.Duration) bool {
	switch {
	case answered <= x.begin:
		return false
	case x.tries < 0 || k.Tries < x.tries: // fewer: some were acknowledged meanwhile
		x.tries, x.more = k.Tries, 0
	case k.Tries > x.tries && x.more == 0:
		x.more = now
	}
	return x.more > 0 && now-x.more >= max(unackedEvery, 2*k.RTT) && k.Tries >= 2 && min(k.Silence, now-x.written) >= unackedFor
}
