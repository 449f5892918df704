package batch_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/batch"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
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

// incrUnderKills makes INCRs of different keys for d, those of each caller by the client that via
// returns, while the connections to the servers are killed again and again. It returns the error of
// each.
func incrUnderKills(t *testing.T, d, rhythm time.Duration, via func(caller int) redis.Cmdable, servers ...*redistest.Server) map[string]error {
	t.Helper()
	ctx := t.Context()
	until := time.Now().Add(d)
	var mu sync.Mutex
	outcome := map[string]error{}
	var wg sync.WaitGroup
	for caller := range 64 {
		c := via(caller)
		wg.Go(func() {
			for i := 0; time.Now().Before(until); i++ {
				key := fmt.Sprint("n:", caller, ":", i)
				err := c.Incr(ctx, key).Err()
				mu.Lock()
				outcome[key] = err
				mu.Unlock()
			}
		})
	}
	for time.Now().Before(until) {
		for _, s := range servers {
			s.KillClients(t)
		}
		time.Sleep(rhythm)
	}
	wg.Wait()
	return outcome
}

// checkOutcomes compares the errors of such INCRs with what the server, asked by c, has executed. It
// returns the number of unknown outcomes.
func checkOutcomes(t *testing.T, c redis.Cmdable, outcome map[string]error) (unknown int) {
	t.Helper()
	for key, n := range counted(t, c, outcome) {
		err := outcome[key]
		switch {
		case n > 1:
			t.Errorf("%s was carried out %d times", key, n)
		case err == nil && n == 0:
			t.Errorf("%s is lost, and nobody said so", key)
		case err != nil && !errors.Is(err, retry.ErrUnknownOutcome) && n > 0:
			t.Errorf("%s was carried out, and its error says that it was not: %v", key, err)
		case err != nil:
			assert.ErrorIs(t, err, retry.ErrUnknownOutcome)
			unknown++
		}
	}
	return unknown
}
