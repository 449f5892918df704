package upkeep

import "context"

// turn is a lock that is held over round trips: a waiter can give up, and blocks like one that
// waits for the network. It has room for one.
type turn chan struct{}

// take waits for the turn; it reports false if ctx ended first.
func (t turn) take(ctx context.Context) bool {
	if t.try() {
		return true
	}
	select {
	case t <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// try takes the turn if it is free.
func (t turn) try() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

func (t turn) end() { <-t }
