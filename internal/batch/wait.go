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
			b.failNext(err)
			continue
		}
		if n.HasIdle() {
			return
		}
		if n.HasRoom() {
			err := n.Connect()
			if _, evicted := conntrack.RefusedFor(err); err != nil && !evicted {
				b.failNext(err)
				continue
			}
			if n.HasIdle() {
				return
			}
		}
		if time.Since(x.began) >= limit {
			b.failNext(n.NoneFree(limit))
			continue
		}
		<-tick.C
	}
}

// next returns the batch that is sent next, nil if there is none.
func (b *batcher) next() *batch {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.full) > 0 {
		return b.full[0]
	}
	return b.open
}

// failNext ends the next batch with err.
func (b *batcher) failNext(err error) {
	b.mu.Lock()
	x := b.pop()
	b.mu.Unlock()
	if x != nil {
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
