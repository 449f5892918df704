package upkeep

import (
	"sync/atomic"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// heartbeat is the silence after which a connection of the node gets a PING, 0
// for never.
func (n *Node) heartbeat() time.Duration {
	if n.pings.off(n) {
		return 0
	}
	if d := time.Duration(n.k.heartbeat.Load()); d >= 0 {
		return d
	}
	return time.Duration(n.automatic.Load())
}

// pings finds out whether something between here and the server hangs up on PING, as
// some proxies do: then heartbeats would end the connections that they are to keep
// (docs/INTERNALS.md).
type pings struct {
	deaths atomic.Int32 // connections in a row that were open before a PING and closed after it
	since  atomic.Int64 // when heartbeats were given up, ns on the tracker's clock; 0: they were not
}

const (
	pingDeaths = 2
	pingsAgain = time.Hour // what hangs up may have been replaced
)

// answered takes note of a visit.
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
			n.k.cfg.Logger.Warn("lifeguard: connections are closed when they get a PING: no heartbeats for an hour; is there a proxy that does not know PING?",
				"node", n.Tracked.Addr(), "err", err)
		}
	}
}

// off reports whether heartbeats are given up for now.
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
