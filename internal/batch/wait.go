package batch

import (
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

const connEvery = time.Millisecond // how often a worker checks whether a connection is free

// awaitConnection waits until a batch that is to be sent finds an idle connection. Until then its
// callers can still withdraw their commands, which is impossible once go-redis has them. If a batch
// would wait for an unreachable server, or for longer than PoolTimeout, it fails instead, unsent,
// and each caller continues by itself.
func (b *batcher) awaitConnection() {
	n := b.node
	if n.HasIdle() && n.Unreachable() == nil {
		return
	}
	tick := time.NewTicker(connEvery)
	defer tick.Stop()
	for limit := n.PoolTimeout(); ; {
		x := b.next()
		if x == nil || n.Closed() {
			return
		}
		if err := n.Unreachable(); err != nil {
			b.fail(x, err)
			continue
		}
		if n.HasIdle() {
			return
		}
		if n.HasRoom() {
			err := n.Connect()
			if _, evicted := conntrack.RefusedFor(err); err != nil && !evicted {
				b.fail(x, err)
				continue
			}
			if n.HasIdle() {
				return
			}
		}
		if time.Since(x.began) >= limit {
			if b.takeNext(x) {
				x.fail(n.NoneFree(limit, x.waiting))
			}
			continue
		}
		<-tick.C
	}
}

// next returns the batch that is sent next, nil if there is none.
func (b *batcher) next() *batch {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.first()
}

// first is next with the lock held.
func (b *batcher) first() *batch {
	if len(b.full) > 0 {
		return b.full[0]
	}
	return b.open
}

// takeNext takes x, if it is still the next batch: another goroutine may have taken it.
func (b *batcher) takeNext(x *batch) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.first() == x && b.pop() != nil
}

// fail ends x with err, if it is still the next batch.
func (b *batcher) fail(x *batch, err error) {
	if b.takeNext(x) {
		x.fail(err)
	}
}

// linger waits until a batch is full, or its delay is over.
func (b *batcher) linger() {
	t := time.NewTimer(b.set.Delay)
	defer t.Stop()
	select {
	case <-b.enough:
	case <-t.C:
	}
}
