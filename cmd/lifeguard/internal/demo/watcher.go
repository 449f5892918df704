package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// watcher counts the events of a client and keeps those that phases wait for.
type watcher struct {
	mu     sync.Mutex
	news   chan struct{} // closed and replaced at every event that is kept
	kept   []hooks.Event
	dialed int
	ended  map[hooks.Reason]int
}

func newWatcher() *watcher {
	return &watcher{news: make(chan struct{}), ended: make(map[hooks.Reason]int)}
}

func (w *watcher) event(e hooks.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e.Kind {
	case hooks.Dialed:
		w.dialed++
		return
	case hooks.Closed:
		w.ended[e.Reason]++
	case hooks.Leaked, hooks.Reclaimed:
	default:
		return
	}
	w.kept = append(w.kept, e)
	if len(w.kept) > 1000 {
		w.kept = w.kept[500:]
	}
	close(w.news)
	w.news = make(chan struct{})
}

// await waits for an event about the lease with a label.
func (w *watcher) await(ctx context.Context, kind hooks.EventKind, label string, d time.Duration) (hooks.Event, error) {
	e, ok := w.find(ctx, d, func(e hooks.Event) bool { return e.Kind == kind && e.Label == label })
	if !ok {
		return e, fmt.Errorf("%q was not reported as %v within %v", label, kind, d)
	}
	return e, nil
}

// closed waits for the end of a connection.
func (w *watcher) closed(ctx context.Context, id uint64, d time.Duration) (hooks.Event, error) {
	e, ok := w.find(ctx, d, func(e hooks.Event) bool { return e.Kind == hooks.Closed && e.ConnID == id })
	if !ok {
		return e, fmt.Errorf("connection %d was not closed within %v", id, d)
	}
	return e, nil
}

func (w *watcher) find(ctx context.Context, d time.Duration, is func(hooks.Event) bool) (hooks.Event, bool) {
	late := time.NewTimer(d)
	defer late.Stop()
	for {
		w.mu.Lock()
		news := w.news
		for _, e := range w.kept {
			if is(e) {
				w.mu.Unlock()
				return e, true
			}
		}
		w.mu.Unlock()
		select {
		case <-news:
		case <-late.C:
			return hooks.Event{}, false
		case <-ctx.Done():
			return hooks.Event{}, false
		}
	}
}

// counts returns how many connections were opened, and how many were closed for each reason.
func (w *watcher) counts() (dialed int, ended map[hooks.Reason]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ended = make(map[hooks.Reason]int, len(w.ended))
	for r, n := range w.ended {
		ended[r] = n
	}
	return w.dialed, ended
}
