package managed

import (
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/slotmap"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// errNoAnswer is the error of such a command: nothing was sent.
type errNoAnswer struct{}

func (errNoAnswer) Error() string {
	return "lifeguard/managed: the node does not respond: ask another one"
}
func (errNoAnswer) Unsent() bool { return true }

// asksUnresponsive reports whether a command asks an unresponsive node for the slot map.
func (u *unit) asksUnresponsive(cmd redis.Cmder) bool {
	if cmd.Name() != "cluster" || !u.node.Unanswered() {
		return false
	}
	_, slots := cmd.(*redis.ClusterSlotsCmd)
	return slots
}

// takenOver asks other nodes whether this one is still a master. If it is not, the slot map is
// renewed, and commands that wait for the node are ended.
func (m *many) takenOver(u *unit) {
	if m.slots == nil {
		return // a ring
	}
	now, known := m.roleOf(u)
	if !known {
		return
	}
	was := u.wasMaster
	u.wasMaster = now == isMaster
	if now == isMaster || now == isReplica && !was && !u.node.TookWrites() {
		return // a replica that is only slow
	}
	m.slots.RenewWithout(u.node.Addr(), m.core.set.detection.Patience)
	u.keep.KillAwaiting(m.core.set.detection.After)
	if was {
		m.elsewhere(u)
	}
}

// role is what the other nodes of a cluster say of one.
type role int

const (
	noRole role = iota // it serves no slots, or has failed
	isMaster
	isReplica
)

// roleOf asks the other nodes, until one of them knows.
func (m *many) roleOf(u *unit) (is role, known bool) {
	for _, other := range m.core.units() {
		if other == u || other.node.Unreachable() != nil {
			continue
		}
		slots, err := other.node.Slots(m.core.set.detection.Patience)
		if err != nil || len(slots) == 0 {
			continue
		}
		for _, slot := range slots {
			for i, node := range slot.Nodes {
				switch {
				case !slotmap.SameAddr(node.Addr, u.node.Addr()):
				case i == 0:
					return isMaster, true
				default:
					is = isReplica
				}
			}
		}
		return is, true
	}
	return noRole, false
}

// settleFor is how long nodes need to learn of a failover.
const settleFor = 100 * time.Millisecond

// elsewhere watches a master that was taken over until its commands go to another node: the errors
// of those that waited for it make go-redis load the map, too, perhaps from a node that has not
// learned of the failover yet. A replica may just be slow.
func (m *many) elsewhere(u *unit) {
	for range 2 {
		if !attempt.Pause(m.core.ctx, settleFor) {
			return
		}
		m.slots.RenewWithout(u.node.Addr(), m.core.set.detection.Patience)
		u.keep.KillAwaiting(settleFor / 2)
	}
}

// redirected is called when a command on a lease of u was answered MOVED, ASK or READONLY.
func (m *many) redirected(u *unit, err error) {
	m.slots.Redirected(u.node.Addr(), err)
	m.stale(retry.ReasonMoved)
}
