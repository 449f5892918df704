package monitor

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/delivery"
)

const (
	// slowCallback is how long a callback may take before it is reported.
	slowCallback = 5 * time.Second
	// maxPendingStats and maxPendingAlerts are how many values wait for a callback at most; beyond
	// them the oldest are dropped.
	maxPendingStats  = 4
	maxPendingAlerts = 256
)

// callback is a function of a user, and what was reported of it.
type callback[T any] struct {
	delivery.Queue[T]
	what string // "OnStats"
	log  *slog.Logger

	slow, panicked atomic.Bool // reported
}

func newCallback[T any](fn func(T), what string, limit int, log *slog.Logger) *callback[T] {
	c := &callback[T]{what: what, log: log}
	c.Call, c.Limit, c.Panicked = fn, limit, c.panics
	return c
}

// panics reports, once, that the function panicked.
func (c *callback[T]) panics(_ T, with any, stack string) {
	if c.panicked.CompareAndSwap(false, true) {
		c.log.Error("lifeguard: a callback of the monitor panicked; this is reported once", "callback", c.what, "panic", with, "stack", stack)
	}
}

// check reports, once, a call that takes too long.
func (c *callback[T]) check(now time.Time) {
	if began := c.Running(); !began.IsZero() && now.Sub(began) >= slowCallback && c.slow.CompareAndSwap(false, true) {
		c.log.Warn("lifeguard: a callback of the monitor blocks, so it misses what it is too slow for; this is reported once",
			"callback", c.what, "since", began)
	}
}

// callbacks is a list of callbacks.
type callbacks[T any] struct {
	mu     sync.Mutex
	list   []*callback[T]
	closed bool
}

func (cs *callbacks[T]) add(c *callback[T]) (remove func()) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		return func() {}
	}
	// A new slice each time: put iterates over the old one without the lock.
	cs.list = append(cs.list[:len(cs.list):len(cs.list)], c)
	return func() {
		c.Close()
		cs.mu.Lock()
		defer cs.mu.Unlock()
		for i, x := range cs.list {
			if x == c {
				cs.list = append(cs.list[:i:i], cs.list[i+1:]...)
				return
			}
		}
	}
}

func (cs *callbacks[T]) all() []*callback[T] {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.list
}

func (cs *callbacks[T]) close() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range cs.list {
		c.Close()
	}
	cs.list, cs.closed = nil, true
}
