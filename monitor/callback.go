package monitor

import (
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// slowCallback is how long a callback may take before it is reported.
	slowCallback = 5 * time.Second
	// maxPendingStats and maxPendingAlerts bound the memory that a callback which never returns
	// can cost; beyond them the oldest values are dropped.
	maxPendingStats  = 4
	maxPendingAlerts = 256
)

// callback passes values to a function, in order, on a goroutine that exists only while values are
// pending: the function never delays anybody, whatever it does.
type callback[T any] struct {
	fn    func(T)
	what  string // "OnStats"
	limit int
	log   *slog.Logger

	mu       sync.Mutex
	pending  []T
	running  bool
	removed  bool
	began    time.Time // start of the running call; zero: none is running
	slow     bool      // reported
	panicked bool      // reported
}

// put queues v for the function.
func (c *callback[T]) put(v T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return
	}
	if len(c.pending) >= c.limit {
		c.pending = c.pending[1:]
	}
	c.pending = append(c.pending, v)
	if !c.running {
		c.running = true
		go c.drain()
	}
}

// remove drops pending values and makes later calls of put do nothing.
func (c *callback[T]) remove() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removed, c.pending = true, nil
}

func (c *callback[T]) drain() {
	returned := false
	defer func() {
		if !returned { // the function ended the goroutine (runtime.Goexit)
			go c.drain()
		}
	}()
	for {
		c.mu.Lock()
		c.began = time.Time{}
		if len(c.pending) == 0 {
			c.running, c.pending, returned = false, nil, true
			c.mu.Unlock()
			return
		}
		v := c.pending[0]
		c.pending = c.pending[1:]
		c.began = time.Now()
		c.mu.Unlock()
		c.call(v)
	}
}

func (c *callback[T]) call(v T) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		c.mu.Lock()
		report := !c.panicked
		c.panicked = true
		c.mu.Unlock()
		if report {
			c.log.Error("lifeguard: a callback of the monitor panicked; this is reported once", "callback", c.what, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	c.fn(v)
}

// check reports, once, a call that takes too long.
func (c *callback[T]) check(now time.Time) {
	c.mu.Lock()
	report := !c.slow && !c.removed && !c.began.IsZero() && now.Sub(c.began) >= slowCallback
	if report {
		c.slow = true
	}
	began := c.began
	c.mu.Unlock()
	if report {
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
		c.remove()
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
		c.remove()
	}
	cs.list, cs.closed = nil, true
}
