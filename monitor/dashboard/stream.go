package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// heartbeat is the longest pause in a stream: proxies close idle connections.
	heartbeat = 15 * time.Second
	// writeWithin ends the stream of a viewer that does not read any more.
	writeWithin = 10 * time.Second
)

// hello is the first event of a stream.
type hello struct {
	Title   string          `json:"title"`
	EveryMS int64           `json:"every"`
	Period  int64           `json:"period"` // of the Monitor, in ms: that of alerts and peaks
	Names   []string        `json:"names"`  // of the values of a point
	Actions bool            `json:"actions"`
	Past    json.RawMessage `json:"past"`
	Marks   []mark          `json:"marks"`
}

// stream sends events until the viewer leaves: ?get=stream&want=leases,conns&since=ms.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		http.Error(w, "use GET for a stream", http.StatusMethodNotAllowed)
		return
	}
	v := &viewer{events: make(chan []byte, maxQueue)}
	q := r.URL.Query()
	for name := range strings.SplitSeq(q.Get("want"), ",") {
		for p, known := range partNames {
			v.wants[p] = v.wants[p] || name == known
		}
	}
	since := q.Get("since")
	if last := r.Header.Get("Last-Event-ID"); last != "" { // the browser has reconnected
		since = last
	}
	from, _ := strconv.ParseInt(since, 10, 64) // an invalid number requests everything

	past, marks, full, closed := h.hub.join(v, from)
	if full || closed {
		why := "the server is about to end"
		if full {
			why = "too many viewers already"
		}
		w.Header().Set("Retry-After", "10")
		http.Error(w, why, http.StatusServiceUnavailable)
		return
	}
	defer h.hub.leave(v)

	head := w.Header()
	head.Set("Content-Type", "text/event-stream")
	head.Set("Cache-Control", "no-store")
	head.Set("X-Accel-Buffering", "no") // nginx
	out := http.NewResponseController(w)
	if errors.Is(out.Flush(), errors.ErrUnsupported) {
		http.Error(w, "a middleware in front of the page keeps it from streaming: its ResponseWriter has neither Flush nor Unwrap", http.StatusInternalServerError)
		return
	}
	first := eventOf("hello", hello{Title: h.title, EveryMS: h.every.Milliseconds(), Period: h.m.Period().Milliseconds(),
		Names: valueNames[:], Actions: h.actions, Past: past, Marks: marks})
	if err := write(w, out, append([]byte("retry: 2000\n"), first...)); err != nil {
		return
	}
	h.forward(r.Context(), w, out, v)
}

func (h *Handler) forward(ctx context.Context, w http.ResponseWriter, out *http.ResponseController, v *viewer) {
	quiet := time.NewTimer(heartbeat)
	defer quiet.Stop()
	for {
		var data []byte
		select {
		case <-ctx.Done():
			return
		case <-h.hub.end:
			return
		case data = <-v.events:
		case <-quiet.C:
			data = []byte(": alive\n\n")
		}
		for len(data) < 1<<16 { // send what is already there with it
			select {
			case more := <-v.events:
				data = append(data[:len(data):len(data)], more...)
				continue
			default:
			}
			break
		}
		if write(w, out, data) != nil {
			return
		}
		quiet.Reset(heartbeat)
	}
}

// write sends data at once. If the deadline cannot be set, that of the server applies.
func write(w http.ResponseWriter, out *http.ResponseController, data []byte) error {
	_ = out.SetWriteDeadline(time.Now().Add(writeWithin))
	if _, err := w.Write(data); err != nil {
		return err
	}
	return out.Flush()
}
