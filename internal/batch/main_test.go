package batch_test

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/batch"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

// soon is how long tests wait for something that takes milliseconds on an idle machine.
const soon = 10 * time.Second

var quiet = managed.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))

// client makes a managed client that is closed with the test.
func client(t testing.TB, opt *redis.Options, opts ...managed.Option) *managed.Client {
	t.Helper()
	c, err := managed.New(opt, append([]managed.Option{quiet}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// clusterClient is client for a cluster.
func clusterClient(t *testing.T, opt *redis.ClusterOptions, opts ...managed.Option) *managed.ClusterClient {
	t.Helper()
	c, err := managed.NewCluster(opt, append([]managed.Option{quiet}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// always makes an Adaptive client send in a batch whatever it may.
func always(s *batch.Settings) error { s.Threshold = 1; return nil }

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
