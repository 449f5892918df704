package conntrack_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// lines is a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// sameServer makes nodes of one tracker for the same server, under the given addresses. They reach
// it while there is a way.
func sameServer(t *testing.T, addrs ...string) (nodes []*conntrack.Node, way *atomic.Bool, log *lines, clock *atomic.Int64) {
	s := redistest.Start(t)
	way, log, clock = new(atomic.Bool), &lines{}, new(atomic.Int64)
	way.Store(true)
	tr := conntrack.NewTracker(conntrack.Config{Logger: slog.New(slog.NewTextHandler(log, nil)),
		Now: func() time.Time { return time.Now().Add(time.Duration(clock.Load())) }})
	for _, addr := range addrs {
		opt := s.Options()
		opt.Addr, opt.MaxRetries = addr, -1
		opt.Dialer = func(context.Context, string, string) (net.Conn, error) {
			if !way.Load() {
				return nil, errors.New("no way")
			}
			return net.Dial("tcp", s.Addr())
		}
		n := tr.NewNode(opt)
		c := redis.NewClient(opt)
		(&conntrack.Hook{Node: n}).Install(c, nil, nil)
		n.Bind(c)
		t.Cleanup(func() { n.Close(); _ = c.Close() })
		nodes = append(nodes, n)
	}
	return nodes, way, log, clock
}

// outage makes all connections end, and the nodes notice.
func outage(t *testing.T, way *atomic.Bool, nodes ...*conntrack.Node) {
	way.Store(false)
	for _, n := range nodes {
		n.Range(func(c *conntrack.Conn) bool { c.Evict(hooks.ReasonReset); return true })
		require.Error(t, n.Client().Ping(bg).Err())
		require.Equal(t, hooks.Unreachable, n.Health())
	}
}

// recovered makes them notice that it is over.
func recovered(t *testing.T, way *atomic.Bool, nodes ...*conntrack.Node) {
	way.Store(true)
	for _, n := range nodes {
		redistest.Eventually(t, "it is reachable", soon, func() bool { return n.Client().Ping(bg).Err() == nil && n.Health() == hooks.Healthy })
	}
}

func TestANodeThatIsClosedInAnOutageTakesNoLineFromOthersOfItsServer(t *testing.T) {
	nodes, way, log, clock := sameServer(t, "redis.test:1", "redis.test:1")
	recovered(t, way, nodes...)
	outage(t, way, nodes...)
	nodes[0].Close()
	recovered(t, way, nodes[1])
	redistest.Eventually(t, "the log says that it is over", soon, func() bool { return strings.Contains(log.String(), "reachable again") })
	require.Equalf(t, 2, strings.Count(log.String(), "\n"), "%s", log)
	clock.Add(int64(time.Minute))
	outage(t, way, nodes[1])
	redistest.Eventually(t, "the next one is logged", soon, func() bool { return strings.Count(log.String(), "unreachable: no way") == 2 })
}

// A node that is closed in an outage that nobody else has noticed leaves nothing behind.
func TestTheOutageOfANodeThatIsClosedEndsWithIt(t *testing.T) {
	nodes, way, log, clock := sameServer(t, "redis.test:1", "redis.test:1")
	recovered(t, way, nodes...)
	outage(t, way, nodes[0])
	nodes[0].Close()
	clock.Add(int64(time.Minute))
	outage(t, way, nodes[1])
	redistest.Eventually(t, "the next one is logged", soon, func() bool { return strings.Count(log.String(), "unreachable: no way") == 2 })
}

// The node that sees the end may know the server by another name than the one that saw the beginning.
func TestBothLinesAboutAnOutageHaveTheSameName(t *testing.T) {
	nodes, way, log, _ := sameServer(t, "redis.test:1", "192.0.2.1:1")
	recovered(t, way, nodes...)
	outage(t, way, nodes...)
	nodes[0].Close()
	recovered(t, way, nodes[1])
	redistest.Eventually(t, "the log says that it is over", soon, func() bool { return strings.Contains(log.String(), "reachable again") })
	require.Contains(t, log.String(), "redis redis.test:1 unreachable")
	require.Contains(t, log.String(), "redis redis.test:1 reachable again")
}

// Sentinels may know a server by its name and by its address.
func TestAnOutageOfAServerWithANameAndAnAddressIsTwoLines(t *testing.T) {
	nodes, way, log, _ := sameServer(t, "redis.test:1", "192.0.2.1:1")
	recovered(t, way, nodes...)
	outage(t, way, nodes...)
	recovered(t, way, nodes...)
	redistest.Eventually(t, "the log says that it is over", soon, func() bool { return strings.Contains(log.String(), "reachable again") })
	require.Equalf(t, 2, strings.Count(log.String(), "\n"), "%s", log)
}
