package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/examples/internal/extest"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := client.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, strings.TrimSpace(string(body))
}

func TestOnSIGTERMItIsNotReadyFirstAndEndsThen(t *testing.T) {
	p := extest.Start(t, run, "-http", "127.0.0.1:0", "-drain", "1s")
	base := strings.TrimSuffix(p.Find(`http://\S+/readyz`), "/readyz")
	status, body := get(t, base+"/readyz")
	require.Equal(t, http.StatusOK, status, body)
	resp, err := client.Post(base+"/visits", "", nil)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusOK, resp.StatusCode)

	p.CtrlC()
	p.Find("not ready")
	status, body = get(t, base+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "shutting down", body)
	status, _ = get(t, base+"/livez")
	require.Equal(t, http.StatusOK, status)
	require.NoError(t, p.Wait())
}

func TestItIsNotReadyWhileRedisCannotBeReachedOrThePoolIsExhausted(t *testing.T) {
	s := redistest.Start(t)
	o := s.Options()
	o.PoolSize = 1
	rdb, err := managed.New(o)
	require.NoError(t, err)
	defer rdb.Close()
	require.NoError(t, rdb.Ping(t.Context()).Err())
	require.Empty(t, notReady(t.Context(), rdb, false))

	conn, err := rdb.Acquire(t.Context())
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- rdb.Ping(t.Context()).Err() }()
	redistest.Eventually(t, "it is not ready while a caller waits", 10e9, func() bool {
		return strings.Contains(notReady(t.Context(), rdb, false), "pool exhausted: 1 of 1 connections in use, 1 waiting")
	})
	conn.Release()
	require.NoError(t, <-done)

	gone, err := managed.New(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	require.NoError(t, err)
	defer gone.Close()
	require.Error(t, gone.Ping(t.Context()).Err())
	require.Contains(t, notReady(t.Context(), gone, false), "redis cannot be reached")
}

// Of all pods none is ready after an outage, so none gets requests.
func TestItIsReadyAgainWithoutARequestWhenRedisIsBack(t *testing.T) {
	s := redistest.Start(t)
	rdb, err := managed.New(s.Options())
	require.NoError(t, err)
	defer rdb.Close()
	require.NoError(t, rdb.Ping(t.Context()).Err())
	s.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, rdb.Ping(ctx).Err())
	redistest.Eventually(t, "it is not ready", 30*time.Second, func() bool { return notReady(t.Context(), rdb, false) != "" })
	s.Restart()
	redistest.Eventually(t, "it is ready again", 30*time.Second, func() bool { return notReady(t.Context(), rdb, false) == "" })
}

func TestTheManifestAsksForWhatTheProgramHas(t *testing.T) {
	text, err := os.ReadFile("deployment.yaml")
	require.NoError(t, err)
	for _, want := range []string{"/readyz", "/livez", "terminationGracePeriodSeconds: 30", "-drain=5s", "-within=20s"} {
		require.Contains(t, string(text), want)
	}
	var out strings.Builder
	require.Error(t, run(t.Context(), []string{"-h"}, &out))
	for _, flag := range []string{"http", "addr", "drain", "within"} {
		require.Contains(t, out.String(), fmt.Sprintf("-%s ", flag))
	}
}
