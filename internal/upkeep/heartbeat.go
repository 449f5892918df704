package upkeep

import (
	"sync/atomic"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// heartbeat returns the idle time after which a connection of the node gets a PING, 0 for never.
func (n *Node) heartbeat() time.Duration {
	if n.pings.off(n) {
		return 0
	}
	if d := time.Duration(n.k.heartbeat.Load()); d >= 0 {
		return d
	}
	return time.Duration(n.automatic.Load())
}

// pings detects whether something between this process and the server closes connections on PING,
// as some proxies do: heartbeats would then close the connections that they are meant to keep
// (docs/INTERNALS.md).
type pings struct {
	deaths atomic.Int32 // consecutive connections that were open before a PING and closed after it
	since  atomic.Int64 // when heartbeats were disabled, ns on the tracker's clock; 0: they are enabled
}

const (
	pingDeaths = 2
	pingsAgain = time.Hour // the proxy may have been replaced
)

// answered records the result of a visit.
func (p *pings) answered(n *Node, met *conntrack.Conn, removed bool, err error, from time.Duration) {
	switch {
	case !removed:
		if met.View().LastUsed >= from { // a PING was sent
			p.deaths.Store(0)
		}
	case met.Info().Closing == hooks.ReasonHeartbeat && !errtext.IsTimeout(err):
		if p.deaths.Add(1) == pingDeaths {
			p.since.Store(max(int64(n.k.tracker.Elapsed()), 1))
			n.Tracked.Range(func(c *conntrack.Conn) bool {
				c.CancelValidate()
				return true
			})
			n.k.log.Warn("lifeguard: connections are closed when they get a PING: no heartbeats for an hour; is there a proxy that does not know PING?",
				"node", n.Tracked.Addr(), "err", err)
		}
	}
}

// off reports whether heartbeats are disabled for now.
func (p *pings) off(n *Node) bool {
	since := p.since.Load()
	if since == 0 {
		return false
	}
	if n.k.tracker.Elapsed()-time.Duration(since) < pingsAgain {
		return true
	}
	p.deaths.Store(0)
	p.since.Store(0)
	return false
}
