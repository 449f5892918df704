package redistest_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// The package promises to leave no goroutine behind: others look for theirs.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		redistest.Stop()
		os.Exit(code)
	}))
}
