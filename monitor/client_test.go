package monitor_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/monitortest"
)

// hold takes n connections of rdb until the test ends or release is called.
func hold(t *testing.T, rdb *redis.Client, n int) (release func()) {
	t.Helper()
	var conns []*redis.Conn
	for range n {
		c := rdb.Conn()
		if err := c.Ping(bg).Err(); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	release = func() {
		for _, c := range conns {
			_ = c.Close()
		}
		conns = nil
	}
	t.Cleanup(release)
	return release
}

func TestAPlainClientIsCountedAsItsServerCountsIt(t *testing.T) {
	srv := redistest.Start(t)
	opt := srv.Options()
	opt.PoolSize, opt.PoolTimeout = 4, 50*time.Millisecond
	rdb := redis.NewClient(opt)
	defer func() { _ = rdb.Close() }()
	src := monitor.FromClient(rdb)
	rdb.AddHook(src.Hook())
	m := monitortest.New(t, src)
	if s := m.Stats(); s.Open != 0 || s.Dialed != 0 || s.Main.Size != 4 || srv.NumClients(t) != 0 {
		t.Errorf("looking opened something: %v", s)
	}
	sub := rdb.Subscribe(bg, "x")
	defer func() { _ = sub.Close() }()
	if _, err := sub.Receive(bg); err != nil {
		t.Fatal(err)
	}
	release := hold(t, rdb, 4)
	if err := rdb.Ping(bg).Err(); !errors.Is(err, redis.ErrPoolTimeout) {
		t.Fatalf("want a pool timeout, got %v", err)
	}
	if _, err := rdb.Pipelined(bg, func(p redis.Pipeliner) error { p.Ping(bg); return nil }); err != nil {
		t.Fatal(err)
	}
	s := m.Stats()
	if s.Open != srv.NumClients(t) || s.InUse != 4 || s.Idle != 1 || s.Subscribed != 1 || s.Dialed != 6 {
		t.Errorf("%d open, the server says %d: %+v", s.Open, srv.NumClients(t), s.Numbers)
	}
	if p, ok := s.FullestPool(""); !ok || p.Use() != 1 || p.Kind != "main" {
		t.Errorf("the fullest pool is %+v", p)
	}
	// go-redis counts the timeouts, but not those waits; it waits more than once
	// where it retries.
	if s.PoolTimeouts == 0 || s.Waits != s.PoolTimeouts || s.WaitTime != time.Duration(s.Waits)*opt.PoolTimeout {
		t.Errorf("timeouts %d, waits %d, wait time %v", s.PoolTimeouts, s.Waits, s.WaitTime)
	}
	if s.Command.Count != 6 || s.Dial.Count != 6 || s.Command.Max < opt.PoolTimeout || s.PeakDemand < 4 || s.DialErrors != 0 || s.LastDialError != nil {
		t.Errorf("hook: %+v", s.Numbers)
	}
	release()
	srv.KillClients(t)
	_ = rdb.Ping(bg).Err()
	// go-redis keeps those that it has not noticed yet; but what it opened is open or was removed.
	if s := m.Stats(); s.ClosedAll() == 0 || s.Closed["removed"] != s.ClosedAll() || s.Dialed != uint64(s.Open)+s.ClosedAll() || !strings.Contains(fmt.Sprint(s.Gaps), "why connections were closed") {
		t.Errorf("%+v", s)
	}
}

func TestWithoutTheHookWhatIsNotKnownIsNamed(t *testing.T) {
	rdb := redis.NewClient(redistest.Options(t))
	defer func() { _ = rdb.Close() }()
	if err := rdb.Ping(bg).Err(); err != nil {
		t.Fatal(err)
	}
	s := monitortest.New(t, monitor.FromClient(rdb)).Stats()
	if s.Dialed != 1 || s.Misses != 1 || s.Command.Count != 0 || !strings.Contains(fmt.Sprint(s.Gaps), "see Client.Hook") {
		t.Errorf("%+v", s)
	}
}

func TestAFailedDialIsTheLastUntilOneSucceeds(t *testing.T) {
	fail := true
	opt := redistest.Options(t)
	dial := redis.NewDialer(opt)
	opt.MaxRetries, opt.DialerRetries = -1, 1
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if fail {
			return nil, errors.New("no route")
		}
		return dial(ctx, network, addr)
	}
	rdb := redis.NewClient(opt)
	defer func() { _ = rdb.Close() }()
	src := monitor.FromClient(rdb)
	rdb.AddHook(src.Hook())
	m := monitortest.New(t, src)
	_ = rdb.Ping(bg).Err()
	s := m.Stats()
	if s.DialErrors != 1 || s.Dial.Count != 1 || s.Dialed != 0 || s.LastDialError == nil || s.LastDialError.Err != "no route" {
		t.Errorf("%+v, %+v", s.Numbers, s.LastDialError)
	}
	fail = false
	if err := rdb.Ping(bg).Err(); err != nil {
		t.Fatal(err)
	}
	if s := m.Stats(); s.DialErrors != 1 || s.Dialed != 1 || s.LastDialError != nil {
		t.Errorf("%+v, %+v", s.Numbers, s.LastDialError)
	}
}

func TestARingIsCountedByNode(t *testing.T) {
	a, b := redistest.Start(t), redistest.Start(t)
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": a.Addr(), "b": b.Addr()}})
	defer func() { _ = ring.Close() }()
	src := monitor.FromClient(ring)
	ring.AddHook(src.Hook())
	m := monitortest.New(t, src)
	for i := range 50 {
		if err := ring.Set(bg, fmt.Sprint("k", i), 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s := m.Stats()
	if len(s.Nodes) != 2 || s.Open != s.Nodes[0].Open+s.Nodes[1].Open || s.Nodes[0].Open == 0 || s.Dialed != uint64(s.Open) || s.Command.Count != 50 ||
		!strings.Contains(fmt.Sprint(s.Gaps), "how long dials took") {
		t.Errorf("%+v", s)
	}
}

// numbers is a client whose PoolStats the test makes up.
type numbers struct {
	redis.UniversalClient
	ps  redis.PoolStats
	opt redis.Options
}

func (n *numbers) Options() *redis.Options     { return &n.opt }
func (n *numbers) PoolStats() *redis.PoolStats { ps := n.ps; return &ps }

func TestWhatGoRedisReportsWronglyIsCorrected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &numbers{opt: redis.Options{Addr: "a:1", PoolSize: 10, MaxActiveConns: 8, PoolTimeout: time.Second}}
		m := monitortest.New(t, monitor.FromClient(n))
		n.ps = redis.PoolStats{TotalConns: 5, IdleConns: 4294967295, PendingRequests: 4294967295, Unusable: 9, StaleConns: 3}
		if s := m.Stats(); s.Idle != 0 || s.InUse != 5 || s.Waiting != 0 || s.Main.Size != 8 || s.Dialed != 8 || s.ClosedAll() != 3 {
			t.Errorf("underflow: %+v", s.Numbers)
		}
		n.ps.IdleConns = 7
		if s := m.Stats(); s.Idle != 5 || s.InUse != 0 {
			t.Errorf("more idle than open: %+v", s.Numbers)
		}
		n.ps = redis.PoolStats{Hits: 4294967290, WaitCount: 2, WaitDurationNs: 5e9, Timeouts: 3, StaleConns: 3}
		if s := m.Stats(); s.Waits != 5 || s.WaitTime != 8*time.Second || s.PoolTimeouts != 3 {
			t.Errorf("waits that failed: %+v", s.Numbers)
		}
		n.ps.Hits = 10 // it has wrapped around
		if s := m.Stats(); s.Hits != 4294967306 {
			t.Errorf("hits: %d", s.Hits)
		}
	})
}

func TestWhatIsNoClientIsRefused(t *testing.T) {
	if _, err := monitor.New(monitor.FromClient(struct{ redis.UniversalClient }{})); err == nil || !strings.Contains(err.Error(), "none of *redis.Client") {
		t.Errorf("%v", err)
	}
	if _, err := monitor.New(monitor.FromClient((*redis.Client)(nil))); err == nil || !strings.Contains(err.Error(), "the client is nil") {
		t.Errorf("%v", err)
	}
	var s monitor.Sample
	monitor.FromClient(nil).Sample(&s) // does nothing
}

func TestAClusterThatCannotBeReachedLeavesAGap(t *testing.T) {
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, DialerRetries: 1})
	defer func() { _ = c.Close() }()
	s := monitortest.New(t, monitor.FromClient(c)).Stats()
	if len(s.Nodes) != 0 || !strings.Contains(fmt.Sprint(s.Gaps), "nodes that have come or gone") {
		t.Errorf("%+v", s)
	}
}

func TestAClusterIsCountedByNodeAndGoesOnBeingCountedWhileItIsAway(t *testing.T) {
	cl := redistest.StartCluster(t, "redis-server", 2, 0)
	opt := cl.Options()
	opt.PoolSize, opt.DialerRetries, opt.MaxRedirects = 5, 1, 1
	c := redis.NewClusterClient(opt)
	defer func() { _ = c.Close() }()
	src := monitor.FromClient(c)
	c.AddHook(src.Hook())
	m := monitortest.New(t, src)
	for i := range 40 {
		if err := c.Set(bg, fmt.Sprint("k", i), 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s := m.Stats()
	open := cl.Nodes()[0].NumClients(t) + cl.Nodes()[1].NumClients(t)
	if len(s.Nodes) != 2 || s.Nodes[0].Main.Size != 5 || s.Nodes[0].Open == 0 || s.Nodes[1].Open == 0 || s.Dialed < uint64(s.Open) || s.Command.Count != 40 || s.Dial.Count != 0 {
		t.Errorf("%+v", s)
	}
	if s.Open > open {
		t.Errorf("%d open, the servers say %d", s.Open, open)
	}
	for _, n := range cl.Nodes() {
		n.Kill()
	}
	away := m.Stats()
	if len(away.Nodes) != 2 || away.Dialed < s.Dialed {
		t.Errorf("%+v", away)
	}
}

func BenchmarkHook(b *testing.B) {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer func() { _ = rdb.Close() }()
	process := monitor.FromClient(rdb).Hook().ProcessHook(func(context.Context, redis.Cmder) error { return nil })
	cmd := redis.NewStringCmd(bg, "get", "k")
	b.ReportAllocs()
	for b.Loop() {
		_ = process(bg, cmd)
	}
}
