package managed

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/retry"
)

// errSilent is the error of such a command: nothing was sent.
type errSilent struct{}

func (errSilent) Error() string { return "lifeguard/managed: the node answers nobody: ask another one" }
func (errSilent) Unsent() bool  { return true }

// asksSilent reports whether a command asks a node that answers nobody for the slot map.
func (u *unit) asksSilent(cmd redis.Cmder) bool {
	if cmd.Name() != "cluster" || !u.keep.Silent() {
		return false
	}
	_, slots := cmd.(*redis.ClusterSlotsCmd)
	return slots
}

// takenOver asks other nodes whether this one is still a master. If it is not, the slot map is
// renewed, and commands that wait for the node are ended.
func (m *many) takenOver(u *unit) {
	cluster, ok := m.client.(*redis.ClusterClient)
	if !ok {
		return
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
	m.renew(cluster, u)
	u.keep.KillAwaiting(m.core.set.detection.After)
	if was {
		m.elsewhere(cluster, u)
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
				case !sameAddr(node.Addr, u.node.Addr()):
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

const (
	renewPause = 10 * time.Millisecond
	settleFor  = 100 * time.Millisecond
)

// renew loads the slot map until the node is no longer a master in it, for a short time: the other
// nodes learn of a failover one after the other, and go-redis asks any of them.
func (m *many) renew(cluster *redis.ClusterClient, u *unit) {
	ctx, cancel := context.WithTimeout(m.core.ctx, m.core.set.detection.Patience)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			var listed atomic.Bool
			// ForEachMaster loads the map first.
			err := cluster.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
				if sameAddr(c.Options().Addr, u.node.Addr()) {
					listed.Store(true)
				}
				return nil
			})
			if err == nil && !listed.Load() {
				return
			}
			pause(ctx, renewPause)
		}
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// elsewhere watches a master that was taken over until its commands go to another node: the errors
// of those that waited for it make go-redis load the map, too, perhaps from a node that has not
// learned of the failover yet. A replica may just be slow.
func (m *many) elsewhere(cluster *redis.ClusterClient, u *unit) {
	for range 2 {
		if !pause(m.core.ctx, settleFor) {
			return
		}
		m.renew(cluster, u)
		u.keep.KillAwaiting(settleFor / 2)
	}
}

// redirect is the redirection that a lease got: its slot is on another node.
type redirect struct {
	from  string // address of the node that said so
	again bool   // the map may still name it for a moment
}

// redirected hears that a lease on u was answered MOVED, ASK or READONLY. go-redis
// follows such replies for commands of the client only, so the map is renewed here.
func (m *many) redirected(u *unit, err error) {
	_, asked := redis.IsAskError(err)
	m.moved.Store(&redirect{u.node.Addr(), !asked})
	m.stale(retry.ReasonMoved)
}

// follow waits until the slot map has been renewed after a lease was sent away, or ctx
// ends. go-redis has no regard for the ctx then; the renewal goes on without it.
func (m *many) follow(ctx context.Context, cluster *redis.ClusterClient, key string, r *redirect) {
	if !m.moved.CompareAndSwap(r, nil) {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.renewFor(m.core.ctx, cluster, key, r)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// renewFor renews the slot map, and repeats that for a short time while the map still names the
// node that redirected a lease: go-redis asks any node, which may not have learned of the change
// yet.
func (m *many) renewFor(ctx context.Context, cluster *redis.ClusterClient, key string, r *redirect) {
	for range 20 {
		// ForEachMaster loads the map first.
		if cluster.ForEachMaster(ctx, func(context.Context, *redis.Client) error { return nil }) != nil || !r.again {
			return
		}
		rdb, err := cluster.MasterForKey(ctx, key)
		if err != nil || !sameAddr(rdb.Options().Addr, r.from) || !pause(ctx, renewPause) {
			return
		}
	}
}

// pause waits; it reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// sameAddr compares an address of the slot map, whose host may be empty, with one that was dialed.
func sameAddr(listed, dialed string) bool {
	if listed == dialed {
		return true
	}
	h, p, err := net.SplitHostPort(listed)
	g, q, err2 := net.SplitHostPort(dialed)
	return err == nil && err2 == nil && p == q && (h == "" || h == "?" || g == "")
}
