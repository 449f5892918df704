package conntrack

import (
	"context"
	"net"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// visited decides about the connection that a visit has reached.
func (c *Conn) visited(v *visit, n int) (int, error) {
	v.conn = c
	v.leave()
	switch v.kind {
	case visitBound:
		c.turn = v.turn
		c.change(fWrote|fOutstanding|fReadSet, fCanned)
		return n, nil
	case visitReady:
		if !c.unbind() {
			return 0, c.fail(OpWrite, net.ErrClosed)
		}
		c.scan.reset()
		c.scan.reauth = c.node.opt.StreamingCredentialsProvider != nil
		c.state.Store(0)
		c.change(fWrote|fOutstanding|fReadSet, fReady|fCanned)
		c.node.raw.Add(-1)
		c.endFirstHandshake(!v.apart)
		if c.sentinel() {
			return n, nil
		}
		if c.node.resolves {
			c.node.reached(c.addr)
		}
		c.node.lastDial.Store(nil)
		c.node.health.become(hooks.Healthy, nil)
		return n, nil
	case visitAbandon:
		c.closeFor(hooks.ReasonError, errAbandoned)
		_ = c.Close()
		return 0, refuse(hooks.ReasonError)
	case visitUndo:
		return c.undo(v, n)
	case visitAsk:
		return c.ask(v, v.why, n)
	}
	now := c.guard.at // a moment ago
	if c.guard.at = 0; now == 0 {
		now = c.node.t.now()
	}
	c.taken = now
	r := c.refusal(now)
	level, why := unpackOrder(c.order.Load())
	if r == "" && level == orderEvictIdle && v.kind == visitSweep {
		r = why
	}
	alive, pending := true, false
	// Unless go-redis's own check has just done it, or it is not needed, see justUsed.
	if !c.has(fChecked) && !(v.kind == visitAcquire && c.justUsed(now)) {
		alive, pending = c.peek()
	}
	if r == "" && !alive {
		r = hooks.ReasonError
	}
	if r != "" {
		c.closeFor(r, nil)
		return 0, refuse(r)
	}
	ping := pending || c.has(fPushSeen) || v.only == c || v.only == nil && (level == orderValidate || c.doubtful(now))
	if v.kind == visitAcquire && !ping {
		after := c.node.t.validateAfter.Load()
		ping = after >= 0 && now-c.lastUsed.Load() >= after
	}
	if !ping {
		c.change(fWrote|fOutstanding|fReadSet, fCanned)
		return n, nil
	}
	switch {
	case level == orderValidate && v.only == nil:
	case v.only == c || c.doubtful(now):
		why = hooks.ReasonSuspected
	default:
		why = hooks.ReasonHeartbeat
	}
	if v.kind == visitAcquire && !pending && !c.has(fPushSeen) { // otherwise it must not be answered here
		v.why = why
		c.change(fWrote|fOutstanding|fReadSet, fCanned)
		return n, nil
	}
	return c.ask(v, why, n)
}

// ask sends a real PING.
func (c *Conn) ask(v *visit, why hooks.Reason, n int) (int, error) {
	v.pinged = true
	c.withdraw(orderValidate)
	c.preparePing(v.patience, why)
	if _, err := c.send(ping); err != nil {
		return 0, err
	}
	return n, nil
}

// undo sends the command that ends an open transaction or watches.
func (c *Conn) undo(v *visit, n int) (int, error) {
	cmd := unwatch
	if c.scan.state&command.InMulti != 0 {
		cmd = discard // ends the watches too
	}
	v.pinged = true
	c.preparePing(0, hooks.ReasonError)
	if _, err := c.send(cmd); err != nil {
		return 0, err
	}
	c.scan.state &^= command.InMulti | command.Watching
	c.state.Store(uint32(c.scan.state))
	return n, nil
}

var (
	discard = []byte("*1\r\n$7\r\nDISCARD\r\n")
	unwatch = []byte("*1\r\n$7\r\nUNWATCH\r\n")
)

// Undo ends the transaction or the watches that were left on c, which conn
// holds: one round trip of at most Config.ValidateTimeout. After an error the
// connection must be ended.
func Undo(conn *redis.Conn, c *Conn) error {
	v := newVisit(visitUndo)
	defer v.done()
	if err := conn.Process(context.Background(), v.cmd); err != nil {
		return err
	}
	if v.conn != c || v.cmd.Val() != "OK" {
		return errUnrecognised
	}
	return nil
}

// Discard makes go-redis remove the connection c when conn, which holds it, is closed. No network
// traffic.
func Discard(conn *redis.Conn, c *Conn, r hooks.Reason) {
	c.Evict(r)
	v := newVisit(visitEnd)
	defer v.done()
	_ = conn.Process(context.Background(), v.cmd)
}
