package conntrack

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// entry is an event and its log line; either may be missing.
type entry struct {
	hooks.Event
	line  string
	level slog.Level
}

// eventQueue passes events to one handler, in order, on a goroutine that exists only while events
// are pending. put is called under go-redis's pool lock, so it only appends.
type eventQueue struct {
	handler func(hooks.Event)
	log     *slog.Logger

	mu      sync.Mutex
	pending []entry
	running bool
	dropped uint64
}

// maxPendingEvents bounds the memory that a handler which never returns can cost.
const maxPendingEvents = 1 << 16

func (q *eventQueue) put(e entry) {
	if q.handler == nil && e.line == "" {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending) >= maxPendingEvents {
		q.dropped++
		return
	}
	q.pending = append(q.pending, e)
	if !q.running {
		q.running = true
		go q.drain()
	}
}

func (q *eventQueue) drain() {
	for {
		q.mu.Lock()
		batch := q.pending
		q.pending = nil
		dropped := q.dropped
		q.dropped = 0
		if len(batch) == 0 {
			q.running = false
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		if dropped > 0 {
			q.log.Warn("lifeguard: event handler is too slow, events were dropped", "dropped", dropped)
		}
		for _, e := range batch {
			q.call(e)
		}
	}
}

func (q *eventQueue) call(e entry) {
	defer func() {
		if p := recover(); p != nil {
			q.log.Error("lifeguard: event handler panicked", "panic", p, "event", e.String(), "stack", string(debug.Stack()))
		}
	}()
	if e.line != "" {
		q.log.Log(context.Background(), e.level, e.line)
	}
	if q.handler != nil && e.Kind != 0 {
		q.handler(e.Event)
	}
}
