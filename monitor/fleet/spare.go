package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Spare knows which connections on the server may belong to living instances, so that whoever
// closes connections there can leave them alone: pass it to serverside.SpareLive. Connections are
// recognised by their instance's [WithClientNames], or by their addresses, if the instance's
// Monitor lists these (as those of managed clients do) and the server sees the same addresses. It
// is safe for concurrent use.
//
// An instance that is not in the fleet may have been lost from it: by FLUSHALL, an eviction, or a
// restart or a failover without the last data. So everybody is spared until this Spare has watched
// the fleet for as long as an instance may go without publishing (the longest [WithLostAfter] of
// any instance ever seen), and nothing was lost from it meanwhile: by then every living instance
// has published. [Spare.Wait] waits for that.
//
// In doubt everybody is spared, too: while the fleet cannot be read, is empty, or has an instance
// that cannot be read or whose connections cannot be recognised. Nobody knows whether a lost
// instance is alive: it is spared until its [WithRetention] is over.
type Spare struct {
	rdb redis.UniversalClient
	c   *config

	mu sync.Mutex
	at time.Time // time of the latest read; zero: there was none
	// why everybody is spared; "": not so. after is how long until that is over, if only time is
	// missing.
	why    string
	after  time.Duration
	news   string        // why, if it has not been logged yet
	intact time.Time     // nothing was lost since then; zero: the fleet is not watched yet
	reason string        // why watching started again
	began  began         // of the index
	clock  time.Duration // how far the server's clock is ahead of start's
	start  time.Time
	silent time.Duration // the longest time that any instance may go without publishing
	known  map[string]remembered
	addrs  map[string]bool
	names  map[string]bool // with "", if one is known by names only: go-redis gives a connection its name when it is first used
	young  time.Duration   // connections up to this age may be too young to have been published
}

// remembered is an instance that may be alive.
type remembered struct {
	Instance
	spoke   time.Time // when it last published
	until   time.Time // end of its retention
	strayed bool      // it disappeared without leaving
}

const (
	// fresh is how long a read is relied on.
	fresh = time.Second
	// rounding is by how much the age of a connection may be wrong in CLIENT LIST.
	rounding = 2 * time.Second
	// jump is how much the server's clock may seem to change from one read to the next, besides
	// the time that a read may take.
	jump = time.Second
)

// NewSpare makes a Spare, without contacting Redis. Options: [WithName], [WithTimeout],
// [WithLogger].
func NewSpare(rdb redis.UniversalClient, opts ...Option) (*Spare, error) {
	if err := checkClient(ofSpare, rdb); err != nil {
		return nil, err
	}
	c, err := configure(ofSpare, opts)
	if err != nil {
		return nil, err
	}
	return &Spare{rdb: rdb, c: c, start: time.Now(), known: map[string]remembered{}}, nil
}

// Live reports whether a connection may belong to a living instance, given the address of the
// client's end, its name on the server, and its age as the server reports it. A connection that is
// too young to have been published may, too. Live queries Redis at most once a second.
func (s *Spare) Live(addr, name string, age time.Duration) bool {
	s.mu.Lock()
	defer s.warn()
	defer s.mu.Unlock()
	s.look()
	return s.why != "" || s.names[name] || s.addrs[plain(addr)] || age <= s.young+time.Since(s.at)+rounding
}

// Wait waits until the fleet has been watched for long enough, so that not everybody is spared any
// more. It returns an error that says why everybody is spared if waiting does not help, and the
// error of ctx if that ends first.
func (s *Spare) Wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		s.look()
		why, after := s.why, s.after
		s.mu.Unlock()
		s.warn()
		switch {
		case why == "":
			return nil
		case after == 0:
			return fmt.Errorf("lifeguard/monitor/fleet: all connections are spared: %s", why)
		}
		t := time.NewTimer(min(max(after, 10*time.Millisecond), fresh))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return errors.Join(fmt.Errorf("lifeguard/monitor/fleet: all connections are spared: %s", why), ctx.Err())
		}
	}
}

// look reads the fleet, unless it was read just now.
func (s *Spare) look() {
	if !s.at.IsZero() && time.Since(s.at) <= fresh && (s.after == 0 || time.Since(s.at) < s.after) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.c.timeout)
	defer cancel()
	before := time.Now()
	f, err := s.c.read(ctx, s.rdb)
	was := s.why
	s.at = time.Now()
	s.why, s.after = s.take(&f, err, before)
	if s.why != "" && was == "" {
		s.news = s.why
	}
}

// warn logs that all connections are spared from now on. The lock is not held, because a logger may
// do anything.
func (s *Spare) warn() {
	s.mu.Lock()
	news := s.news
	s.news = ""
	s.mu.Unlock()
	if news != "" {
		s.c.log.Warn("lifeguard: all connections are spared", "fleet", s.c.fleet, "why", news)
	}
}

// take processes a read that began at the given time. It returns why everybody is spared, and how
// long that lasts if nothing else happens.
func (s *Spare) take(f *Fleet, err error, at time.Time) (why string, after time.Duration) {
	if err != nil {
		return err.Error(), 0
	}
	alive := false
	s.silent = max(s.silent, f.mayBeSilent())
	if anew := s.lost(f, at); anew != "" {
		s.intact, s.reason = at, anew
	}
	for _, i := range f.Instances {
		alive = alive || !i.Lost
		s.known[i.ID] = remembered{Instance: i, spoke: at.Add(-i.Age), until: at.Add(i.left)}
	}
	for id := range f.index.goodbye {
		delete(s.known, id)
	}
	s.addrs, s.names = map[string]bool{}, map[string]bool{}
	s.young = s.silent + s.silent/2 // a failover may lose what was published shortly before it
	for id, r := range s.known {
		if at.After(r.until) {
			delete(s.known, id)
			continue
		}
		s.young = max(s.young, at.Sub(r.spoke))
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
			why = "the connections of " + r.Service + " on " + r.Host + " cannot be recognised: give its Publish ClientNames"
		}
	}
	switch doubts := f.doubts(); {
	case len(f.unreadable) > 0:
		return f.unreadable[0], 0
	case len(doubts) > 0:
		return doubts[0], 0
	case !alive:
		// Nobody has published for a while: either nobody could, or everything that was published
		// was lost.
		s.intact, s.reason = at, "no instance was alive"
		return "the fleet is empty, or nobody in it reaches Redis", 0
	case why != "":
		return why, 0
	}
	if watched := at.Sub(s.intact); watched < s.silent {
		return fmt.Sprintf("incomplete: %s %v ago, and an instance may say nothing for %v", s.reason,
			watched.Round(time.Millisecond), s.silent), s.silent - watched
	}
	return "", 0
}

// lost returns what shows that instances may be missing that were in the fleet, or that published
// to it; "" if nothing does.
func (s *Spare) lost(f *Fleet, at time.Time) (what string) {
	x := f.index
	if !x.now.IsZero() {
		lead := x.now.Sub(s.start) - at.Sub(s.start) // by the monotonic clock
		if off := lead - s.clock; !s.intact.IsZero() && s.clock != 0 && off.Abs() > jump+s.c.timeout {
			what = "the server's clock jumped"
		}
		s.clock = lead
	}
	there := make(map[string]bool, len(f.Instances)+len(f.missing))
	for _, id := range f.missing {
		there[id] = true
	}
	for _, i := range f.Instances {
		there[i.ID] = true
		if i.rev < s.known[i.ID].rev {
			what = "what an instance had published was lost"
		}
	}
	for id, r := range s.known {
		if !there[id] && !x.goodbye[id] && !r.strayed && at.Before(r.until.Add(-rounding)) {
			r.strayed = true
			s.known[id] = r
			what = "an instance vanished without leaving"
		}
	}
	switch {
	case s.intact.IsZero():
		what = "this began to be watched"
	case x.began != s.began:
		what = "the index of the fleet was made anew"
	}
	s.began = x.began
	return what
}
