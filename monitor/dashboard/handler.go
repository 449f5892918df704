package dashboard

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strconv"

	"github.com/lifeguard-redis/lifeguard/monitor"
)

// Handler serves the page. It is safe for concurrent use.
type Handler struct {
	settings
	m    *monitor.Monitor
	page []byte
	hub  *hub
}

// New makes the page of a Monitor, and starts the Monitor, so that the page opens with recent
// history: it keeps the last 15 minutes, one point per period of the Monitor, in about 120 KiB.
// Nothing else runs while there is no viewer. A nil Monitor and invalid options are errors.
func New(m *monitor.Monitor, opts ...Option) (*Handler, error) {
	if m == nil {
		return nil, errors.New("lifeguard/dashboard: New: the Monitor is nil; give that of your client, or one of monitor.New")
	}
	h := &Handler{m: m, settings: settings{every: DefaultInterval, title: "Redis connections"}}
	for _, o := range opts {
		if o == nil {
			return nil, errors.New("lifeguard/dashboard: New: an option is nil")
		}
		if err := o(&h.settings); err != nil {
			return nil, err
		}
	}
	var err error
	if h.page, err = pageOf(&h.settings); err != nil {
		return nil, err
	}
	h.hub = newHub(m, &h.settings)
	return h, nil
}

// Close ends the streams of all viewers, stops recording, and waits for the sampling loop.
// http.Server.Shutdown waits for streams: pass Close to [http.Server.RegisterOnShutdown]. Requests
// other than streams are still served. Calls after the first do nothing.
func (h *Handler) Close() { h.hub.close() }

// ServeHTTP serves the page and all its requests.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	protect(w.Header())
	if !h.serves(r.Host) {
		http.Error(w, fmt.Sprintf("with actions allowed, this page is served by IP address and as localhost only, not as %q: "+
			"name the host with dashboard.WithAllowedHost", r.Host), http.StatusMisdirectedRequest)
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPost:
		h.act(w, r)
		return
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		http.Error(w, "only GET, HEAD and POST are known here", http.StatusMethodNotAllowed)
		return
	}
	what := r.URL.Query().Get("get")
	if what == "" && path.Base(r.URL.Path) == snapshotName {
		what = snapshotName
	}
	switch what {
	case "":
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(h.page)
	case snapshotName:
		sendJSON(w, http.StatusOK, h.snapshot())
	case "stream":
		h.stream(w, r)
	case "stack":
		h.stack(w, r)
	default:
		if a := assets()[what]; a != nil {
			a.serve(w, r)
			return
		}
		http.Error(w, "there is no such thing here", http.StatusNotFound)
	}
}

// protect restricts the page to its own origin, and forbids other pages to embed it.
func protect(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// stack returns where a lease was taken. Stacks are long, and the page shows one at a time, so the
// table does not contain them.
func (h *Handler) stack(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseUint(r.URL.Query().Get("lease"), 10, 64)
	if err != nil {
		http.Error(w, "lease: want the number of a lease", http.StatusBadRequest)
		return
	}
	leases, _, _ := leasesOf(h.m)
	i := slices.IndexFunc(leases, func(l monitor.Lease) bool { return l.ID == id })
	if i < 0 {
		http.Error(w, "this lease is not held any more", http.StatusNotFound)
		return
	}
	sendJSON(w, http.StatusOK, map[string]string{"stack": leases[i].Stack, "site": leases[i].Site})
}

// act closes connections.
func (h *Handler) act(w http.ResponseWriter, r *http.Request) {
	if !h.actions {
		http.Error(w, "actions are switched off: see dashboard.WithActions", http.StatusForbidden)
		return
	}
	if err := h.origins.Check(r); err != nil {
		http.Error(w, "not from the page itself: "+err.Error(), http.StatusForbidden)
		return
	}
	var n int
	var err error
	switch r.URL.Query().Get("do") {
	case "evict-idle":
		n, err = h.m.EvictIdle(r.Context())
	case "reset":
		n, err = h.m.Reset(r.Context())
	default:
		http.Error(w, "do: want evict-idle or reset", http.StatusBadRequest)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotImplemented)
		return
	}
	sendJSON(w, http.StatusOK, map[string]int{"closed": n})
}

func sendJSON(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "this cannot be written as JSON: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n'))
}
