package conntrack

import (
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/command"
)

// CountsOf is how Main and Pipeline count.
var CountsOf = counts

// VisitHead is how every visit begins.
func VisitHead() []byte { return visitHead }

// Sweep says that a sweep is on until end is called.
func (n *Node) Sweep() (end func()) {
	n.sweeping.Add(1)
	return func() { n.sweeping.Add(-1) }
}

// Scanner is the request scanner.
type Scanner struct{ s scanner }

// NewScanner returns one at the start of a stream.
func NewScanner() *Scanner { return &Scanner{} }

// Feed follows b.
func (s *Scanner) Feed(b []byte) { s.s.feed(b) }

// Last is the name of the last command.
func (s *Scanner) Last() string { return unpackName(s.s.last, s.s.more) }

// Wrote reports whether a command may have written.
func (s *Scanner) Wrote() bool { return s.s.wrote }

// Left is what is left on the connection, in words.
func (s *Scanner) Left() string {
	var words []string
	for _, x := range []struct {
		bit  command.SessionState
		word string
	}{{command.Untracked, "lost"}, {command.InMulti, "multi"}, {command.ForNext, "next"}, {command.Changed, "session"}, {command.PubSub, "subscribe"}, {command.Watching, "watch"}} {
		if s.s.state&x.bit != 0 {
			words = append(words, x.word)
		}
	}
	return strings.Join(words, " ")
}

// PushSeen reports whether the connection has ever delivered a push frame.
func (c *Conn) PushSeen() bool { return c.has(fPushSeen) }

// NewVisit is a visit as bytes, and the end of it.
func NewVisit() (b []byte, done func()) {
	v := newVisit(visitSweep)
	b = append([]byte(nil), visitHead[:len(visitHead)-secretLen]...)
	token, _ := v.MarshalBinary()
	b = append(append(b, token...), '\r', '\n')
	return b, v.done
}

// Canned reports whether nc is about to answer a visit.
func Canned(nc net.Conn) bool {
	switch c := nc.(type) {
	case checkedConn:
		return c.has(fCanned)
	case tlsConn:
		return c.has(fCanned)
	case *Conn:
		return c.has(fCanned)
	}
	return false
}

// Peek looks at the socket.
func (c *Conn) Peek() (alive, pending bool) { return c.peek() }

// ForgetFailures makes it a long time since a connection of the node failed.
func (n *Node) ForgetFailures() { n.health.failedAt.Store(n.t.now() - int64(time.Hour)) }

// Places is how many visits are on their way.
func Places() (n int) {
	for i := range places.at {
		if places.at[i].Load() != nil {
			n++
		}
	}
	return n
}

type FirstHandshake = firstHandshake

// NewFirstHandshake returns that of a node with default options.
func NewFirstHandshake() *FirstHandshake { return newFirstHandshake(&redis.Options{}) }

// Enter is enter for a client that nobody closes.
func (f *firstHandshake) Enter(now int64, by time.Time) (bool, error) {
	return f.enter(now, nil, nil, by)
}

// Leave is leave.
func (f *firstHandshake) Leave(ok bool) { f.leave(ok) }
