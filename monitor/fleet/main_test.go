package fleet_test

import (
	"context"
	"flag"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
)

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "8")
	redistest.MainWithoutLeaks(m)
}

var (
	bg    = context.Background()
	quiet = slog.New(slog.DiscardHandler)
)

const soon = 15 * time.Second

func onEach(t *testing.T, test func(t *testing.T, s *redistest.Server)) {
	t.Parallel()
	t.Run("Redis", func(t *testing.T) { t.Parallel(); test(t, redistest.Start(t)) })
	t.Run("Valkey", func(t *testing.T) { t.Parallel(); test(t, redistest.StartValkey(t)) })
}

// dial makes a client whose connections have the name.
func dial(t testing.TB, opt *redis.Options, name string) *redis.Client {
	t.Helper()
	opt.ClientName, opt.MaxRetries, opt.DialerRetries = name, -1, 1
	opt.DialTimeout, opt.ReadTimeout = time.Second, time.Second
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	c := redis.NewClient(opt)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// watch makes a Monitor.
func watch(t testing.TB, src monitor.Source, opts ...monitor.Option) *monitor.Monitor {
	t.Helper()
	m, err := monitor.New(src, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// publish has a client's numbers published, ten times a second.
func publish(t testing.TB, rdb redis.UniversalClient, opts ...fleet.Option) *fleet.Publisher {
	t.Helper()
	return publishOf(t, watch(t, monitor.FromClient(rdb)), rdb, opts...)
}

func publishOf(t testing.TB, m *monitor.Monitor, rdb redis.UniversalClient, opts ...fleet.Option) *fleet.Publisher {
	t.Helper()
	p, err := fleet.Publish(m, rdb, append([]fleet.Option{fleet.WithInterval(100 * time.Millisecond), fleet.WithLostAfter(5 * time.Second), fleet.WithLogger(quiet)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func read(t testing.TB, rdb redis.UniversalClient, opts ...fleet.Option) fleet.Fleet {
	t.Helper()
	f, err := fleet.Read(bg, rdb, opts...)
	require.NoError(t, err)
	return f
}

// gaps are those of a fleet, but for the one that every new fleet has.
func gaps(f fleet.Fleet) []string {
	return slices.DeleteFunc(slices.Clone(f.Gaps), func(g string) bool { return strings.HasPrefix(g, "incomplete: the index is new") })
}

// hold takes n connections until the end of the test.
func hold(t testing.TB, rdb *redis.Client, n int) {
	t.Helper()
	for range n {
		c := rdb.Conn()
		require.NoError(t, c.Ping(bg).Err())
		t.Cleanup(func() { _ = c.Close() })
	}
}

// count says how many connections with that name a server has.
func count(t testing.TB, name string, servers ...*redistest.Server) (n int) {
	t.Helper()
	for _, s := range servers {
		for _, c := range s.ClientList(t) {
			if c.Name == name {
				n++
			}
		}
	}
	return n
}

// script is a Source whose numbers the test sets.
type script struct {
	mu   sync.Mutex
	fill func(*monitor.Sample)
}

func (s *script) Sample(to *monitor.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fill(to)
}

func (s *script) set(fill func(*monitor.Sample)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fill = fill
}

// node fills samples with one node.
func node(name string, n monitor.Numbers) func(*monitor.Sample) {
	return func(s *monitor.Sample) { s.Nodes = []monitor.Node{{Name: name, Numbers: n}} }
}

// onEveryServer tries Redis 7.0, 8 and 8.6, and Valkey.
func onEveryServer(t *testing.T, test func(t *testing.T, s *redistest.Server)) {
	t.Parallel()
	for name, start := range redistest.Servers() {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, start(t)) })
	}
}
