package redistest_test

import (
	"testing"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// The package promises to leave no goroutine behind: others look for theirs.
func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }
