package conntrack

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/lifeguard-redis/lifeguard/hooks"
)

// fullServer is the part of a node's health record that is known while a server refuses connections
// because of its maxclients: one dial at a time tries, the others get the server's last reply, so that
// callers who retry do not add load to such a server. Guarded by the record's lock.
type fullServer struct {
	addr  string
	reply []byte        // the server's last reply, nil if it refuses for another reason
	next  time.Duration // no dial before, on the tracker's clock
	pause time.Duration // between two dials
}

const (
	refusedFirst = 10 * time.Millisecond // doubled up to refusedLast
	refusedLast  = 250 * time.Millisecond
)

// refuses records the first reply on c if the server accepts no new connections.
func (c *Conn) refuses(b []byte) {
	if !isFull(b) {
		return
	}
	h := &c.node.health
	h.become(hooks.Refusing, refused(b[1:]))
	if c.sentinel() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !isMaxClients(b) || h.state() == hooks.Healthy:
		h.full = fullServer{}
		return
	case h.full.reply == nil || h.full.addr != c.addr:
		h.full = fullServer{addr: c.addr, pause: refusedFirst, next: time.Duration(c.node.t.now()) + refusedFirst}
	}
	h.full.reply = bytes.Clone(b)
}

// mayDial returns a maxClientsError for a dial that must not be tried now.
func (h *health) mayDial(addr string) error {
	if h.state() == hooks.Healthy {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	f := &h.full
	if f.reply == nil || f.addr != addr {
		return nil
	}
	if now := time.Duration(h.n.t.now()); now >= f.next {
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
