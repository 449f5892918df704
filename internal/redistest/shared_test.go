package redistest_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// afresh lets a test decide anew where the shared server comes from.
func afresh(t *testing.T) {
	t.Helper()
	redistest.Stop()
	t.Cleanup(func() {
		redistest.Stop()
		redistest.Register(nil)
	})
}

func TestTheSharedServerIsStartedOnceAndEndedByStop(t *testing.T) {
	afresh(t)
	t.Setenv("LIFEGUARD_REDIS_URL", "")
	bin := redistest.Binary(t, "redis-server")
	t.Setenv("LIFEGUARD_REDIS_BIN", bin)
	url := redistest.URL(t)
	assert.Equal(t, url, redistest.URL(t))
	assert.Equal(t, "redis-server process", redistest.Source(t))
	opt := redistest.Options(t)
	require.NoError(t, client(t, opt).Ping(ctx).Err())
	assert.NotSame(t, opt, redistest.Options(t))
	redistest.Stop()
	_, err := net.Dial("tcp", opt.Addr)
	require.Error(t, err)
}

func TestTheVariableNamesTheSharedServer(t *testing.T) {
	afresh(t)
	s := redistest.Start(t)
	redistest.Register(func() (string, func(), error) { panic("not asked") })
	t.Setenv("LIFEGUARD_REDIS_URL", "redis://"+s.Addr()+"/2")
	assert.Equal(t, "redis://"+s.Addr()+"/2", redistest.URL(t))
	assert.Equal(t, 2, redistest.Options(t).DB)
	assert.Equal(t, "LIFEGUARD_REDIS_URL", redistest.Source(t))
}

func TestAVariableThatLeadsNowhereFailsTheTestAndDoesNotSkipIt(t *testing.T) {
	for url, want := range map[string]string{
		"redis://127.0.0.1:1":  "no answer from 127.0.0.1:1",
		"http://127.0.0.1:123": "invalid URL scheme",
	} {
		afresh(t)
		t.Setenv("LIFEGUARD_REDIS_URL", url)
		for range 2 {
			got := outcome(t, func(t testing.TB) { redistest.URL(t) })
			assert.Contains(t, got.fatal, "LIFEGUARD_REDIS_URL")
			assert.Contains(t, got.fatal, want)
		}
	}
}

func TestAProviderComesBeforeAProcess(t *testing.T) {
	s := redistest.Start(t)
	t.Setenv("LIFEGUARD_REDIS_URL", "")
	calls, stops := 0, 0
	afresh(t)
	redistest.Register(func() (string, func(), error) {
		calls++
		return "redis://" + s.Addr(), func() { stops++ }, nil
	})
	for range 3 {
		assert.Equal(t, "redis://"+s.Addr(), redistest.URL(t))
	}
	assert.Equal(t, "provider", redistest.Source(t))
	redistest.Stop()
	redistest.Stop()
	assert.Equal(t, 1, calls)
	assert.Equal(t, 1, stops)
}

func TestAProviderThatCannotLeavesItToAProcess(t *testing.T) {
	redistest.Binary(t, "redis-server")
	t.Setenv("LIFEGUARD_REDIS_URL", "")
	for _, p := range []redistest.Provider{
		func() (string, func(), error) { return "", nil, errors.New("no engine") },
		func() (string, func(), error) { return "", nil, nil },
		func() (string, func(), error) { panic("engine in flames") },
	} {
		afresh(t)
		redistest.Register(p)
		assert.Equal(t, "redis-server process", redistest.Source(t))
	}
}

func TestWithoutAnyServerTheOneLineSaysEveryReason(t *testing.T) {
	noServer(t)
	afresh(t)
	redistest.Register(func() (string, func(), error) { return "", nil, errors.New("no engine answers\nanywhere") })
	got := outcome(t, func(t testing.TB) { redistest.URL(t) })
	assert.Empty(t, got.fatal)
	assert.NotContains(t, got.skip, "\n")
	for _, want := range []string{"no redis-server on PATH", "LIFEGUARD_REDIS_BIN", "LIFEGUARD_REDIS_URL", "no engine answers"} {
		assert.Contains(t, got.skip, want)
	}
	t.Setenv("CI", "true")
	got = outcome(t, func(t testing.TB) { redistest.URL(t) })
	assert.Contains(t, got.fatal, "a skip is a failure")
}

func TestEventuallyWaitsForTheConditionAndSaysWhatDidNotCome(t *testing.T) {
	n := 0
	redistest.Eventually(t, "the third look", time.Second, func() bool { n++; return n == 3 })
	began := time.Now()
	got := outcome(t, func(t testing.TB) {
		redistest.Eventually(t, "the sea is sweet", 30*time.Millisecond, func() bool { return false })
	})
	assert.Equal(t, "not within 30ms: the sea is sweet", got.fatal)
	assert.Less(t, time.Since(began), time.Second)
}

func TestUniqueKeysDiffer(t *testing.T) {
	t.Run("a{b}", func(t *testing.T) {
		a, b := redistest.UniqueKey(t, "k"), redistest.UniqueKey(t, "k")
		assert.NotEqual(t, a, b)
		assert.Contains(t, a, ":k:")
		assert.NotContains(t, a, "{", "a hash tag would decide the slot")
	})
}
