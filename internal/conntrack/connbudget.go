package conntrack

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrConnLimit is the error of a connection that was not opened because the limit is reached.
var ErrConnLimit = errors.New("lifeguard: the limit of open connections is reached")

// seat takes a place in the connection limit, waiting for one. Waiters are served in order.
func (t *Tracker) seat(ctx context.Context) (leave func(), err error) {
	if t.budget == nil {
		return func() {}, nil
	}
	select {
	case t.budget <- struct{}{}:
		return unseat(t.budget), nil
	default:
	}
	t.waiting.Add(1)
	defer t.waiting.Add(-1)
	if t.asking.CompareAndSwap(false, true) {
		go t.askForRoom()
	}
	select {
	case t.budget <- struct{}{}:
		return unseat(t.budget), nil
	case <-ctx.Done():
		return nil, ErrConnLimit
	}
}

// askForRoom requests a place until nobody waits for one.
func (t *Tracker) askForRoom() {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if t.waiting.Load() == 0 {
			t.asking.Store(false)
			if t.waiting.Load() == 0 || !t.asking.CompareAndSwap(false, true) {
				return
			}
		}
		if f := t.onLimit.Load(); f != nil {
			(*f)()
		}
		<-tick.C
	}
}

// reservedSeat is seat for maintenance's requests on connections of its own. One place is reserved for
// it: otherwise, if a server left all connections without a reply, nobody could check whether it is
// alive.
func (t *Tracker) reservedSeat(ctx context.Context) (leave func(), err error) {
	if t.reserved == nil {
		return t.seat(ctx)
	}
	select {
	case t.reserved <- struct{}{}:
		return unseat(t.reserved), nil
	case <-ctx.Done():
		return nil, ErrConnLimit
	}
}

func unseat(places chan struct{}) func() { return sync.OnceFunc(func() { <-places }) }

// OnConnLimit sets the function that is called, repeatedly while that lasts, when a connection is
// wanted and the limit is reached. It must not block.
func (t *Tracker) OnConnLimit(f func()) { t.onLimit.Store(&f) }
