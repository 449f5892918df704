package dashboard_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/dashboard"
	"github.com/lifeguard-redis/lifeguard/monitor/internal/monitortest"
)

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

// source lists connections and leases, and ends them, as well.
type source struct {
	monitortest.Source
	conns  func() []monitor.Connection
	leases func() []monitor.Lease
	done   []string
}

func (s *source) Connections() []monitor.Connection {
	if s.conns == nil {
		return nil
	}
	return s.conns()
}

func (s *source) Leases() []monitor.Lease {
	if s.leases == nil {
		return nil
	}
	return s.leases()
}

func (s *source) EvictIdle(context.Context) int { s.done = append(s.done, "evict"); return 3 }
func (s *source) Reset(context.Context) int     { s.done = append(s.done, "reset"); return 5 }

func newPage(t testing.TB, src monitor.Source, opts ...dashboard.Option) *dashboard.Handler {
	t.Helper()
	m, err := monitor.New(src)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	h, err := dashboard.New(m, opts...)
	require.NoError(t, err)
	t.Cleanup(h.Close)
	return h
}

// get asks the page for something.
func get(h http.Handler, url string, header ...string) *httptest.ResponseRecorder {
	return ask(h, http.MethodGet, url, header...)
}

func ask(h http.Handler, method, url string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, url, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// viewer is somebody who looks at the stream.
type viewer struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	head  http.Header
	code  int
	leave context.CancelFunc
	gone  chan struct{}
}

func look(h http.Handler, query string, header ...string) *viewer {
	ctx, cancel := context.WithCancel(context.Background())
	v := &viewer{head: http.Header{}, leave: cancel, gone: make(chan struct{})}
	r := httptest.NewRequest(http.MethodGet, "/?get=stream"+query, nil).WithContext(ctx)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	go func() {
		defer close(v.gone)
		h.ServeHTTP(v, r)
	}()
	return v
}

func (v *viewer) Header() http.Header { return v.head }
func (v *viewer) Flush()              {}

func (v *viewer) WriteHeader(code int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.code = code
}

func (v *viewer) Write(b []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.buf.Write(b)
}

func (v *viewer) text() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.buf.String()
}

func (v *viewer) status() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.code
}

// events are the data of all events of a name so far.
func (v *viewer) events(name string) (data []string) {
	for block := range strings.SplitSeq(v.text(), "\n\n") {
		_, after, ok := strings.Cut(block, "event: "+name+"\ndata: ")
		if ok {
			data = append(data, after)
		}
	}
	return data
}

// point is the latest point, by names of values; nil is what is not known.
func (v *viewer) point(t testing.TB, node string) map[string]any {
	t.Helper()
	var hello struct{ Names []string }
	require.NoError(t, json.Unmarshal([]byte(v.events("hello")[0]), &hello))
	all := v.events("point")
	var p struct {
		All   []any
		Nodes map[string][]any
	}
	require.NoError(t, json.Unmarshal([]byte(all[len(all)-1]), &p))
	values := p.All
	if node != "" {
		values = p.Nodes[node]
	}
	require.Len(t, values, len(hello.Names))
	out := map[string]any{}
	for i, n := range hello.Names {
		out[n] = values[i]
	}
	return out
}
