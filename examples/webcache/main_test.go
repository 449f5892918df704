package main

import (
	"bytes"
	"io"
	"net/http"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/examples/internal/extest"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

// numbers finds a row of the table.
func numbers(t *testing.T, table, row string) (wrong, right string) {
	t.Helper()
	m := regexp.MustCompile(regexp.QuoteMeta(row) + ` +(\S+) +(\S+)`).FindStringSubmatch(table)
	require.NotNil(t, m, "%q in:\n%s", row, table)
	return m[1], m[2]
}

func TestTheLoadTestShowsBothWays(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), nil, &out))
	t.Log("\n" + out.String())
	for row, want := range map[string]string{"requests": "1000", "failed": "0"} {
		wrong, right := numbers(t, out.String(), row)
		require.Equal(t, want, wrong, row)
		require.Equal(t, want, right, row)
	}
	wrong, right := numbers(t, out.String(), "connections opened to Redis")
	require.GreaterOrEqual(t, len(wrong), 4, "a connection for each request, at least: %s", wrong)
	require.LessOrEqual(t, len(right), 2, "one pool: %s", right)
}

func TestTheShopIsServedUntilCtrlC(t *testing.T) {
	s := redistest.Start(t) // a real one this time
	p := extest.Start(t, run, "-addr", s.Addr(), "-requests", "60", "-at", "5", "-http", "127.0.0.1:0")
	url := p.Find(`http://\S+`)
	browser := &http.Client{Transport: &http.Transport{}}
	defer browser.CloseIdleConnections()
	fetch := func(session *http.Cookie) (string, *http.Cookie) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		require.NoError(t, err)
		if session != nil {
			req.AddCookie(session)
		}
		resp, err := browser.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		for _, c := range resp.Cookies() {
			session = c
		}
		return string(body), session
	}
	body, session := fetch(nil)
	require.JSONEq(t, `{"product":{"id":1,"name":"product 1","cents":100},"cached":false,"visits":1}`, body)
	require.NotNil(t, session)
	body, _ = fetch(session)
	require.JSONEq(t, `{"product":{"id":1,"name":"product 1","cents":100},"cached":true,"visits":2}`, body)
	p.CtrlC()
	require.NoError(t, p.Wait())
}

func TestWithoutRedisTheShopStaysOpen(t *testing.T) {
	s := redistest.Start(t)
	c := newOneClient(s.Addr())
	defer c.close()
	app := &shop{cache: c, db: &database{}, prefix: "t:"}
	_, err := load(t.Context(), "with", app, 10, 2)
	require.NoError(t, err)
	before := app.db.reads.Load()
	s.Kill()
	r, err := load(t.Context(), "without", app, 2, 2)
	require.NoError(t, err)
	require.Zero(t, r.failed)
	require.Equal(t, before+2, app.db.reads.Load())
}
