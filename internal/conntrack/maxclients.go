package conntrack

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// maxClients remembers that the server refused a connection because of its maxclients. Until it accepts
// one again, one dial at a time tries; the others get the server's last reply, so that callers who
// retry do not add load to such a server.
type maxClients struct {
	is atomic.Bool

	mu    sync.Mutex
	addr  string
	reply []byte        // the server's last reply
	next  time.Duration // no dial before, on the tracker's clock
	pause time.Duration // between two dials
}

const (
	refusedFirst = 10 * time.Millisecond // doubled up to refusedLast
	refusedLast  = 250 * time.Millisecond
)

// refused records the reply of a server at addr that has reached its maxclients.
func (f *maxClients) refused(addr string, reply []byte, now time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.is.Load() || f.addr != addr {
		f.addr, f.pause, f.next = addr, refusedFirst, now+refusedFirst
	}
	f.reply = bytes.Clone(reply)
	f.is.Store(true)
}

// accepted records that the server accepted a connection.
func (f *maxClients) accepted() {
	if f.is.Load() {
		f.is.Store(false)
	}
}

// check returns a maxClientsError for a dial that must not be tried now.
func (f *maxClients) check(addr string, now time.Duration) error {
	if !f.is.Load() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.is.Load() || f.addr != addr {
		return nil
	}
	if now >= f.next {
		f.pause = min(2*f.pause, refusedLast)
		f.next = now + f.pause
		return nil
	}
	return &maxClientsError{addr, f.reply}
}

// maxClientsError is the error of a dial that was not tried because the server has reached its maxclients.
type maxClientsError struct {
	addr  string
	reply []byte
}

func (e *maxClientsError) Error() string {
	said, _, _ := strings.Cut(strings.TrimPrefix(string(e.reply), "-"), "\r\n")
	return fmt.Sprintf("lifeguard: redis %s refuses new connections: %s", e.addr, said)
}

func (e *maxClientsError) Unsent() bool { return true }

// refusedDial is what go-redis gets for a dial that ended with a maxClientsError: a connection that
// returns the server's last reply, and is then closed.
type refusedDial struct {
	*failedDial
	rest []byte
}

func (r *refusedDial) Write(b []byte) (int, error) {
	if len(b) == visitLen && visitIn(b) != nil { // that reply is for the command which follows
		r.rest = append(pong[:len(pong):len(pong)], r.rest...)
	}
	return len(b), nil
}

func (r *refusedDial) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// isMaxClients recognises the first reply of a server that has reached its maxclients.
func isMaxClients(b []byte) bool {
	return len(b) > 0 && b[0] == '-' && bytes.Contains(b, []byte("max number of clients"))
}

// refuses records the first reply on c if the server accepts no new connections.
func (c *Conn) refuses(b []byte) {
	if !isFull(b) {
		return
	}
	if isMaxClients(b) && !c.sentinel() {
		c.node.maxClients.refused(c.addr, b, time.Duration(c.node.t.now()))
	}
	c.node.health.become(hooks.Refusing, refused(b[1:]))
}
