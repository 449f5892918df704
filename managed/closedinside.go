package managed

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// closeIfInsideIs closes everything of ours if somebody who has only go-redis's client has closed
// that one: go-redis does not report it, so it must be checked. It reports whether it did. It does
// not wait for the end, so that the goroutines that are being ended may call it.
func (c *core) closeIfInsideIs() bool {
	if c.closed.Load() || !c.insideClosed() {
		return false
	}
	go func() { _ = c.close() }()
	return true
}

const insidePause = time.Second

// pollInside makes that check now and then, for clients whose monitor takes no samples. It uses a
// timer, and no goroutine.
func (c *core) pollInside() {
	if c.polling.CompareAndSwap(false, true) {
		c.pollInsideAgain()
	}
}

func (c *core) pollInsideAgain() {
	time.AfterFunc(insidePause, func() {
		if !c.closed.Load() && !c.closeIfInsideIs() {
			c.pollInsideAgain()
		}
	})
}

// insideClosed reports whether the client was closed. Nothing is sent.
func (u *unit) insideClosed() bool { return u.node.Gone() }

func (m *many) insideClosed() bool {
	if r, ok := m.client.(*redis.Ring); ok {
		_, err := r.GetShardClientForKey("")
		return errors.Is(err, redis.ErrClosed)
	}
	if !m.core.used.Load() {
		return false // no node has been used yet: checking would create the client of one
	}
	for _, u := range m.core.units() {
		if u.main() && !u.node.Gone() {
			return false
		}
	}
	// Or all of them have left the cluster.
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	sub := m.client.Subscribe(ended)
	defer sub.Close()
	return errors.Is(sub.Ping(ended), redis.ErrClosed)
}
