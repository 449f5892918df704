package integration_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

var chaosFlag = flag.Duration("chaos", 0, "how long the chaos tests run; 0: 5s, with CI=true 30s for the one that has to last")

// lasting is how long a chaos test runs by default, the longest of them with
// CI=true.
func lasting(usual, ci time.Duration) time.Duration {
	switch {
	case *chaosFlag > 0:
		return *chaosFlag
	case os.Getenv("CI") == "true":
		return ci
	case testing.Short():
		return min(usual, time.Second)
	}
	return usual
}

var discard = slog.New(slog.NewTextHandler(io.Discard, nil))

// guarded is a managed client that is closed with the test.
func guarded(t testing.TB, opt *redis.Options, opts ...managed.Option) *managed.Client {
	t.Helper()
	c, err := managed.New(opt, append([]managed.Option{managed.WithLogger(discard)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// behind is options for s that lead through p.
func behind(s *redistest.Server, p *redistest.Proxy) *redis.Options {
	opt := s.Options()
	opt.Addr = p.Addr()
	return opt
}

// upTo is a ctx that ends long after everything should be over.
func upTo(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// ledger is what callers were told about writes that must not happen twice. Each
// has a key of its own, which it counts up once: a 2 is a duplicate.
type ledger struct {
	mu      sync.Mutex
	certain map[string]bool // reported success
	maybe   map[string]bool // reported an unknown outcome
	never   map[string]error
}

func newLedger() *ledger {
	return &ledger{certain: map[string]bool{}, maybe: map[string]bool{}, never: map[string]error{}}
}

// note takes down what the caller of the write of key was told.
func (l *ledger) note(key string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.certain[key] = true
	case errors.Is(err, retry.ErrUnknownOutcome):
		l.maybe[key] = true
	default:
		l.never[key] = err
	}
}

func (l *ledger) len() int { return len(l.certain) + len(l.maybe) + len(l.never) }

// verdict is what the comparison gave; happened counts among the unknown ones.
type verdict struct{ calls, unknown, happened, failed int }

func (v verdict) String() string {
	return fmt.Sprintf("%d writes, %d unknown outcomes of which %d had happened, %d errors of writes that had not", v.calls, v.unknown, v.happened, v.failed)
}

// reconcile compares what callers were told with the server, call by call. The
// clients must be closed.
func (l *ledger) reconcile(t testing.TB, s *redistest.Server) verdict {
	t.Helper()
	settled(t, s)
	l.mu.Lock()
	defer l.mu.Unlock()
	v := verdict{calls: l.len(), unknown: len(l.maybe), failed: len(l.never)}
	bad := 0
	wrong := func(format string, args ...any) {
		if bad++; bad <= 10 {
			t.Errorf(format, args...)
		}
	}
	for _, told := range []string{"success", "unknown", "error"} {
		var keys []string
		switch told {
		case "success":
			keys = slices.Collect(maps.Keys(l.certain))
		case "unknown":
			keys = slices.Collect(maps.Keys(l.maybe))
		default:
			keys = slices.Collect(maps.Keys(l.never))
		}
		for part := range slices.Chunk(keys, 1000) {
			counts, err := s.Admin().MGet(context.Background(), part...).Result()
			if err != nil {
				t.Fatal(err)
			}
			for i, key := range part {
				switch n := counts[i]; {
				case n != nil && n != "1":
					wrong("%s: told %s, and happened %v times", key, told, n)
				case told == "success" && n == nil:
					wrong("%s: told success, and is lost", key)
				case told == "error" && n != nil:
					wrong("%s: happened, and its error does not say that it might have: %v", key, l.never[key])
				case told == "unknown" && n != nil:
					v.happened++
				}
			}
		}
	}
	if bad > 10 {
		t.Errorf("and %d more", bad-10)
	}
	return v
}

// settled waits until the server has read all that reached it: what was passed
// on before a connection was cut is executed before its end is seen.
func settled(t testing.TB, s *redistest.Server) {
	t.Helper()
	redistest.Eventually(t, "the clients' connections have ended", 15*time.Second, func() bool { return s.NumClients(t) == 0 })
}

// few notes errors that must not be, the first of them in full.
type few struct {
	mu    sync.Mutex
	n     int
	first []error
}

func (f *few) add(err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n++; len(f.first) < 5 {
		f.first = append(f.first, err)
	}
}

func (f *few) none(t testing.TB, what string, of int64) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n > 0 {
		t.Errorf("%s: %d errors of %d calls, among them: %v", what, f.n, of, f.first)
	}
}
