package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Members knows which connections on the server may belong to living instances, so that whoever
// closes connections there can leave them alone: pass it to serverside.SpareLive. Connections are
// recognised by their instance's [WithClientNames], or by their addresses, if the instance's
// Monitor lists these (as those of managed clients do) and the server sees the same addresses. It
// is safe for concurrent use.
//
// An instance that is not in the fleet may have been lost from it: by FLUSHALL, an eviction, or a
// restart or a failover without the last data. So everybody is spared until it has watched
// the fleet for as long as an instance may go without publishing (the longest [WithLostAfter] of
// any instance ever seen), and nothing was lost from it meanwhile: by then every living instance
// has published. [Members.Wait] waits for that.
//
// In doubt everybody is spared, too: while the fleet cannot be read, is empty, or has an instance
// that cannot be read or whose connections cannot be recognised. Nobody knows whether a lost
// instance is alive: it is spared until its [WithRetention] is over.
type Members struct {
	rdb redis.UniversalClient
	c   *config

	mu sync.Mutex
	at time.Time // time of the latest read; zero: there was none
	// why everybody is spared; "": not so. after is how long until that is over, if only time is
	// missing.
	why        string
	after      time.Duration
	toLog      string        // why, if it has not been logged yet
	intact     time.Time     // nothing was lost since then; zero: the fleet is not watched yet
	reason     string        // why watching started again
	began      began         // of the index
	clock      time.Duration // how far the server's clock is ahead of start's
	start      time.Time
	maxSilence time.Duration // the longest time that any instance may go without publishing
	known      map[string]remembered
	addrs      map[string]bool
	names      map[string]bool // with "", if one is known by names only: go-redis gives a connection its name when it is first used
	young      time.Duration   // connections up to this age may be too young to have been published
}

// remembered is an instance that may be alive.
type remembered struct {
	Instance
	published time.Time // when it last published
	until     time.Time // end of its retention
	vanished  bool      // it disappeared without leaving
}

const (
	// readEvery is how long a read is relied on.
	readEvery = time.Second
	// rounding is by how much the age of a connection may be wrong in CLIENT LIST.
	rounding = 2 * time.Second
	// jump is how much the server's clock may seem to change from one read to the next, besides
	// the time that a read may take.
	jump = time.Second
)

// NewMembers makes Members, without contacting Redis. Options: [WithName], [WithTimeout],
// [WithLogger].
func NewMembers(rdb redis.UniversalClient, opts ...Option) (*Members, error) {
	if err := checkClient(ofMembers, rdb); err != nil {
		return nil, err
	}
	c, err := configure(ofMembers, opts)
	if err != nil {
		return nil, err
	}
	return &Members{rdb: rdb, c: c, start: time.Now(), known: map[string]remembered{}}, nil
}

// Live reports whether a connection may belong to a living instance, given the address of the
// client's end, its name on the server, and its age as the server reports it. A connection that is
// too young to have been published may, too. Live queries Redis at most once a second.
func (m *Members) Live(addr, name string, age time.Duration) bool {
	m.mu.Lock()
	defer m.warn()
	defer m.mu.Unlock()
	m.refresh()
	return m.why != "" || m.names[name] || m.addrs[plain(addr)] || age <= m.young+time.Since(m.at)+rounding
}

// Wait waits until the fleet has been watched for long enough, so that not everybody is spared any
// more. It returns an error that says why everybody is spared if waiting does not help, and the
// error of ctx if that ends first.
func (m *Members) Wait(ctx context.Context) error {
	for {
		m.mu.Lock()
		m.refresh()
		why, after := m.why, m.after
		m.mu.Unlock()
		m.warn()
		switch {
		case why == "":
			return nil
		case after == 0:
			return fmt.Errorf("lifeguard/monitor/fleet: all connections are spared: %s", why)
		}
		t := time.NewTimer(min(max(after, 10*time.Millisecond), readEvery))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return errors.Join(fmt.Errorf("lifeguard/monitor/fleet: all connections are spared: %s", why), ctx.Err())
		}
	}
}

// refresh reads the fleet, unless it was read just now.
func (m *Members) refresh() {
	if !m.at.IsZero() && time.Since(m.at) <= readEvery && (m.after == 0 || time.Since(m.at) < m.after) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), m.c.timeout)
	defer cancel()
	before := time.Now()
	f, err := m.c.read(ctx, m.rdb)
	was := m.why
	m.at = time.Now()
	m.why, m.after = m.take(&f, err, before)
	if m.why != "" && was == "" {
		m.toLog = m.why
	}
}

// warn logs that all connections are spared from now on. The lock is not held, because a logger may
// do anything.
func (m *Members) warn() {
	m.mu.Lock()
	text := m.toLog
	m.toLog = ""
	m.mu.Unlock()
	if text != "" {
		m.c.log.Warn("lifeguard: all connections are spared", "fleet", m.c.fleet, "why", text)
	}
}

// take processes a read that began at the given time. It returns why everybody is spared, and how
// long that lasts if nothing else happens.
func (m *Members) take(f *Fleet, err error, at time.Time) (why string, after time.Duration) {
	if err != nil {
		return err.Error(), 0
	}
	alive := false
	m.maxSilence = max(m.maxSilence, f.mayBeSilent())
	if anew := m.lost(f, at); anew != "" {
		m.intact, m.reason = at, anew
	}
	for _, i := range f.Instances {
		alive = alive || !i.Lost
		m.known[i.ID] = remembered{Instance: i, published: at.Add(-i.Age), until: at.Add(i.left)}
	}
	for id := range f.index.departed {
		delete(m.known, id)
	}
	m.addrs, m.names = map[string]bool{}, map[string]bool{}
	m.young = m.maxSilence + m.maxSilence/2 // a failover may lose what was published shortly before it
	for id, r := range m.known {
		if at.After(r.until) {
			delete(m.known, id)
			continue
		}
		m.young = max(m.young, at.Sub(r.published))
		for _, a := range r.Addrs {
			m.addrs[a] = true
		}
		for _, n := range r.ClientNames {
			m.names[n] = true
		}
		if len(r.ClientNames) > 0 && len(r.Addrs) == 0 {
			m.names[""] = true
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
		m.intact, m.reason = at, "no instance was alive"
		return "the fleet is empty, or nobody in it reaches Redis", 0
	case why != "":
		return why, 0
	}
	if watched := at.Sub(m.intact); watched < m.maxSilence {
		return fmt.Sprintf("incomplete: %s %v ago, and an instance may say nothing for %v", m.reason,
			watched.Round(time.Millisecond), m.maxSilence), m.maxSilence - watched
	}
	return "", 0
}

// lost returns what shows that instances may be missing that were in the fleet, or that published
// to it; "" if nothing does.
func (m *Members) lost(f *Fleet, at time.Time) (what string) {
	x := f.index
	if !x.now.IsZero() {
		lead := x.now.Sub(m.start) - at.Sub(m.start) // by the monotonic clock
		if off := lead - m.clock; !m.intact.IsZero() && m.clock != 0 && off.Abs() > jump+m.c.timeout {
			what = "the server's clock jumped"
		}
		m.clock = lead
	}
	there := make(map[string]bool, len(f.Instances)+len(f.missing))
	for _, id := range f.missing {
		there[id] = true
	}
	for _, i := range f.Instances {
		there[i.ID] = true
		if i.rev < m.known[i.ID].rev {
			what = "what an instance had published was lost"
		}
	}
	for id, r := range m.known {
		if !there[id] && !x.departed[id] && !r.vanished && at.Before(r.until.Add(-rounding)) {
			r.vanished = true
			m.known[id] = r
			what = "an instance vanished without leaving"
		}
	}
	switch {
	case m.intact.IsZero():
		what = "this began to be watched"
	case x.began != m.began:
		what = "the index of the fleet was made anew"
	}
	m.began = x.began
	return what
}
