package fleet

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Spare knows which connections on the server are those of living instances, so that
// who ends connections there leaves them alone: it is what serverside.SpareLive
// takes. Living instances are known by their [ClientNames], or by the addresses of
// their connections if their Monitors list these (as those of managed clients do) and
// the server sees them as they are. It is safe for concurrent use.
//
// In doubt everybody is spared: while the fleet cannot be read, is empty, or has a
// living instance whose connections cannot be told.
type Spare struct {
	rdb redis.UniversalClient
	c   *config

	mu     sync.Mutex
	at     time.Time // of the latest look
	why    string    // everybody is spared; "": not so
	known  map[string]remembered
	addrs  map[string]bool
	names  map[string]bool // with "", if one is known by names only: go-redis gives a connection its name when it is first used
	behind time.Duration   // how old the oldest word of an instance was
}

// remembered is an instance that lived at the latest look, or a little earlier: it
// may have vanished because somebody emptied the database.
type remembered struct {
	Instance
	until time.Time
}

const (
	// fresh is for how long a look is believed.
	fresh = time.Second
	// rounding is what the age of a connection may be wrong by, in CLIENT LIST.
	rounding = 2 * time.Second
)

// NewSpare makes a Spare. Redis is not asked yet. Options: [Name], [Timeout],
// [WithLogger].
func NewSpare(rdb redis.UniversalClient, opts ...Option) (*Spare, error) {
	if err := checkClient(ofSpare, rdb); err != nil {
		return nil, err
	}
	c, err := configure(ofSpare, opts)
	if err != nil {
		return nil, err
	}
	return &Spare{rdb: rdb, c: c, known: map[string]remembered{}}, nil
}

// Live reports whether a connection may be that of a living instance, by the address
// of the client's end and the name that the server has of it. So is one that is too
// young for its instance to have told of it: age is that which the server says. It
// asks Redis, at most once a second.
func (s *Spare) Live(addr, name string, age time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at.IsZero() || time.Since(s.at) > fresh {
		s.look()
	}
	return s.why != "" || s.names[name] || s.addrs[plain(addr)] || age <= s.behind+time.Since(s.at)+rounding
}

// look reads the fleet.
func (s *Spare) look() {
	ctx, cancel := context.WithTimeout(context.Background(), s.c.timeout)
	defer cancel()
	before := time.Now()
	f, err := s.c.read(ctx, s.rdb)
	was := s.why
	s.at = time.Now()
	s.why = s.take(&f, err, before)
	if s.why != "" && was == "" {
		s.c.log.Warn("lifeguard: all connections are spared", "fleet", s.c.fleet, "why", s.why)
	}
}

// take learns from a look, and says why everybody is spared.
func (s *Spare) take(f *Fleet, err error, at time.Time) string {
	if err != nil {
		return err.Error()
	}
	s.behind = 0
	for _, i := range f.Instances {
		if i.Lost {
			delete(s.known, i.ID)
			continue
		}
		s.known[i.ID] = remembered{i, at.Add(i.LostAfter)}
		s.behind = max(s.behind, i.Age, i.Every)
	}
	s.addrs, s.names = map[string]bool{}, map[string]bool{}
	untold := ""
	for id, r := range s.known {
		if at.After(r.until) {
			delete(s.known, id)
			continue
		}
		for _, a := range r.Addrs {
			s.addrs[a] = true
		}
		for _, n := range r.ClientNames {
			s.names[n] = true
		}
		if len(r.ClientNames) > 0 && len(r.Addrs) == 0 {
			s.names[""] = true
		}
		if len(r.Addrs) == 0 && len(r.ClientNames) == 0 && r.Total > 0 || r.Unknown {
			untold = "the connections of " + r.Service + " on " + r.Host + " cannot be told: give its Publish ClientNames"
		}
	}
	switch {
	case f.unreadable > 0:
		return slices.Concat(f.Gaps, []string{"an instance cannot be read"})[0]
	case len(s.known) == 0:
		return "the fleet is empty"
	}
	return untold
}
