package conntrack

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/attempt"
)

// NoWait returns a ctx for Acquire that takes a free slot of the pool but never waits: if there is
// none, or if a connection would have to be dialed first (which then continues in the background),
// the error is ErrWouldWait.
func NoWait(ctx context.Context) context.Context { return &noWait{Context: ctx} }

// Gone reports whether the node's client has been closed. It uses no connection.
func (n *Node) Gone() bool {
	v := newVisit(visitSweep)
	defer v.done()
	ctx := &noWait{Context: context.Background()}
	ctx.asked.Store(true) // ends it before anything is taken
	return errors.Is(n.maint.Load().Process(ctx, v.cmd), redis.ErrClosed)
}

// Visit visits one idle connection of the main or the pipeline pool and carries out its orders; the
// reply to a real PING may take patience, 0 for Config.ValidateTimeout. It returns the connection
// that it reached (nil if none was free), and whether go-redis removed it.
func (n *Node) Visit(pool hooks.Pool, patience time.Duration) (met *Conn, removed bool, err error) {
	return n.visit(NoWait(context.Background()), pool, patience, nil)
}

// Connect dials a connection if a pipeline would find none that is idle, and waits for it. An error
// means that nothing was sent.
func (n *Node) Connect() error {
	_, _, err := n.visit(context.Background(), hooks.PoolPipeline, 0, nil)
	return early(err)
}

// Ask sends a PING on one connection of the main or the pipeline pool and waits at most patience
// for the reply; without one, go-redis removes the connection. It does nothing if the connection is
// in use. On connections reached before it, no order to validate is carried out.
func (n *Node) Ask(c *Conn, patience time.Duration) {
	pool, idle := c.View().Pool, n.Main
	if pool == hooks.PoolPipeline {
		idle = n.Pipeline
	}
	for left := 2 * idle().Idle; left > 0; left-- {
		if met, _, _ := n.visit(NoWait(context.Background()), pool, patience, c); met == nil || met == c {
			return
		}
	}
}

func (n *Node) visit(ctx context.Context, pool hooks.Pool, patience time.Duration, only *Conn) (met *Conn, removed bool, err error) {
	m := n.maint.Load()
	v := newVisit(visitSweep)
	defer v.done()
	v.patience, v.only = patience, only
	n.began.Add(1)
	defer n.over.Add(1)
	n.sweeping.Add(1)
	defer n.sweeping.Add(-1)
	if pool == hooks.PoolPipeline {
		p := m.Pipeline()
		_ = p.Process(ctx, v.cmd)
		_, err = p.Exec(ctx)
	} else {
		err = m.Process(ctx, v.cmd)
	}
	met, err = v.conn, attempt.Reveal(v.check(err))
	if met == nil {
		return nil, false, err
	}
	n.visits.Add(1)
	return met, err != nil, err
}
