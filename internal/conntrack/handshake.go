package conntrack

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// firstHandshake lets the first handshake of a node finish before others begin. By default go-redis
// tries CLIENT MAINT_NOTIFICATIONS and records in its options if a server does not know it; two
// Conns that do so at once race, because each guards those options with a lock of its own
// (redis.go, initConn, v9.23.0). A clone has a copy of the options, and so its own first handshake.
// A transaction has a copy for itself alone: its handshakes wait for nobody and tell nothing to others.
// Those of maintenance's client wait, but tell nothing either.
type firstHandshake struct {
	done  atomic.Bool
	turn  chan struct{} // holds one token
	taken atomic.Int64  // when the token was taken, ns on the tracker's clock
}

// firstPatience is how long others wait for a first handshake. One may hang, or never end: if a hook
// of the user panics in it, go-redis does not close its connection.
const firstPatience = 5 * time.Second

func newFirstHandshake(opt *redis.Options) *firstHandshake {
	f := &firstHandshake{turn: make(chan struct{}, 1)}
	f.turn <- struct{}{}
	m := opt.MaintNotificationsConfig
	if opt.Protocol == 2 || m != nil && m.Mode == maintnotifications.ModeDisabled {
		f.done.Store(true)
	}
	return f
}

// enter is called before a handshake's first write, at now; it reports whether leave must be called
// at its end. It waits at most until the write deadline, when the write fails, or until the client is
// closed or the handshake's ctx ends, which is an error: several handshakes that go on beside each
// other would race.
func (f *firstHandshake) enter(now int64, closed, ended <-chan struct{}, deadline time.Time) (bool, error) {
	if f.done.Load() {
		return false, nil
	}
	patience := firstPatience
	if taken := f.taken.Load(); taken != 0 {
		patience -= time.Duration(now - taken)
	}
	if !deadline.IsZero() {
		patience = min(patience, time.Until(deadline))
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-f.turn:
		select {
		case <-closed: // the one that gave way may be about to record what it found
			f.turn <- struct{}{}
			return false, net.ErrClosed
		default:
		}
		if f.done.Load() {
			f.turn <- struct{}{}
			return false, nil
		}
		f.taken.Store(now)
		return true, nil
	case <-timer.C:
		return false, nil
	case <-closed:
		return false, net.ErrClosed
	case <-ended:
		return false, net.ErrClosed
	}
}

func (f *firstHandshake) leave(ok bool) {
	if ok {
		f.done.Store(true)
	}
	f.taken.Store(0)
	f.turn <- struct{}{}
}

// endFirstHandshake ends the connection's part in the first handshake, once.
func (c *Conn) endFirstHandshake(ok bool) {
	if ok && c.turn != nil && !c.turn.done.Load() {
		c.turn.done.Store(true) // even if another one is still running: it has been waited for long enough
	}
	if c.first.Load() && c.first.CompareAndSwap(true, false) {
		c.turn.leave(ok)
	}
}

// moving is in the notification that makes go-redis move a connection. A value that looks like it
// does no harm.
var moving = []byte("\r\nMOVING\r\n")

// moveTime is for how long go-redis may dial for moves: it tries three times, 15 s apart.
const moveTime = time.Minute

// isMove reports whether go-redis dials addr, or may do so, in order to move a connection of its
// pool. Such a dial has to fail with an error: go-redis tries it again, but after a handshake that
// fails it forgets the old connection without closing it.
func (n *Node) isMove(addr string) bool {
	if n.resolves {
		return false
	}
	at := n.movingAt.Load()
	return addr != n.addr || at != 0 && n.t.now()-at < int64(moveTime)
}

// movePatience bounds how long a checkout waits for a handshake.
const movePatience = time.Second

var errMoving = errors.New("lifeguard: its handshake, after a move to another server, took too long")

// awaitHandshake is called at a checkout in the middle of a handshake. When go-redis moves a
// connection of its pool to another server, it may give it to a caller between two commands of the
// handshake, who would use it in the wrong database, or unauthenticated, and read replies that are
// not his (TestContractGoRedisGivesACallerAConnectionThatItIsMoving). Here that caller waits. If
// that takes too long, the connection is closed.
func (c *Conn) awaitHandshake() {
	timer := time.NewTimer(movePatience)
	defer timer.Stop()
	select {
	case <-c.settled:
		return
	case <-timer.C:
	case <-c.node.gate.ctx.Done():
	}
	c.Kill(hooks.ReasonPool, errMoving)
}

// settle ends awaitHandshake's wait, for good.
func (c *Conn) settle() {
	if c.flags.Or(fSettled)&fSettled == 0 {
		close(c.settled)
	}
}
