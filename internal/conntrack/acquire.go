package conntrack

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// Acquire takes a connection out of the main pool for conn, a new Client.Conn(), with a visit: a
// real checkout, but without network traffic unless the connection has been idle for longer than
// SetValidateAfter says. holder, if not nil, is then called for every command on conn. If Acquire
// fails, it has closed conn, or will: when ctx ends during a handshake or a PING, these continue
// without the caller, so that a server which is only slow does not lose the connection.
func (n *Node) Acquire(ctx context.Context, conn *redis.Conn, holder Holder) (*Conn, error) {
	caller := originalCtx(ctx)
	if caller.Done() != nil && n.mayWait() {
		patient := context.WithoutCancel(caller)
		if caller != ctx {
			patient = NoWait(patient)
		}
		return n.leaving(caller, conn, func() (*Conn, error) {
			c, why, err := take(patient, conn, holder, false)
			if err == nil && why != "" {
				err = ask(conn, why)
			}
			return c, err
		})
	}
	c, why, err := take(ctx, conn, holder, caller.Done() != nil)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	if why != "" {
		return n.leaving(caller, conn, func() (*Conn, error) { return c, ask(conn, why) })
	}
	return c, nil
}

// mayWait reports whether the next checkout may have to dial first, or to send a PING at once, as
// on nodes that send push frames. While as many calls as the pool has room for are at that, others
// can only wait until one of them has ended; should such a call have to dial after all, its ctx
// ends the handshake.
func (n *Node) mayWait() bool {
	if n.pushes.Load() > 0 {
		return true
	}
	size := n.Client().Options().PoolSize
	if int(n.patient.Load()) >= size {
		return false
	}
	if n.raw.Load() > 0 || n.Health() != hooks.Healthy {
		return true
	}
	if int(n.leased.Load()) >= size {
		return false // the pool is full: each stays in it until its lease ends, even if it fails
	}
	now := n.Main()
	return now.Idle == 0 && now.Total < size
}

// take makes the visit; why is not empty if the connection has yet to answer a PING. bound: if it
// needs a handshake after all, as when every idle connection is found dead, ctx ends that.
func take(ctx context.Context, conn *redis.Conn, holder Holder, bound bool) (c *Conn, why hooks.Reason, err error) {
	v := newVisit(visitAcquire)
	defer v.done()
	v.holder, v.bound = holder, bound
	err = v.check(conn.Process(ctx, v.cmd))
	return v.conn, v.why, err
}

// ask sends a PING on conn.
func ask(conn *redis.Conn, why hooks.Reason) error {
	v := newVisit(visitAsk)
	defer v.done()
	v.why = why
	return v.check(conn.Process(context.Background(), v.cmd))
}

// leaving runs f, which uses conn, and leaves it behind when ctx ends; conn is closed
// after an error.
func (n *Node) leaving(ctx context.Context, conn *redis.Conn, f func() (*Conn, error)) (*Conn, error) {
	if ctx.Done() == nil {
		c, err := f()
		if err != nil {
			_ = conn.Close()
			return nil, err
		}
		return c, nil
	}
	type result struct {
		c   *Conn
		err error
	}
	done := make(chan result)
	n.pinned.Add(1)
	n.patient.Add(1)
	go func() {
		defer n.pinned.Add(-1)
		c, err := f()
		n.patient.Add(-1)
		select {
		case done <- result{c, err}:
		case <-ctx.Done():
			_ = conn.Close()
		}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			_ = conn.Close()
			return nil, r.err
		}
		return r.c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
