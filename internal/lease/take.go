package lease

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

// Take gets a connection of rdb for the lease. It waits for a slot, and for an unreachable node, as
// commands do; without a deadline no longer than for a slot.
func (l *Lease) Take(ctx context.Context, rdb *redis.Client) error {
	var limit context.Context
	var refused *conntrack.GateError
	for {
		err := l.take(ctx, rdb)
		gate := gateError(err)
		if err == nil {
			return nil
		}
		if refused != nil && refused.Away("") && (errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, ctx.Err())) {
			return l.pool.Node.DialError(refused) // it was waiting for a connection to become free
		}
		if gate == nil || ctx.Err() != nil {
			return err
		}
		refused = gate
		if limit == nil {
			var cancel context.CancelFunc
			limit, cancel = context.WithTimeout(ctx, rdb.Options().PoolTimeout)
			defer cancel()
		}
		if gate.Wait(limit, 0) != nil || l.pool.Client.Closed() {
			return err
		}
	}
}

func gateError(err error) *conntrack.GateError {
	if err == nil {
		return nil // the common case, without the allocation for errors.As
	}
	var gate *conntrack.GateError
	if !errors.As(err, &gate) {
		return nil
	}
	return gate
}

// take gets a connection for l, waiting for a slot. A connection that turns out to be bad is
// replaced by the next one: nothing of the caller's was sent. Those that were evicted do not
// count as tries, so a pool full of them is not a failure.
func (l *Lease) take(ctx context.Context, rdb *redis.Client) error {
	n := l.pool.Node
	const tries = 8 // as for the retries of commands
	for failed, evicted := 1, 0; ; {
		conn, plain := n.Conn(rdb)
		tracked, err := n.Acquire(ctx, conn, l)
		if err == nil {
			l.Conn, l.Tracked, l.plain = conn, tracked, plain
			return nil
		}
		err = attempt.Reveal(err)
		if ctx.Err() != nil || !replaceable(err) {
			return err
		}
		if _, refused := conntrack.RefusedFor(err); refused && evicted < rdb.Options().PoolSize {
			evicted++
			continue
		}
		if failed == tries {
			return err
		}
		if !attempt.Pause(ctx, rand.N(time.Millisecond<<min(failed, 5))) {
			return ctx.Err()
		}
		failed++
	}
}

// replaceable reports whether an Acquire failed because of the connection it got, so that the next
// one may be good. A new connection that times out is not replaceable: the next one would time out,
// too.
func replaceable(err error) bool {
	if _, refused := conntrack.RefusedFor(err); refused {
		return true
	}
	var ce *hooks.ConnError
	if !errors.As(err, &ce) || ce.Op == conntrack.OpDial {
		return false
	}
	var ne net.Error
	return !ce.Handshake || !ce.Self && !(errors.As(ce.Err, &ne) && ne.Timeout())
}

// TakeNow is Take without ever waiting for a slot. Where there is room but no idle connection,
// go-redis dials one in the background
// (TestContractACtxWithoutDoneOnceTakesAFreeSlotAndNeverWaits); TakeNow waits for that dial only.
func (l *Lease) TakeNow(ctx context.Context, rdb *redis.Client) error {
	n := l.pool.Node
	const interval = 200 * time.Microsecond
	if err := ctx.Err(); err != nil { // NoWait does not check it
		return err
	}
	var timer *time.Timer
	for {
		_, before := n.Dials()
		err := l.take(conntrack.NoWait(ctx), rdb)
		if !errors.Is(err, conntrack.ErrWouldWait) {
			return err
		}
		for first := true; first || n.Dialing() > 0 && n.Main().Idle == 0; first = false {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if _, failed := n.Dials(); failed > before {
				if f := n.LastDialFailure(); f != nil {
					return n.DialError(f.Err)
				}
			}
			if err := n.Unreachable(); err != nil { // no dial is tried
				return n.DialError(err)
			}
			if n.Dialing() == 0 && n.Exhausted(rdb.Options().PoolSize) {
				return conntrack.ErrWouldWait
			}
			if timer == nil {
				timer = time.NewTimer(interval)
				defer timer.Stop()
			} else {
				timer.Reset(interval)
			}
			select {
			case <-ctx.Done():
			case <-timer.C:
			}
		}
	}
}
