package redistest_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestAtTheEndOfAPackageOneLineTellsOfSkippedTests(t *testing.T) {
	if os.Getenv("LIFEGUARD_TEST_SKIPS") != "" {
		for range 2 {
			t.Run("a server is missing", func(t *testing.T) { redistest.Start(t) })
		}
		return
	}
	noServer(t)
	t.Setenv("LIFEGUARD_TEST_SKIPS", "true")
	program, err := os.Executable()
	require.NoError(t, err)
	out, err := exec.Command(program, "-test.run", "^"+t.Name()+"$").CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Contains(t, string(out), "2 TESTS WERE SKIPPED: 2 x no redis-server on PATH: install it or set LIFEGUARD_REDIS_BIN. scripts/test gets what they need.\n")
}
