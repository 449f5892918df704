package conntrack

import (
	"context"
	"log/slog"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/delivery"
)

// entry is an event and its log line; either may be missing.
type entry struct {
	hooks.Event
	line  string
	level slog.Level
}

// maxPendingEvents bounds the memory that a handler which never returns can cost.
const maxPendingEvents = 1 << 16

// eventQueue passes events to one handler, and their lines to the log. put is called under
// go-redis's pool lock.
type eventQueue struct {
	handler func(hooks.Event)
	queue   delivery.Queue[entry]
}

func newEventQueue(handler func(hooks.Event), log *slog.Logger) *eventQueue {
	return &eventQueue{handler: handler, queue: delivery.Queue[entry]{
		Limit: maxPendingEvents,
		Call: func(e entry) {
			if e.line != "" {
				log.Log(context.Background(), e.level, e.line)
			}
			if handler != nil && e.Kind != 0 {
				handler(e.Event)
			}
		},
		Dropped: func(n uint64) {
			log.Warn("lifeguard: event handler is too slow, events were dropped", "dropped", n)
		},
		Panicked: func(e entry, with any, stack string) {
			log.Error("lifeguard: event handler panicked", "panic", with, "event", e.String(), "stack", stack)
		},
	}}
}

func (q *eventQueue) put(e entry) {
	if q.handler != nil || e.line != "" {
		q.queue.Put(e)
	}
}
