package conntrack

import (
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// An order says what must happen to a connection that go-redis holds idle. It is stored per
// connection, so that no single sweep has to be complete. The checkout guard obeys orderEvict,
// visits obey all of them.

const (
	orderNone      uint32 = iota
	orderValidate         // visit: send a real PING
	orderEvictIdle        // visit: close; a caller that comes first may still use it
	orderEvict            // visit and guard: never use it again
)

var reasonCodes = []hooks.Reason{"", hooks.ReasonAge, hooks.ReasonIdle, hooks.ReasonHeartbeat, hooks.ReasonSuspected, hooks.ReasonReadOnly, hooks.ReasonSessionState,
	hooks.ReasonReset, hooks.ReasonError, hooks.ReasonLeak, hooks.ReasonShutdown, hooks.ReasonDiscarded, hooks.ReasonInterrupted, hooks.ReasonPool, hooks.ReasonUnacked}

func packOrder(level uint32, r hooks.Reason) uint32 {
	for i, x := range reasonCodes {
		if x == r {
			return level | uint32(i)<<8
		}
	}
	return level
}

func unpackOrder(o uint32) (level uint32, r hooks.Reason) { return o & 0xff, reasonCodes[o>>8] }

// give replaces an order with a stronger one.
func (c *Conn) give(level uint32, r hooks.Reason) {
	for {
		old := c.order.Load()
		if old&0xff >= level {
			return
		}
		if c.order.CompareAndSwap(old, packOrder(level, r)) {
			return
		}
	}
}

// withdraw cancels an order.
func (c *Conn) withdraw(level uint32) {
	if old := c.order.Load(); old&0xff == level {
		c.order.CompareAndSwap(old, orderNone)
	}
}

// Evict makes go-redis close the connection at its next checkout or visit, with
// reason r. Safe for concurrent use.
func (c *Conn) Evict(r hooks.Reason) { c.give(orderEvict, r) }

// Validate makes the next visit send a real PING; without a reply, the connection ends with
// ReasonHeartbeat. Safe for concurrent use.
func (c *Conn) Validate() { c.give(orderValidate, hooks.ReasonHeartbeat) }

// Suspect is Validate for a connection that may be dead: without a reply it ends with
// ReasonSuspected. Safe for concurrent use.
func (c *Conn) Suspect() { c.give(orderValidate, hooks.ReasonSuspected) }

// EvictIdle makes the next visit close the connection, with reason r; a caller that comes first may
// still use it. Safe for concurrent use.
func (c *Conn) EvictIdle(r hooks.Reason) { c.give(orderEvictIdle, r) }

// CancelOrder cancels Validate, Suspect and EvictIdle.
func (c *Conn) CancelOrder() {
	c.withdraw(orderValidate)
	c.withdraw(orderEvictIdle)
}

// CancelValidate cancels Validate.
func (c *Conn) CancelValidate() {
	c.order.CompareAndSwap(packOrder(orderValidate, hooks.ReasonHeartbeat), orderNone)
}

// Evicting reports whether the connection will be closed as soon as it is idle.
func (c *Conn) Evicting() bool {
	return c.closedFor.Load() != nil || c.order.Load()&0xff >= orderEvictIdle || c.state.Load() != 0 && !c.leased.Load()
}

// Due reports whether a visit has an order to carry out on the connection. A connection with
// session state is closed at the next checkout or visit, too, but a caller may be holding it.
func (c *Conn) Due() bool { return c.order.Load() != orderNone }

// Kill ends the connection although a command is in flight on it, which fails with cause. For
// connections that are known to be dead. Safe for concurrent use.
func (c *Conn) Kill(r hooks.Reason, cause error) {
	c.closeFor(r, cause)
	c.give(orderEvict, r)
	c.interrupt(cause)
}

// KillUnanswered is Kill unless something has arrived from the peer, read or not (as on a machine
// that is too busy), or something has been written since: then the connection is alive after all.
// It reports whether the connection was killed.
func (c *Conn) KillUnanswered(written time.Duration, r hooks.Reason, cause error) bool {
	if _, pending := c.peekWith(new(peeker)); pending || !c.has(fAwaiting) || c.lastUsed.Load() != int64(written) {
		return false
	}
	c.Kill(r, cause)
	return true
}

// refusal returns why the connection must not be used, "" if it may be.
func (c *Conn) refusal(now int64) hooks.Reason {
	if e := c.closedFor.Load(); e != nil {
		return e.reason
	}
	if level, r := unpackOrder(c.order.Load()); level == orderEvict {
		return r
	}
	if c.state.Load() != 0 && !c.leased.Load() {
		return hooks.ReasonSessionState
	}
	if c.tooOld(now) {
		return hooks.ReasonAge
	}
	return ""
}

// doubtful reports whether the connection must answer a PING before it is used: the clock has
// jumped since its last use, or it was idle for longer than the server allows.
func (c *Conn) doubtful(now int64) bool {
	used := c.lastUsed.Load()
	if used < c.node.t.unverified.Load() {
		return true
	}
	limit := c.node.serverTimeout.Load()
	return limit > 0 && now-used >= limit
}
