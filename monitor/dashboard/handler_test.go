package dashboard_test

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/dashboard"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/monitortest"
)

func TestWhatCannotBeIsAClearError(t *testing.T) {
	m, err := monitor.New(&source{})
	require.NoError(t, err)
	for want, make := range map[string]func() (*dashboard.Handler, error){
		"the Monitor is nil":         func() (*dashboard.Handler, error) { return dashboard.New(nil) },
		"an option is nil":           func() (*dashboard.Handler, error) { return dashboard.New(m, nil) },
		"WithInterval(0s): must be":  func() (*dashboard.Handler, error) { return dashboard.New(m, dashboard.WithInterval(0)) },
		"WithInterval(-1s): must be": func() (*dashboard.Handler, error) { return dashboard.New(m, dashboard.WithInterval(-time.Second)) },
		"WithInterval(99ms): must be": func() (*dashboard.Handler, error) {
			return dashboard.New(m, dashboard.WithInterval(99*time.Millisecond))
		},
		"WithInterval(1h0m0s)": func() (*dashboard.Handler, error) { return dashboard.New(m, dashboard.WithInterval(time.Hour)) },
		"WithTitle: the name":  func() (*dashboard.Handler, error) { return dashboard.New(m, dashboard.WithTitle("")) },
		"WithTrustedOrigin": func() (*dashboard.Handler, error) {
			return dashboard.New(m, dashboard.WithTrustedOrigin("example.com/x"))
		},
		`WithAllowedHost: ""`: func() (*dashboard.Handler, error) { return dashboard.New(m, dashboard.WithAllowedHost("")) },
		"ops.example.com:8080": func() (*dashboard.Handler, error) {
			return dashboard.New(m, dashboard.WithAllowedHost("ops.example.com:8080"))
		},
	} {
		h, err := make()
		require.Nil(t, h, want)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "lifeguard/dashboard: ")
	}
}

var reference = regexp.MustCompile(`(?:href|src)="([^"#][^"]*)"`)

func TestThePageWorksWhereverItIsMounted(t *testing.T) {
	page := newPage(t, &source{})
	mux := http.NewServeMux()
	mux.Handle("/debug/redis", page)
	mux.Handle("/with/slash/", page)
	mux.Handle("/stripped/", http.StripPrefix("/stripped", page))
	mux.Handle("/bare", http.StripPrefix("/bare", page))
	server := httptest.NewServer(mux)
	defer server.Close()
	target, err := url.Parse(server.URL + "/debug/redis")
	require.NoError(t, err)
	proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { // every path goes to the same one
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.URL.Path = target.Scheme, target.Host, target.Path
	}})
	defer proxy.Close()
	root := httptest.NewServer(page)
	defer root.Close()

	for _, at := range []string{server.URL + "/debug/redis", server.URL + "/with/slash/", server.URL + "/with/slash", server.URL + "/stripped/",
		server.URL + "/bare", proxy.URL + "/elsewhere/redis/", proxy.URL + "/elsewhere", root.URL, root.URL + "/"} {
		resp, err := http.Get(at)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		_ = resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode, at)
		refs := reference.FindAllStringSubmatch(string(body), -1)
		require.GreaterOrEqual(t, len(refs), 7, at)
		refs = append(refs, []string{"", "?get=snapshot.json"})
		for _, ref := range refs {
			to, err := resp.Request.URL.Parse(strings.ReplaceAll(ref[1], "&amp;", "&"))
			require.NoError(t, err)
			require.Equal(t, resp.Request.URL.Host, to.Host, "to another host: %s", ref[1])
			part, err := http.Get(to.String())
			require.NoError(t, err)
			_ = part.Body.Close()
			require.Equal(t, http.StatusOK, part.StatusCode, to)
			require.NotContains(t, part.Header.Get("Content-Type"), "text/html", to)
		}
	}
	require.Contains(t, get(page, "/debug/redis/snapshot.json").Header().Get("Content-Type"), "application/json")
	require.Equal(t, http.StatusNotFound, get(page, "/?get=nothing").Code)
}

func TestThePageIsStrictWithItself(t *testing.T) {
	h := newPage(t, &source{}, dashboard.WithTitle(`<script>alert(1)</script>"`))
	w := get(h, "/")
	csp := w.Header().Get("Content-Security-Policy")
	require.Contains(t, csp, "default-src 'none'")
	require.NotContains(t, csp, "unsafe")
	require.NotContains(t, csp, "http")
	require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	page := w.Body.String()
	require.NotContains(t, page, "<script>", "an inline script, or a title that is not escaped")
	require.NotRegexp(t, `\son[a-z]+=|\sstyle=|<style`, page)
	for _, name := range []string{"page.js", "page.css", "uplot.css"} {
		require.NotRegexp(t, `["'(]https?://|@import|\beval\(|innerHTML|new Function`, get(h, "/?get="+name).Body.String(), name)
	}
	require.NotRegexp(t, `["'(]https?://`, page)
	require.Contains(t, get(h, "/?get=uplot-license").Body.String(), "MIT License")
}

func TestAssetsAreSmallAndKept(t *testing.T) {
	h := newPage(t, &source{})
	page := get(h, "/").Body.String()
	all := 0
	for _, ref := range reference.FindAllStringSubmatch(page, -1) {
		w := get(h, "/"+strings.ReplaceAll(ref[1], "&amp;", "&"), "Accept-Encoding", "br;q=1, gzip;q=0.8")
		if w.Header().Get("Content-Encoding") != "gzip" {
			continue
		}
		all += w.Body.Len()
		require.Contains(t, w.Header().Get("Cache-Control"), "immutable")
		z, err := gzip.NewReader(w.Body)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, z)
		require.NoError(t, err)
	}
	require.Positive(t, all)
	require.Less(t, all, 64<<10, "the whole page, compressed")
	require.Empty(t, get(h, "/?get=page.js", "Accept-Encoding", "gzip;q=0").Header().Get("Content-Encoding"))
	require.Equal(t, "no-cache", get(h, "/?get=page.js").Header().Get("Cache-Control"))
}

func TestOnlyWhatIsNeededIsAnswered(t *testing.T) {
	h := newPage(t, &source{})
	require.Equal(t, http.StatusMethodNotAllowed, ask(h, http.MethodPut, "/").Code)
	require.Equal(t, http.StatusMethodNotAllowed, ask(h, http.MethodDelete, "/?do=reset").Code)
	require.Equal(t, http.StatusOK, ask(h, http.MethodHead, "/").Code)
	require.Equal(t, http.StatusMethodNotAllowed, ask(h, http.MethodHead, "/?get=stream").Code)
	require.Equal(t, http.StatusBadRequest, get(h, "/?get=stack&lease=x").Code)
	require.Equal(t, http.StatusNotFound, get(h, "/?get=stack&lease=1").Code)
}

func TestActionsAreOffUnlessAllowed(t *testing.T) {
	src := &source{}
	h := newPage(t, src)
	w := ask(h, http.MethodPost, "/?do=reset", "Sec-Fetch-Site", "same-origin")
	require.Equal(t, http.StatusForbidden, w.Code)
	require.Empty(t, src.done)
	require.NotContains(t, get(h, "/").Body.String(), "data-do")
}

func TestActionsAreTakenFromThePageItselfOnly(t *testing.T) {
	src := &source{}
	h := newPage(t, src, dashboard.WithActions(), dashboard.WithAllowedHost("example.com", "page.example", "inside"), dashboard.WithTrustedOrigin("https://ops.example.com"))
	require.Contains(t, get(h, "/").Body.String(), `data-do="reset"`)
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
		require.Equal(t, http.StatusForbidden, ask(h, http.MethodPost, "http://page.example/?do=reset", header...).Code, header)
	}
	require.Equal(t, http.StatusOK, get(h, "/?do=reset").Code) // it is the page, and does nothing
	require.Equal(t, http.StatusBadRequest, ask(h, http.MethodPost, "/?do=other").Code)
	require.Empty(t, src.done)

	w := ask(h, http.MethodPost, "/?do=evict-idle", "Sec-Fetch-Site", "same-origin")
	require.JSONEq(t, `{"closed":3}`, w.Body.String())
	w = ask(h, http.MethodPost, "http://page.example/?do=reset", "Origin", "http://page.example")
	require.JSONEq(t, `{"closed":5}`, w.Body.String())
	require.Equal(t, http.StatusOK, ask(h, http.MethodPost, "http://inside/?do=reset", "Origin", "https://ops.example.com").Code)
	require.Equal(t, []string{"evict", "reset", "reset"}, src.done)
}

// A page of somebody else whose name resolves to this server, by now, has the same
// origin as the one it asks: only the name tells them apart.
func TestWithActionsANameThatNobodyListedIsNotServed(t *testing.T) {
	src := &source{}
	h := newPage(t, src, dashboard.WithActions(), dashboard.WithAllowedHost("Ops.Example.com"))
	for _, host := range []string{"evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "ops.example.com.evil.example",
		"notlocalhost:80", "127.1x:80"} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			w := ask(h, method, "http://"+host+"/?do=reset", "Origin", "http://"+host, "Sec-Fetch-Site", "same-origin")
			require.Equal(t, http.StatusMisdirectedRequest, w.Code, host)
			require.Contains(t, w.Body.String(), "dashboard.WithAllowedHost")
		}
		require.Equal(t, http.StatusMisdirectedRequest, get(h, "http://"+host+"/?get=stream").Code)
	}
	require.Empty(t, src.done)
	for _, host := range []string{"127.0.0.1", "127.0.0.1:8080", "10.0.0.7:80", "[::1]", "[::1]:8080", "localhost", "LOCALHOST:8080", "localhost.:80",
		"ops.example.com", "ops.example.com:443", "OPS.example.com."} {
		require.Equal(t, http.StatusOK, get(h, "http://"+host+"/").Code, host)
	}
	require.Equal(t, http.StatusOK, get(newPage(t, src), "http://evil.example/").Code, "what only shows is served under any name")
}

func TestASourceWithoutActionsSaysSo(t *testing.T) {
	h := newPage(t, &monitortest.Source{}, dashboard.WithActions())
	w := ask(h, http.MethodPost, "http://localhost/?do=reset")
	require.Equal(t, http.StatusNotImplemented, w.Code)
	require.Contains(t, w.Body.String(), monitor.ErrNoActions.Error())
}

func TestAPasswordInADialErrorIsNotShown(t *testing.T) {
	src := &source{}
	src.Set(func(s *monitor.Sample) {
		s.LastDialError = &monitor.DialError{Time: time.Now(), Err: "dial redis://user:hunter2@db:6379/0: refused"}
	})
	h := newPage(t, src)
	body := get(h, "/?get=snapshot.json").Body.String()
	require.NotContains(t, body, "hunter2")
	require.Contains(t, body, "redis://...@db:6379/0: refused")
}

func TestAManagedClientsLeaseIsShownWithItsStackAndWithoutKeys(t *testing.T) {
	opt := redistest.Options(t)
	rdb, err := managed.New(opt)
	require.NoError(t, err)
	defer rdb.Close()
	h, err := dashboard.New(rdb.PoolMonitor(), dashboard.WithActions(), dashboard.WithAllowedHost("example.com")) // that of httptest
	require.NoError(t, err)
	defer h.Close()

	key := redistest.UniqueKey(t, "secret-key-name")
	conn, err := rdb.Acquire(managed.WithLabel(t.Context(), "nightly report"))
	require.NoError(t, err)
	if err := conn.Get(t.Context(), key).Err(); !errors.Is(err, redis.Nil) {
		require.NoError(t, err)
	}
	body := get(h, "/?get=snapshot.json").Body.Bytes()
	require.NotContains(t, string(body), "secret-key-name")
	var snap dashboard.Snapshot
	require.NoError(t, json.Unmarshal(body, &snap))
	require.Len(t, snap.Leases, 1)
	require.Equal(t, "nightly report", snap.Leases[0].Label)
	require.Equal(t, "get", snap.Leases[0].Command)
	require.Equal(t, 1, snap.Stats.Leases)
	require.NotEmpty(t, snap.Connections)

	var stack struct{ Stack string }
	w := get(h, "/?get=stack&lease="+jsonOf(snap.Leases[0].ID))
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &stack))
	require.Contains(t, stack.Stack, "TestAManagedClientsLeaseIsShown")

	conn.Release()
	var after dashboard.Snapshot
	require.NoError(t, json.Unmarshal(get(h, "/snapshot.json").Body.Bytes(), &after))
	require.NotNil(t, after.Leases)
	require.Empty(t, after.Leases)
	require.Equal(t, http.StatusNotFound, get(h, "/?get=stack&lease="+jsonOf(snap.Leases[0].ID)).Code)

	w = ask(h, http.MethodPost, "http://localhost/?do=reset")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
}

func jsonOf(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}
