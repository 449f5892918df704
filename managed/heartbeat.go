package managed

import (
	"errors"
	"strconv"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// heartbeat is the silence after which a connection of the node gets a PING, 0
// for never.
func (s *nodeState) heartbeat() time.Duration {
	if d := time.Duration(s.m.heartbeat.Load()); d >= 0 {
		return d
	}
	return s.automatic
}

// learn asks the server once for its maxclients, see compareWithServer, and for
// its `timeout`, the silence after which it closes
// a connection (https://redis.io/docs/latest/operate/oss_and_stack/management/config/),
// and again after it has closed an idle one. Where it may not be asked there is
// no automatic heartbeat.
func (s *nodeState) learn(now time.Duration) (news bool) {
	if s.m.heartbeat.Load() >= 0 {
		return false
	}
	if s.learnAgain.Swap(false) {
		s.learned = false
	}
	if s.learned || now < s.retryLearn || s.suspect.holds(now) || s.node.Main().Idle == 0 {
		return false
	}
	if !s.compared {
		if errors.Is(s.compareWithServer(), hooks.ErrWouldWait) {
			s.retryLearn = now + 100*time.Millisecond
			return false
		}
		s.compared = true
	}
	v, err := s.node.Config("timeout")
	if errors.Is(err, hooks.ErrWouldWait) {
		s.retryLearn = now + 100*time.Millisecond
		return false
	}
	s.learned = true
	s.retryLearn = now + time.Minute
	s.automatic = 0
	s.node.SetSilence(0)
	if seconds, perr := strconv.Atoi(v); err == nil && perr == nil && seconds > 0 {
		s.automatic = time.Duration(seconds) * time.Second * 3 / 4
		s.node.SetSilence(time.Duration(seconds) * time.Second)
	}
	return s.automatic > 0
}
