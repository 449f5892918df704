package redistest

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP proxy on loopback that makes connections fail. Safe for
// concurrent use; what is set holds from the next chunk of bytes on.
type Proxy struct {
	t      testing.TB
	target string
	ln     net.Listener
	wg     sync.WaitGroup

	mu        sync.Mutex
	links     map[*link]struct{}
	accepted  int
	closed    bool
	refuse    bool
	stalled   bool
	changed   chan struct{} // closed when stalled or a link's lost changes
	slice     int
	onRequest func(int, []byte) Action
	onReply   func(int, []byte) Action
}

// NewProxy starts a proxy for target, a host:port or the path of a Unix
// socket, and ends it with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatalf("redistest: proxy for %s: %v", target, err)
	}
	p := &Proxy{t: t, target: target, ln: ln, links: map[*link]struct{}{}, changed: make(chan struct{})}
	p.wg.Go(p.accept)
	t.Cleanup(p.Close)
	return p
}

// Addr returns the address at which the proxy listens.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Close ends the proxy and its connections, and waits for them.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.ln.Close()
	p.CutAll()
	ended := make(chan struct{})
	go func() { p.wg.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(3 * time.Second):
		p.t.Errorf("redistest: proxy for %s has not ended after 3 s: does a callback of OnRequest or OnReply block?", p.target)
	}
}

// Stall stops forwarding both ways, or lets it go on with everything that was
// held back. Connections stay open, and new ones are accepted and stalled too:
// a peer that sends nothing. A close is held back as well.
func (p *Proxy) Stall(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = on
	p.wakeLocked()
}

// StallExisting turns the present connections into black holes for good: the server keeps
// its end open even after the client has closed. New connections work.
func (p *Proxy) StallExisting() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.lost = true
	}
	p.wakeLocked()
}

// CutAll resets all connections (RST to both ends) and returns how many of them the client
// still had open.
func (p *Proxy) CutAll() int {
	p.mu.Lock()
	n := p.connsLocked()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	p.mu.Unlock()
	for _, l := range links {
		l.reset()
	}
	return n
}

// RefuseNew closes every new connection as soon as it is accepted, or stops
// doing so.
func (p *Proxy) RefuseNew(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = on
}

// Conns returns how many connections clients have open.
func (p *Proxy) Conns() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.connsLocked()
}

func (p *Proxy) connsLocked() int {
	n := 0
	for l := range p.links {
		if !l.clientGone {
			n++
		}
	}
	return n
}

// Accepted returns how many connections were accepted so far, without refused ones. The connN of the callbacks counts the same way, from 1.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// OnRequest lets f decide about each chunk from client to server before it is forwarded. A
// chunk is the result of one read: with go-redis one write of the
// client, if that is below 64 KiB and the client waits for its reply. f runs on
// the connection's goroutine, several at a time; nil forwards everything.
//
// After CutAfter the server executes the request, but perhaps only after the
// client has seen the cut. To have it executed for certain cut its reply
// (OnReply with CutBefore).
func (p *Proxy) OnRequest(f func(connN int, b []byte) Action) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onRequest = f
}

// OnReply lets f decide about each chunk from server to client, like OnRequest.
func (p *Proxy) OnReply(f func(connN int, b []byte) Action) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onReply = f
}

// ReplySlices sends replies to the client in pieces of n bytes, with a short
// pause after each; 0 sends them whole.
func (p *Proxy) ReplySlices(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slice = n
}

func (p *Proxy) wakeLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return // closed
		}
		p.mu.Lock()
		if p.closed || p.refuse {
			p.mu.Unlock()
			c.Close()
			continue
		}
		p.accepted++
		l := &link{p: p, n: p.accepted, client: c.(*net.TCPConn), done: make(chan struct{})}
		p.links[l] = struct{}{}
		p.wg.Go(l.run)
		p.mu.Unlock()
	}
}

func (p *Proxy) dial() (duplex, error) {
	network := "tcp"
	if strings.HasPrefix(p.target, "/") {
		network = "unix"
	}
	c, err := net.DialTimeout(network, p.target, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return c.(duplex), nil
}

// duplex is what a TCP and a Unix connection have in common.
type duplex interface {
	net.Conn
	CloseWrite() error
}
