package redistest_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// noServer makes this a machine without any server.
func noServer(t *testing.T) {
	t.Helper()
	for _, v := range []string{"LIFEGUARD_REDIS_URL", "LIFEGUARD_REDIS_BIN", "LIFEGUARD_VALKEY_BIN", "CI"} {
		t.Setenv(v, "")
	}
	t.Setenv("PATH", t.TempDir())
}

func TestWithoutAProgramATestSkipsAndInCIItFails(t *testing.T) {
	noServer(t)
	for _, name := range []string{"redis-server", "valkey-server"} {
		got := outcome(t, func(t testing.TB) { redistest.Binary(t, name) })
		assert.Contains(t, got.skip, "no "+name+" on PATH")
		assert.Empty(t, got.fatal)
	}
	t.Setenv("CI", "true")
	got := outcome(t, func(t testing.TB) { redistest.Start(t) })
	assert.Contains(t, got.fatal, "a skip is a failure")
	assert.Contains(t, got.fatal, "LIFEGUARD_REDIS_BIN")
}

func TestTheVariableWinsOverPathAndAWrongOneIsNamed(t *testing.T) {
	noServer(t)
	bin := filepath.Join(t.TempDir(), "my-redis")
	assert.NoError(t, os.WriteFile(bin, []byte("#!/bin/sh\necho this is no redis >&2\n"), 0o700))
	t.Setenv("LIFEGUARD_REDIS_BIN", bin)
	assert.Equal(t, bin, redistest.Binary(t, "redis-server"))

	t.Setenv("LIFEGUARD_REDIS_BIN", bin+"-not")
	got := outcome(t, func(t testing.TB) { redistest.Binary(t, "redis-server") })
	assert.Contains(t, got.skip, "LIFEGUARD_REDIS_BIN="+bin+"-not")
}

func TestAProgramThatEndsAtOnceIsReportedWithWhatItSaid(t *testing.T) {
	bin := redistest.Binary(t, "redis-server")
	t.Setenv("LIFEGUARD_REDIS_BIN", bin)
	began := time.Now()
	got := outcome(t, func(t testing.TB) { redistest.Start(t, "--no-such-flag", "1") })
	assert.Contains(t, got.fatal, "ended at once")
	assert.Contains(t, got.fatal, "no-such-flag")
	assert.Contains(t, got.fatal, "log:\n")
	assert.Less(t, time.Since(began), 5*time.Second)
}
