package conntrack

import (
	"net"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// Write sends a request, or replies to a visit. Implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	if c.has(slowWrite) {
		if err := c.beforeWrite(b); err != nil {
			return 0, err
		}
	}
	if len(b) == visitLen {
		if v := visitIn(b); v != nil {
			return c.visited(v, len(b))
		}
	}
	if c.has(fReady) {
		c.follow(b)
	} else if c.out.Load() == 0 && c.turn != nil {
		first, err := c.turn.enter(c.node.t.now(), c.node.gate.ctx.Done(), c.boundTo(), timeOf(c.writeBy.Load()))
		if err != nil {
			return 0, c.fail(OpWrite, err)
		}
		if c.first.Store(first); first && c.closed.Load() {
			c.endFirstHandshake(false) // closed meanwhile
		}
	}
	return c.send(b)
}

// send writes to the network.
func (c *Conn) send(b []byte) (int, error) {
	now := c.node.t.now()
	c.lastUsed.Store(now)
	if err := c.setWriteDeadline(now); err != nil {
		return 0, err
	}
	if c.node.notifyOfUse.Load() && c.node.notifyOfUse.CompareAndSwap(true, false) {
		c.node.upkeep.Load().Used()
	}
	before := c.change(fReadSet|fChecked, fWrote|fOutstanding|fAwaiting|fWriting)
	n, err := c.Conn.Write(b)
	c.out.Add(uint64(n))
	if c.flags.And(^(fWriting|fLongWrite))&fLongWrite != 0 {
		c.lastUsed.Store(c.node.t.now()) // the wait for a reply begins here
	}
	if err != nil {
		// In full duplex go-redis would repeat what it wrote before, too. What a reply
		// has come for is over.
		if n == 0 && before&fWrote == 0 && before&(fOutstanding|fAwaiting) != fOutstanding|fAwaiting {
			c.unset(fWrote | fOutstanding)
		}
		return n, c.fail(OpWrite, err)
	}
	return n, nil
}

// follow parses the commands written.
func (c *Conn) follow(b []byte) {
	s := &c.scan
	before := s.begun
	s.feed(b)
	if s.begun-before > 1 || s.lost || c.has(fAwaiting) {
		if !c.has(fMany) {
			c.set(fMany)
		}
	} else {
		c.unset(fMany)
	}
	if s.wrote && c.node.writes.Load() == noWrite {
		c.node.writes.CompareAndSwap(noWrite, writeSent)
	}
	c.name[0].Store(s.last)
	if s.more != 0 || c.name[1].Load() != 0 {
		c.name[1].Store(s.more)
	}
	if uint32(s.state) != c.state.Load() {
		c.state.Store(uint32(s.state))
	}
}

// beforeWrite handles the rare states; an error means that nothing was written.
func (c *Conn) beforeWrite(b []byte) error {
	fl := c.flags.Load()
	if fl&fInterrupted != 0 {
		return c.fail(OpWrite, net.ErrClosed)
	}
	if fl&fCanned != 0 { // a reply that nobody read: replies would shift by one
		c.closeFor(hooks.ReasonError, errDesync)
		return refuse(hooks.ReasonError)
	}
	c.unset(fCheckout | fAnswered | fUnchecked)
	if fl&(fCheckout|fUnchecked) != 0 && !(len(b) == visitLen && visitIn(b) != nil) {
		// The guard had no chance to refuse it (client-side cache over TLS, or a sweep in
		// progress): refuse it now, before anything is sent.
		now := c.node.t.now()
		r := c.refusal(now)
		if r == "" && c.doubtful(now) {
			r = hooks.ReasonSuspected
		}
		if r != "" {
			c.closeFor(r, nil)
			return refuse(r)
		}
		if alive, _ := c.peek(); !alive {
			c.closeFor(hooks.ReasonError, nil)
			return refuse(hooks.ReasonError)
		}
	}
	if fl&fPingDeadline != 0 {
		c.change(fPingDeadline, fReadStale)
	}
	return nil
}
