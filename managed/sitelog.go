package managed

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// sitePause is the time between two lines about the same call site.
const sitePause = time.Minute

// siteLog logs events of leases: one line per text and call site a minute, so that a site that
// leaks five hundred leases does not log five hundred stacks. The first event is logged at once;
// those that follow are counted, and the next minute's line has their number.
type siteLog struct {
	log *slog.Logger

	mu    sync.Mutex
	sites map[siteKey]*siteCount
	timer *time.Timer
}

type siteKey struct{ text, site string }

type siteCount struct {
	level   slog.Level
	leases  int           // since the last line
	longest time.Duration // of these, held
}

// tell logs or counts n leases of one site, of which l is the oldest.
func (s *siteLog) tell(level slog.Level, text string, l LeaseInfo, n int) {
	key := siteKey{text, l.Site()}
	s.mu.Lock()
	if c := s.sites[key]; c != nil {
		c.leases += n
		c.longest = max(c.longest, l.Age)
		s.mu.Unlock()
		return
	}
	if s.sites == nil {
		s.sites = map[siteKey]*siteCount{}
	}
	s.sites[key] = &siteCount{level: level}
	if s.timer == nil {
		s.timer = time.AfterFunc(sitePause, s.next)
	}
	s.mu.Unlock()
	s.log.Log(context.Background(), level, text, "leases", n, "held", l.Age, "site", key.site, "label", l.Label,
		"connection", l.Conn.ID, "node", l.Conn.Node, "last_command", l.Conn.LastCommand, "stack", l.Stack())
}

// next starts the next minute.
func (s *siteLog) next() {
	s.mu.Lock()
	counted := s.take()
	s.timer = nil
	if len(s.sites) > 0 {
		s.timer = time.AfterFunc(sitePause, s.next)
	}
	s.mu.Unlock()
	s.write(counted)
}

// close logs what was counted.
func (s *siteLog) close() {
	s.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	counted := s.take()
	s.mu.Unlock()
	s.write(counted)
}

// take returns the counts, and forgets sites without a new event. The caller holds the lock.
func (s *siteLog) take() map[siteKey]siteCount {
	counted := map[siteKey]siteCount{}
	for key, c := range s.sites {
		if c.leases == 0 {
			delete(s.sites, key)
			continue
		}
		counted[key] = *c
		c.leases, c.longest = 0, 0
	}
	return counted
}

func (s *siteLog) write(counted map[siteKey]siteCount) {
	for key, c := range counted {
		s.log.Log(context.Background(), c.level, key.text, "leases", c.leases, "held", c.longest, "site", key.site)
	}
}
