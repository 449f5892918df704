package managed

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// slotMap makes clients wait for the first map of their cluster with their ctx. go-redis loads it
// without regard for the ctx of the call that needs it: if servers or Sentinels do not reply, that
// takes many seconds. One call loads it for all.
type slotMap struct {
	known atomic.Bool
	mu    sync.Mutex
	load  *mapLoad // under way
}

type mapLoad struct {
	done chan struct{}
	err  error
}

// awaitMap waits until the client has had a map, ctx ends, or the client is closed.
func (m *many) awaitMap(ctx context.Context) error {
	cluster, ok := m.client.(*redis.ClusterClient)
	if !ok || m.slots.known.Load() {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s := &m.slots
	s.mu.Lock()
	l := s.load
	if l == nil && !m.core.closed.Load() {
		l = &mapLoad{done: make(chan struct{})}
		s.load = l
		go func() {
			err := cluster.ForEachMaster(m.core.ctx, func(context.Context, *redis.Client) error { return nil })
			s.mu.Lock()
			defer s.mu.Unlock()
			l.err, s.load = err, nil
			s.known.Store(err == nil)
			close(l.done)
		}()
	}
	s.mu.Unlock()
	if l == nil {
		return redis.ErrClosed
	}
	select {
	case <-l.done:
		if l.err != nil && m.core.closed.Load() {
			return redis.ErrClosed
		}
		return l.err
	case <-ctx.Done():
		return &noMapError{ctx.Err()}
	case <-m.core.ctx.Done():
		return redis.ErrClosed
	}
}

// noMapError is the error of a command whose ctx ended before its node was known: it was not sent.
type noMapError struct{ err error }

func (e *noMapError) Error() string {
	return "lifeguard/managed: not sent, no server or Sentinel has given the map of the cluster yet: " + e.err.Error()
}
func (e *noMapError) Unwrap() error { return e.err }
func (e *noMapError) Unsent() bool  { return true }
