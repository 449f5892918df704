package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/examples/internal/extest"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard)
	redistest.MainWithoutLeaks(m)
}

func TestItRunsAndEndsWithCtrlC(t *testing.T) {
	p := extest.Start(t, run, "-http", "127.0.0.1:0")
	base := strings.TrimSuffix(p.Find(`http://\S+/v1/keys/`), "/v1/keys/")
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, step := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/v1/keys/greeting", "", 404, `{"error":"not_found"}`},
		{"PUT", "/v1/keys/greeting", `{"value":"hello"}`, 204, ``},
		{"GET", "/v1/keys/greeting", "", 200, `{"value":"hello"}`},
		{"PUT", "/v1/keys/greeting", `{"value":"hello","ttl_ms":-1}`, 400, `ttl_ms`},
		{"PUT", "/v1/keys/greeting", `{"valu":"hello"}`, 400, `unknown field`},
		{"PUT", "/v1/keys/greeting", `{"value":"` + strings.Repeat("x", maxBody) + `"}`, 413, `{"error":"too_large"}`},
		{"PUT", "/v1/keys/" + strings.Repeat("k", maxKey+1), `{"value":"v"}`, 400, `at most 200 bytes`},
		{"POST", "/v1/keys/greeting/incr", ``, 409, `{"error":"conflict"}`},
		{"POST", "/v1/keys/visits/incr", ``, 200, `{"value":1}`},
		{"POST", "/v1/keys/visits/incr", `{"by":4}`, 200, `{"value":5}`},
		{"DELETE", "/v1/keys/visits", "", 204, ``},
		{"DELETE", "/v1/keys/visits", "", 404, `{"error":"not_found"}`},
		{"GET", "/healthz", "", 200, `{"status":"ok"}`},
		{"GET", "/debug/redis", "", 200, `<html`},
		{"POST", "/v1/keys/greeting", "", 405, ``},
	} {
		req, err := http.NewRequestWithContext(t.Context(), step.method, base+step.path, strings.NewReader(step.body))
		require.NoError(t, err)
		resp, err := c.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		_ = resp.Body.Close()
		require.Equal(t, step.status, resp.StatusCode, "%s %s: %s", step.method, step.path, body)
		require.Contains(t, string(body), step.want)
	}
	p.CtrlC()
	require.NoError(t, p.Wait())
}

// call asks an API of its own.
func call(t *testing.T, rdb redis.UniversalClient, method, path, body string) (status int, name string, h http.Header) {
	t.Helper()
	w := httptest.NewRecorder()
	newAPI(rdb).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
	var answer struct{ Error string }
	if w.Body.Len() > 0 {
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	}
	return w.Code, answer.Error, w.Header()
}

func client(t *testing.T, opt *redis.Options, opts ...managed.Option) *managed.Client {
	t.Helper()
	rdb, err := managed.New(opt, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func TestAFullPoolIs503AndSaysWhenToComeBack(t *testing.T) {
	opt := redistest.Start(t).Options()
	opt.PoolSize, opt.PoolTimeout = 1, 20*time.Millisecond
	rdb := client(t, opt)
	conn, err := rdb.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	code, name, h := call(t, rdb, "DELETE", "/v1/keys/k", "")
	require.Equal(t, 503, code)
	require.Equal(t, "busy", name)
	require.Equal(t, "1", h.Get("Retry-After"))
}

func TestAnUnreachableServerIs503(t *testing.T) {
	s := redistest.Start(t)
	rdb := client(t, s.Options())
	s.Kill()
	for _, path := range []string{"/v1/keys/k", "/healthz"} {
		code, name, _ := call(t, rdb, "GET", path, "")
		require.Equal(t, 503, code, path)
		require.Equal(t, "unavailable", name, path)
	}
}

func TestALostReplyOfAnIncrIs502AndSaysThatItMayHaveBeenDone(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr())
	rdb := client(t, &redis.Options{Addr: proxy.Addr()})
	code, _, _ := call(t, rdb, "POST", "/v1/keys/n/incr", "")
	require.Equal(t, 200, code)
	proxy.OnReply(func(int, []byte) redistest.Action { return redistest.CutBefore })
	code, name, _ := call(t, rdb, "POST", "/v1/keys/n/incr", "")
	require.Equal(t, 502, code)
	require.Equal(t, "outcome_unknown", name)
	require.Equal(t, "2", s.Admin().Get(t.Context(), "n").Val())
}

func TestAClientThatIsClosedIs503(t *testing.T) {
	rdb := client(t, redistest.Start(t).Options())
	require.NoError(t, rdb.CloseGracefully(context.Background()))
	code, name, _ := call(t, rdb, "GET", "/v1/keys/k", "")
	require.Equal(t, 503, code)
	require.Equal(t, "unavailable", name)
}

func TestASlowServerIs504(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	opt.ReadTimeout, opt.ContextTimeoutEnabled = time.Minute, true
	// Otherwise the unresponsive server may be taken for unreachable first, which is
	// 503; so is a connection that comes to nothing, and the first call opens one.
	rdb := client(t, opt, managed.WithFailureDetection(managed.FailureDetection{Off: true}))
	code, _, _ := call(t, rdb, "GET", "/v1/keys/k", "")
	require.Equal(t, 404, code)
	s.Pause()
	defer s.Resume()
	code, name, _ := call(t, rdb, "GET", "/v1/keys/k", "")
	require.Equal(t, 504, code)
	require.Equal(t, "timeout", name)
}
