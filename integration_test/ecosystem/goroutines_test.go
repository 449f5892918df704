package ecosystem_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// noGoroutineLeft runs f and sees that what it started has ended soon after.
func noGoroutineLeft(t *testing.T, f func()) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	f()
	var err error
	for end := time.Now().Add(soon); time.Now().Before(end); {
		// go-redis has one goroutine in each process to keep the time.
		if err = goleak.Find(before, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.init.0.func1")); err == nil {
			return
		}
	}
	t.Error(err)
}
