package callsite

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// pause is the time between two lines about the same call site.
const pause = time.Minute

// Log logs events of leases: one line per text and call site a minute, so that a site that
// leaks five hundred leases does not log five hundred stacks. The first event is logged at once;
// those that follow are counted, and the next minute's line has their number.
type Log struct {
	Logger *slog.Logger // set before the first use

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

// Held is a lease, for the log.
type Held struct {
	Stack       *Stack
	For         time.Duration
	Label       string
	ConnID      uint64
	Node        string
	LastCommand string
}

// Add logs or counts n leases of one site, of which h is the oldest.
func (s *Log) Add(level slog.Level, text string, h Held, n int) {
	site, stack := h.Stack.Resolve()
	key := siteKey{text, site}
	s.mu.Lock()
	if c := s.sites[key]; c != nil {
		c.leases += n
		c.longest = max(c.longest, h.For)
		s.mu.Unlock()
		return
	}
	if s.sites == nil {
		s.sites = map[siteKey]*siteCount{}
	}
	s.sites[key] = &siteCount{level: level}
	if s.timer == nil {
		s.timer = time.AfterFunc(pause, s.next)
	}
	s.mu.Unlock()
	s.Logger.Log(context.Background(), level, text, "leases", n, "held", errtext.Round(h.For), "site", site, "label", h.Label,
		"connection", h.ConnID, "node", h.Node, "last_command", h.LastCommand, "stack", stack)
}

// next starts the next minute.
func (s *Log) next() {
	s.mu.Lock()
	counted := s.take()
	s.timer = nil
	if len(s.sites) > 0 {
		s.timer = time.AfterFunc(pause, s.next)
	}
	s.mu.Unlock()
	s.write(counted)
}

// Close logs what was counted.
func (s *Log) Close() {
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
func (s *Log) take() map[siteKey]siteCount {
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

func (s *Log) write(counted map[siteKey]siteCount) {
	for key, c := range counted {
		s.Logger.Log(context.Background(), c.level, key.text, "leases", c.leases, "held", errtext.Round(c.longest), "site", key.site)
	}
}
