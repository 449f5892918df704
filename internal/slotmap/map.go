package slotmap

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

// Map is the slot map of one client. A nil *Map is that of a client without one, a ring for
// example: its methods do nothing. It is safe for concurrent use.
type Map struct {
	cluster *redis.ClusterClient
	ctx     context.Context // of the client
	closed  func() bool

	known atomic.Bool
	mu    sync.Mutex
	load  *load // under way

	moved atomic.Pointer[redirect]
}

type load struct {
	done chan struct{}
	err  error
}

// New makes the Map of a client. ctx ends when the client is closed, and closed reports whether it is.
func New(ctx context.Context, cluster *redis.ClusterClient, closed func() bool) *Map {
	return &Map{cluster: cluster, ctx: ctx, closed: closed}
}

// Await waits until the client has had a map, ctx ends, or the client is closed. One call loads it
// for all.
func (m *Map) Await(ctx context.Context) error {
	if m == nil || m.known.Load() {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	l := m.load
	if l == nil && !m.closed() {
		l = &load{done: make(chan struct{})}
		m.load = l
		go func() {
			err := m.cluster.ForEachMaster(m.ctx, func(context.Context, *redis.Client) error { return nil })
			m.mu.Lock()
			defer m.mu.Unlock()
			l.err, m.load = err, nil
			m.known.Store(err == nil)
			close(l.done)
		}()
	}
	m.mu.Unlock()
	if l == nil {
		return redis.ErrClosed
	}
	select {
	case <-l.done:
		if l.err != nil && m.closed() {
			return redis.ErrClosed
		}
		return l.err
	case <-ctx.Done():
		return &noMapError{ctx.Err()}
	case <-m.ctx.Done():
		return redis.ErrClosed
	}
}

// noMapError is the error of a command whose ctx ended before its node was known: it was not sent.
type noMapError struct{ err error }

var _ net.Error = (*noMapError)(nil)

func (e *noMapError) Error() string {
	return "lifeguard/managed: not sent, no server or Sentinel has given the map of the cluster yet: " + e.err.Error()
}
func (e *noMapError) Unwrap() error   { return e.err }
func (e *noMapError) Unsent() bool    { return true }
func (e *noMapError) Timeout() bool   { return errtext.IsTimeout(e.err) }
func (e *noMapError) Temporary() bool { return e.Timeout() }
