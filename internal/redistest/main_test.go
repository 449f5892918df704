package redistest_test

import (
	"testing"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// The package must leave no goroutine behind: the tests of others check for leaks.
func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }
