package slotmap

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
)

// renewPause is the time between two loads of the map.
const renewPause = 10 * time.Millisecond

// RenewWithout loads the map until the node at addr is no longer a master in it, for at most that
// long: the other nodes learn of a failover one after the other.
func (m *Map) RenewWithout(addr string, atMost time.Duration) {
	if m == nil {
		return
	}
	ctx, cancel := context.WithTimeout(m.ctx, atMost)
	defer cancel()
	leaving(ctx, func() {
		for ctx.Err() == nil {
			var listed atomic.Bool
			// ForEachMaster loads the map first.
			err := m.cluster.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
				if SameAddr(c.Options().Addr, addr) {
					listed.Store(true)
				}
				return nil
			})
			if err == nil && !listed.Load() {
				return
			}
			attempt.Pause(ctx, renewPause)
		}
	})
}

// redirect is a redirection that was not followed: its slot is on another node.
type redirect struct {
	from  string // address of the node that said so
	again bool   // the map may still name it for a moment
}

// Redirected is called when the node at addr answered a command MOVED, ASK or READONLY, and go-redis
// did not follow that: it does so only for commands of the client itself.
func (m *Map) Redirected(addr string, err error) {
	if m == nil {
		return
	}
	_, asked := redis.IsAskError(err)
	m.moved.Store(&redirect{addr, !asked})
}

// Follow waits until the map has been renewed after the last redirection, or ctx ends; without one
// it returns at once. go-redis ignores ctx, so the renewal goes on without it.
func (m *Map) Follow(ctx context.Context, key string) {
	if m == nil {
		return
	}
	r := m.moved.Load()
	if r == nil || !m.moved.CompareAndSwap(r, nil) {
		return
	}
	leaving(ctx, func() { m.renewFor(key, r) })
}

// leaving runs f, and leaves it behind when ctx ends.
func leaving(ctx context.Context, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// renewFor renews the map, and repeats that for a short time while the map still names the node that
// redirected the command: go-redis asks any node, which may not have learned of the change yet.
func (m *Map) renewFor(key string, r *redirect) {
	for range 20 {
		// ForEachMaster loads the map first.
		if m.cluster.ForEachMaster(m.ctx, func(context.Context, *redis.Client) error { return nil }) != nil || !r.again {
			return
		}
		rdb, err := m.cluster.MasterForKey(m.ctx, key)
		if err != nil || !SameAddr(rdb.Options().Addr, r.from) || !attempt.Pause(m.ctx, renewPause) {
			return
		}
	}
}

// SameAddr compares an address of the slot map, whose host may be empty, with one that was dialed.
func SameAddr(listed, dialed string) bool {
	if listed == dialed {
		return true
	}
	h, p, err := net.SplitHostPort(listed)
	g, q, err2 := net.SplitHostPort(dialed)
	return err == nil && err2 == nil && p == q && (h == "" || h == "?" || g == "")
}
