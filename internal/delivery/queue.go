package delivery

import (
	"runtime/debug"
	"sync"
	"time"
)

// Queue passes values to a function, in order, one at a time, on a goroutine that exists only while
// values are pending: the function never delays anybody, whatever it does. Set the exported fields
// before the first Put; the other methods are safe for concurrent use.
type Queue[T any] struct {
	// Call gets the values. It may panic, and end its goroutine.
	Call func(T)
	// Limit is how many values may be pending, which bounds the memory that a Call which never
	// returns can cost. Beyond it the oldest are dropped: what is new matters more.
	Limit int
	// Dropped is called with the number of values that were dropped since its last call, before the
	// values that follow them. Nil: it is not called.
	Dropped func(n uint64)
	// Panicked is called when Call panics.
	Panicked func(v T, with any, stack string)

	mu      sync.Mutex
	pending []T
	dropped uint64
	running bool
	closed  bool
	began   time.Time // start of the running Call; zero: none is running
}

// Put queues v. It never waits for Call, and may be called under any lock that Call does not take.
func (q *Queue[T]) Put(v T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	if len(q.pending) >= q.Limit {
		q.pending = q.pending[1:]
		q.dropped++
	}
	q.pending = append(q.pending, v)
	if !q.running {
		q.running = true
		go q.drain()
	}
}

// Close drops pending values and makes later calls of Put do nothing. It does not wait for a running
// Call.
func (q *Queue[T]) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.pending, q.dropped = true, nil, 0
}

// Running returns when the running Call began; zero: none is running.
func (q *Queue[T]) Running() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.began
}

func (q *Queue[T]) drain() {
	returned := false
	defer func() {
		if !returned { // Call ended the goroutine (runtime.Goexit)
			go q.drain()
		}
	}()
	for {
		v, dropped, ok := q.next()
		if !ok {
			returned = true
			return
		}
		if dropped > 0 && q.Dropped != nil {
			q.Dropped(dropped)
		}
		q.call(v)
	}
}

func (q *Queue[T]) next() (v T, dropped uint64, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.began = time.Time{}
	if len(q.pending) == 0 {
		q.running, q.pending = false, nil
		return v, 0, false
	}
	dropped, q.dropped = q.dropped, 0
	v, q.pending = q.pending[0], q.pending[1:]
	q.began = time.Now()
	return v, dropped, true
}

func (q *Queue[T]) call(v T) {
	defer func() {
		if p := recover(); p != nil {
			q.Panicked(v, p, string(debug.Stack()))
		}
	}()
	q.Call(v)
}
