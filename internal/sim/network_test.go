//go:build unix

package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Network is all servers, the lines to them, and the connections.
type Network struct {
	ledger *Ledger
	trace  *Trace
	data   *data

	mu      sync.Mutex
	rnd     *rand.Rand
	servers []*Server
	links   []*Link
	slots   []int // in a cluster: the shard that owns each slot
	moving  map[int]bool
	changes []time.Duration // when its slots or masters changed
	down    time.Time       // the cluster says CLUSTERDOWN until then
}

// path is the line to one server, and what is wrong with it. Under Network.mu.
type path struct {
	latency   time.Duration
	perSecond int       // bytes, 0 for no limit
	flaky     int       // one in so many writes is cut, 0 for none
	noRoute   time.Time // dials hang until then
}

func (s *Server) line() (time.Duration, int) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	return s.path.latency, s.path.perSecond
}

func (n *Network) coin() bool { n.mu.Lock(); defer n.mu.Unlock(); return n.rnd.IntN(2) == 0 }

// fate says how much of a write gets through, and whether its link is cut then:
// before it, in the middle of it, or after it.
func (s *Server) fate(b []byte) (keep int, cut bool) {
	n := s.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if s.path.flaky == 0 || n.rnd.IntN(s.path.flaky) > 0 {
		return len(b), false
	}
	return []int{0, n.rnd.IntN(len(b)), len(b)}[n.rnd.IntN(3)], true
}

// doubtAll says that a client may doubt every connection: as far as it knows the process
// did not run for a while.
func (n *Network) doubtAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.servers {
		s.doubtful = true
	}
}

// each calls f with all links whose client's end is open, of one server or, for
// nil, of all.
func (n *Network) each(s *Server, f func(*Link)) {
	n.mu.Lock()
	var open []*Link
	for _, l := range n.links {
		if l.open && (s == nil || l.server == s) {
			open = append(open, l)
		}
	}
	n.mu.Unlock()
	for _, l := range open {
		f(l)
	}
}

func (n *Network) at(address string) *Server {
	for _, s := range n.servers {
		if s.addr == address {
			return s
		}
	}
	return nil
}

func (n *Network) link(number int) *Link {
	n.mu.Lock()
	defer n.mu.Unlock()
	if number < 1 || number > len(n.links) {
		return nil
	}
	return n.links[number-1]
}

// dialed makes a link to a server.
func (n *Network) dialed(s *Server) *Link {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &Link{server: s, n: len(n.links) + 1, up: newStream(), down: newStream(), writing: make(chan struct{}, 1), open: true}
	l.near = &Conn{link: l, in: l.down, out: l.up, client: true}
	l.far = &Conn{link: l, in: l.up, out: l.down}
	n.links = append(n.links, l)
	return l
}

// Dial is the Dialer of the clients.
func (n *Network) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: addr(address), Err: err}
	}
	s := n.at(address)
	if s == nil {
		return fail(syscall.EHOSTUNREACH)
	}
	n.mu.Lock()
	arrives := time.Now()
	if s.path.noRoute.After(arrives) {
		arrives = s.path.noRoute
	}
	arrives = arrives.Add(2 * s.path.latency)
	n.mu.Unlock()
	if s.sentinel == "" {
		wait(ctx.Done(), arrives)
	}
	if ctx.Err() != nil {
		return fail(ctx.Err())
	}
	if s.isDown() {
		return fail(syscall.ECONNREFUSED)
	}
	l := n.dialed(s)
	n.trace.add("", l.n, "dialed %s", address)
	go s.serve(l)
	return l.near, nil
}

// Ledger holds the truth about every request, by the token among its arguments.
type Ledger struct {
	mu    sync.Mutex
	of    map[string]*Entry
	trace *Trace
}

// Entry is the truth about one request.
type Entry struct {
	Writes int      // how often the client was told that a byte of it was written
	Runs   []string // the reply of each execution
}

const tokenStart = "u:{"

func (g *Ledger) entry(token string) *Entry {
	if g.of[token] == nil {
		g.of[token] = &Entry{}
	}
	return g.of[token]
}

// wrote notes the tokens, and the keys of WATCH, in a write of which, for all the
// client knows, a byte or more was written.
func (g *Ledger) wrote(p []byte, l *Link) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for rest := string(p); ; {
		at := strings.Index(rest, ":{")
		if at < 1 {
			return
		}
		token, after, whole := strings.Cut(rest[at:], "\r\n")
		if !whole {
			return
		}
		token = "u" + token
		g.entry(token).Writes++
		g.trace.add(token, l.n, "written")
		rest = after
	}
}

func (g *Ledger) ran(token string, l *Link, reply any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.entry(token)
	e.Runs = append(e.Runs, text(reply))
	g.trace.add(token, l.n, "executed (%d), reply %s", len(e.Runs), text(reply))
}

// text is a reply as it is compared.
func text(reply any) string {
	switch v := reply.(type) {
	case []byte:
		return string(v)
	case []any:
		var parts []string
		for _, e := range v {
			parts = append(parts, text(e))
		}
		return fmt.Sprint(parts)
	}
	return fmt.Sprint(reply)
}
