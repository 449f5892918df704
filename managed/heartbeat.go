package managed

import (
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// heartbeat is the silence after which a connection of the node gets a PING, 0
// for never.
func (s *nodeState) heartbeat() time.Duration {
	if s.pings.off(s) {
		return 0
	}
	if d := time.Duration(s.m.heartbeat.Load()); d >= 0 {
		return d
	}
	return time.Duration(s.automatic.Load())
}

// learnIn is how long not to ask for what learn asks for: 0 for now.
func (s *nodeState) learnIn(now time.Duration) time.Duration {
	if s.m.heartbeat.Load() >= 0 {
		return never
	}
	if s.learnAgain.Swap(false) {
		s.learned = false
	}
	wait, main := s.tryAgain-now, s.node.Main()
	switch {
	case s.learned || main.Total == 0:
		return never
	case wait > 0 || s.suspect.asks(now) || main.Idle == 0:
		return max(wait, learnPause) // nobody tells when a connection is idle
	}
	return 0
}

// learn asks the server once for its maxclients, see compareWithServer, and for
// its `timeout`, the silence after which it closes
// a connection (https://redis.io/docs/latest/operate/oss_and_stack/management/config/),
// and again after it has closed an idle one. Where it may not be asked there is
// no automatic heartbeat. It returns when to come back.
func (s *nodeState) learn(now time.Duration) time.Duration {
	if !s.compared {
		if again := s.askLater(s.compareWithServer()); again > 0 {
			s.tryAgain = now + again
			return again
		}
		s.compared = true
	}
	v, err := s.node.Config("timeout")
	if again := s.askLater(err); again > 0 {
		s.tryAgain = now + again
		return again
	}
	s.learned = true
	s.tryAgain = now + time.Minute
	var timeout time.Duration
	if seconds, perr := strconv.Atoi(v); err == nil && perr == nil && seconds > 0 {
		timeout = time.Duration(seconds) * time.Second
	}
	s.automatic.Store(int64(timeout * 3 / 4))
	s.node.SetSilence(timeout)
	if timeout > 0 {
		return tickPause
	}
	return never
}

// askLater is when to ask again after a question that found no connection, or got
// no answer: the latter cost one. 0 if there is nothing to ask again.
func (s *nodeState) askLater(err error) time.Duration {
	switch {
	case errors.Is(err, conntrack.ErrWouldWait):
		return 100 * time.Millisecond
	case errtext.IsTimeout(conntrack.Reveal(err)):
		s.unheard++
		return min(time.Second<<min(s.unheard-1, 6), time.Minute)
	}
	s.unheard = 0
	return 0
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
func (p *pings) answered(s *nodeState, met *conntrack.Conn, removed bool, err error, from time.Duration) {
	switch {
	case !removed:
		if met.View().LastUsed >= from { // a PING was sent
			p.deaths.Store(0)
		}
	case met.Info().Closing == hooks.ReasonHeartbeat && !errtext.IsTimeout(err):
		if p.deaths.Add(1) == pingDeaths {
			p.since.Store(max(int64(s.m.core.tracker.Elapsed()), 1))
			s.node.Range(func(c *conntrack.Conn) bool {
				c.Unwake()
				return true
			})
			s.m.core.set.log.Warn("lifeguard: connections are closed when they get a PING: no heartbeats for an hour; is there a proxy that does not know PING?",
				"node", s.node.Addr(), "err", err)
		}
	}
}

// off reports whether heartbeats are given up for now.
func (p *pings) off(s *nodeState) bool {
	since := p.since.Load()
	if since == 0 {
		return false
	}
	if s.m.core.tracker.Elapsed()-time.Duration(since) < pingsAgain {
		return true
	}
	p.deaths.Store(0)
	p.since.Store(0)
	return false
}
