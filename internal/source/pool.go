package source

import (
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/lease"
	"github.com/lifeguard-redis/lifeguard/internal/upkeep"
	"github.com/lifeguard-redis/lifeguard/monitor"
)

// Pool is what is known about the pools of one go-redis client. Its exported fields are set before
// its first use.
type Pool struct {
	Client   *redis.Client
	Tracker  *conntrack.Tracker
	Node     *conntrack.Node
	Leases   *lease.Pool
	Upkeep   *upkeep.Node
	Breaker  interface{ BreakerOpen() bool } // nil: none
	Blocking bool                            // it is for blocking commands

	meter
}

// fill adds the numbers of one pool.
func (s *sampled) fill(n *monitor.Numbers) {
	node := s.Node
	s.recordWaits()
	ours := node.HitsOfOurs(func() { s.counters.Fill(n, s.Client.Options(), node.PoolStats()) })
	s.hits = max(s.hits, n.Hits-min(n.Hits, ours))
	n.Hits = s.hits // the two are read one after the other, and it must never fall
	n.PeakDemand = node.TakeSeenPeak(hooks.PoolMain) + node.TakeSeenPeak(hooks.PoolPipeline)
	n.PeakInUse = min(n.PeakDemand, node.TakePeakOpen())
	n.Dialing, n.Leases, n.LeasesOverdue = node.Dialing(), s.Leases.Len(), s.Leases.Overdue()
	n.Dialed = node.Opened()
	_, n.DialErrors = node.Dials()
	closed := node.CloseReasons()
	n.Closed = make(map[string]uint64, len(closed))
	for reason, count := range closed {
		n.Closed[string(reason)] = count
	}
	n.HealthChanges = node.HealthChanges()
	n.Leaks = s.Leases.Leaks.Load()
	inVain := s.inVain.Load()
	n.PoolTimeoutsCtx = s.givenUp.Load()
	n.Waits, n.PoolTimeouts, n.WaitTime = n.Waits+inVain, n.PoolTimeouts+inVain, n.WaitTime+time.Duration(s.lost.Load())
	n.Dial, n.Wait, n.Hold, n.Command = s.Dial.Snapshot(), s.Wait.Snapshot(), s.Leases.Hold.Snapshot(), s.Command.Snapshot()
	if s.Breaker != nil && s.Breaker.BreakerOpen() {
		n.BreakersOpen = 1
	}
	n.ServerClients, n.MaxClients, _ = s.Upkeep.Clients()
}
