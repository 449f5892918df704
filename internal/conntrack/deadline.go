package conntrack

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// go-redis sets a new deadline before each write and each reply, slightly later than the last one.
// Passing one on costs a clock reading and a change of a timer in the runtime, so one that is
// hardly later than the one in force is not passed on: that one then fires too early, by at most
// 1/1024 of the timeout and at most mostSlack.
const mostSlack = 3 * time.Millisecond

// Deadlines are kept in ns of the wall clock, as go-redis makes them.
const (
	never   = 0  // no deadline
	unknown = -1 // no deadline was asked for, or the one in force is unknown
)

// limit is the deadline of one direction that is in force on the connection below. It belongs to
// the side that reads or writes; it is atomic because a lease's watch may read it at the same time.
type limit struct {
	at    atomic.Int64 // a deadline, as above
	since atomic.Int64 // when it was passed on, ns on the tracker's clock
	slack atomic.Int64 // how much later a deadline may be without being passed on
}

func (l *limit) forget() { l.at.Store(unknown) }

// holds reports whether the deadline in force suffices for one at by; now is on the tracker's
// clock.
func (l *limit) holds(by, now int64) bool {
	at := l.at.Load()
	if at <= 0 || by <= 0 {
		return at == by
	}
	slack := l.slack.Load()
	return by >= at && by-at <= slack && now-l.since.Load() <= slack
}

// passed records that the deadline by was passed on.
func (l *limit) passed(by, now int64) {
	l.at.Store(by)
	if by > 0 {
		l.since.Store(now)
		l.slack.Store(int64(min(time.Until(timeOf(by))>>10, mostSlack)))
	}
}

func nanoOf(t time.Time) int64 {
	switch {
	case t.IsZero():
		return never
	case t.Unix() >= math.MaxInt64/int64(time.Second): // beyond the range of UnixNano
		return math.MaxInt64
	}
	return max(t.UnixNano(), 1)
}

func timeOf(by int64) time.Time {
	if by <= 0 {
		return time.Time{}
	}
	return time.Unix(0, by)
}

// SetDeadline implements net.Conn. With a zero time it is how go-redis's pool begins its check of a
// connection that it takes from its idle list (pinned by a contract test). It is passed on only
// when needed: the deadlines of the following command replace it.
func (c *Conn) SetDeadline(t time.Time) error {
	if t.IsZero() {
		if !c.has(fSettled) && c.out.Load() > 0 {
			c.awaitHandshake()
		}
		c.writeBy.Store(never)
		c.change(fWrote|fOutstanding|fReadSet|fAnswered|fAwaiting|fChecked, fCheckout|fReadStale)
		return nil
	}
	c.unset(fCheckout | fReadStale | fAnswered)
	c.writeBy.Store(unknown)
	c.writes.forget()
	c.reads.forget()
	return c.deadline(OpWrite, c.Conn.SetDeadline(t))
}

// SetWriteDeadline implements net.Conn; go-redis calls it before each command. The write itself
// passes it on: a visit needs none.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.writeBy.Store(nanoOf(t))
	c.unset(fWrote)
	return nil
}

// setWriteDeadline passes the write deadline on, when something is about to be written.
func (c *Conn) setWriteDeadline(now int64) error {
	by := c.writeBy.Load()
	if by == unknown || c.writes.holds(by, now) {
		return nil
	}
	c.writes.passed(by, now)
	return c.deadline(OpWrite, c.Conn.SetWriteDeadline(timeOf(by)))
}

// SetReadDeadline implements net.Conn; go-redis calls it before reading the replies of a command,
// and again only when it checks for push frames after them.
func (c *Conn) SetReadDeadline(t time.Time) error {
	fl := c.flags.Load()
	if fl&fPinging != 0 {
		t = c.pingDeadline()
	}
	switch {
	case fl&(fCanned|fOutstanding) == fCanned:
		return nil // nothing is read from below
	case fl&fOutstanding == 0:
		c.unset(fReadStale | fAnswered)
	case fl&fReadSet == 0:
		c.change(fReadStale|fAnswered, fReadSet)
		by, now := nanoOf(t), c.lastUsed.Load() // lastUsed: it was written a moment ago
		if c.reads.holds(by, now) {
			return nil
		}
		c.reads.passed(by, now)
		return c.deadline(OpRead, c.Conn.SetReadDeadline(t))
	case !t.IsZero() && time.Until(t) > pushDrainWait: // full duplex: the next group of replies
		c.unset(fReadStale | fAnswered)
	default:
		c.change(fReadStale|fAnswered|fOutstanding|fReadSet, 0)
	}
	c.reads.forget()
	return c.deadline(OpRead, c.Conn.SetReadDeadline(t))
}

// preparePing prepares a visit's real PING. It bounds the wait for the reply, also for clients whose
// ReadTimeout of -2 makes go-redis set no read deadline at all.
func (c *Conn) preparePing(patience time.Duration, why hooks.Reason) {
	c.patience.Store(int64(patience))
	c.pingReason.Store(packOrder(orderValidate, why))
	c.change(fReadStale, fPinging|fPingDeadline)
	c.reads.forget()
	_ = c.deadline(OpRead, c.Conn.SetReadDeadline(c.pingDeadline()))
}

func (c *Conn) pingDeadline() time.Time {
	patience := time.Duration(c.patience.Load())
	if patience <= 0 {
		patience = c.node.t.cfg.ValidateTimeout
	}
	return time.Now().Add(patience)
}

// deadline makes sure that a deadline set late does not undo an interruption. It fails on a
// connection that the other side of full duplex has already closed.
func (c *Conn) deadline(op string, err error) error {
	if c.has(fInterrupted) {
		_ = c.Conn.SetDeadline(past)
		return nil // the following write or read returns the reason
	}
	if err == nil {
		return nil
	}
	if c.has(fOutstanding) && (op == OpRead || c.has(fAwaiting)) {
		c.set(fWrote)
	}
	return c.fail(op, err)
}
