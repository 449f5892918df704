package retry_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		redistest.Stop()
		os.Exit(code)
	}))
}
