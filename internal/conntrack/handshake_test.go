package conntrack_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

// A first handshake that never ends, because a hook has panicked in it, makes others wait for a
// while, once, not each of them until its write deadline.
func TestAFirstHandshakeThatNeverEndsIsNotWaitedForForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		now := func() int64 { return int64(time.Since(began)) + 1 }
		f := conntrack.NewFirstHandshake()
		enter := func(by time.Time, first bool, after time.Duration) {
			t.Helper()
			start := time.Now()
			if got, err := f.Enter(now(), by); err != nil || got != first || time.Since(start) != after {
				t.Errorf("after %v: first: %v, %v, having waited for %v; want %v after %v", start.Sub(began), got, err, time.Since(start), first, after)
			}
		}
		enter(time.Time{}, true, 0)
		enter(time.Now().Add(3*time.Second), false, 3*time.Second)
		enter(time.Now().Add(3*time.Second), false, 2*time.Second)
		enter(time.Now().Add(3*time.Second), false, 0)
		enter(time.Time{}, false, 0)
		f.Leave(false)
		enter(time.Time{}, true, 0)
		enter(time.Time{}, false, 5*time.Second)
		f.Leave(true)
		enter(time.Time{}, false, 0)
	})
}
