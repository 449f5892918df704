package managed_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

// soon is how long tests wait for something that takes milliseconds on an idle
// machine.
const soon = 10 * time.Second

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// client makes a managed client that is closed with the test.
func client(t testing.TB, opt *redis.Options, opts ...managed.Option) *managed.Client {
	t.Helper()
	c, err := managed.New(opt, append([]managed.Option{managed.WithLogger(quiet)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// clusterClient is client for a cluster.
func clusterClient(t *testing.T, opt *redis.ClusterOptions, opts ...managed.Option) *managed.ClusterClient {
	t.Helper()
	c, err := managed.NewCluster(opt, append([]managed.Option{managed.WithLogger(quiet)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// sized is options for s with a pool of n that waits for d at most.
func sized(s *redistest.Server, n int, d time.Duration) *redis.Options {
	opt := s.Options()
	opt.PoolSize, opt.PoolTimeout = n, d
	return opt
}

// events records what the event handler of a client gets.
type events struct {
	mu  sync.Mutex
	all []hooks.Event
}

func (e *events) option() managed.Option {
	return managed.WithEventHandler(func(x hooks.Event) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.all = append(e.all, x)
	})
}

func (e *events) of(kind hooks.EventKind) []hooks.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []hooks.Event
	for _, x := range e.all {
		if x.Kind == kind {
			out = append(out, x)
		}
	}
	return out
}

func (e *events) wait(t testing.TB, kind hooks.EventKind, n int) []hooks.Event {
	t.Helper()
	redistest.Eventually(t, "event "+kind.String(), soon, func() bool { return len(e.of(kind)) >= n })
	return e.of(kind)
}

// journal is a logger that can be read.
type journal struct{ redistest.Log }

func (j *journal) text() string { return j.String() }

func (j *journal) count(s string) int { return strings.Count(j.text(), s) }

func (j *journal) option() managed.Option {
	return managed.WithLogger(j.Logger())
}

// own is the server's view of the connection that a lease or a client uses next.
func own(t testing.TB, s *redistest.Server, c commander) redistest.ClientInfo {
	t.Helper()
	id, err := c.ClientID(context.Background()).Result()
	require.NoError(t, err)
	return byID(t, s, id)
}

func byID(t testing.TB, s *redistest.Server, id int64) redistest.ClientInfo {
	t.Helper()
	for _, c := range s.ClientList(t) {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("the server does not know connection %d", id)
	return redistest.ClientInfo{}
}

func gone(t testing.TB, s *redistest.Server, id int64) bool {
	t.Helper()
	for _, c := range s.ClientList(t) {
		if c.ID == id {
			return false
		}
	}
	return true
}

// within fails the test if f has not returned after soon.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(soon):
		t.Fatalf("not within %v: %s", soon, what)
	}
}

// full checks that no slot was lost: n leases can be taken at once, the next
// one not, and all can be given back.
func full(t testing.TB, c *managed.Client, n int) {
	t.Helper()
	ctx := context.Background()
	var held []*managed.Conn
	for i := range n {
		conn, err := c.Acquire(ctx)
		require.NoErrorf(t, err, "lease %d of %d: a slot is lost", i+1, n)
		held = append(held, conn)
	}
	_, err := c.TryAcquire(ctx)
	require.ErrorIs(t, err, redis.ErrPoolTimeout)
	for _, conn := range held {
		require.NoError(t, conn.Ping(ctx).Err())
		conn.Release()
	}
	require.Empty(t, c.Leases())
}
