package managed

import (
	"sort"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// WithConnLimit limits how many connections the client has open at once, over all
// nodes and over main, pipeline, blocking and pub/sub connections: what the server
// sees is never more. Who needs one more waits: the connection that has been idle
// the longest, of whatever pool, is given up for it; while all are in use, until
// one is free or DialTimeout has passed. Default 0: no limit but the pools' own.
// Negative is an error.
func WithConnLimit(n int) Option {
	return func(s *settings) error {
		if n < 0 {
			return bad("WithConnLimit", n, "must not be negative; 0 for no limit")
		}
		s.connLimit = n
		return nil
	}
}

// makeRoom gives up the connection that has been idle for the longest. It is
// called, again and again, while a dial waits for a place.
func (m *maintainer) makeRoom(*hooks.Node) {
	if !m.roomAsked.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer m.roomAsked.Store(false)
		type candidate struct {
			c    *hooks.Conn
			used time.Duration
		}
		var idle []candidate
		m.core.tracker.Range(func(c *hooks.Conn) bool {
			if v := c.View(); v.Ready && !v.PubSub && !v.Leased && !v.Awaiting {
				idle = append(idle, candidate{c, v.LastUsed})
			}
			return true
		})
		if len(idle) == 0 {
			return
		}
		sort.Slice(idle, func(i, j int) bool { return idle[i].used < idle[j].used })
		idle[0].c.Retire(hooks.ReasonIdle)
		if s := m.of(idle[0].c.Node()); s != nil {
			s.sweep(m.ctx)
		}
	}()
}
