package demo

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// proxy runs between clients and the server, on loopback, and can cut the connections that pass
// through it, so that no other connections suffer.
type proxy struct {
	lose     func() bool // whether a request or a reply is lost, and its connection; nil: none is
	upstream func(context.Context) (net.Conn, error)
	ln       net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	closed bool
	links  map[*link]struct{}
}

// link is one connection through a proxy.
type link struct {
	down, up net.Conn
	once     sync.Once
	last     atomic.Int64 // when something passed, in Unix nanoseconds
	gone     bool         // counted by cutSilent
}

// cut ends both sides at once, with a reset towards the client.
func (l *link) cut() {
	l.once.Do(func() {
		if t, ok := l.down.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		_ = l.down.Close()
		_ = l.up.Close()
	})
}

func startProxy(upstream func(context.Context) (net.Conn, error), lose func() bool) (*proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{lose: lose, upstream: upstream, ln: ln, links: make(map[*link]struct{})}
	p.wg.Go(p.accept)
	return p, nil
}

// dial is an Options.Dialer that goes through the proxy whatever the address is.
func (p *proxy) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	d := net.Dialer{Timeout: answerWithin}
	return d.DialContext(ctx, "tcp", p.ln.Addr().String())
}

// cutAll ends every connection and says how many there were.
func (p *proxy) cutAll() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.cut()
	}
	return len(p.links)
}

// cutSilent closes, for a while, every connection without traffic for the given time, as load
// balancers do, and returns how many there were.
func (p *proxy) cutSilent(ctx context.Context, silence, during time.Duration) (n int) {
	for end := time.Now().Add(during); time.Now().Before(end) && sleep(ctx, silence/20); {
		p.mu.Lock()
		for l := range p.links {
			if !l.gone && time.Since(time.Unix(0, l.last.Load())) >= silence {
				l.gone = true
				l.cut()
				n++
			}
		}
		p.mu.Unlock()
	}
	return n
}

func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.ln.Close()
	p.cutAll()
	p.wg.Wait()
}

func (p *proxy) accept() {
	for {
		down, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(down) })
	}
}

func (p *proxy) serve(down net.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	up, err := p.upstream(ctx)
	if err != nil {
		_ = down.Close()
		return
	}
	l := &link{down: down, up: up}
	defer l.cut()
	l.last.Store(time.Now().UnixNano())
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()

	p.wg.Go(func() { p.pass(l, down, up) })
	p.pass(l, up, down)

	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// pass copies one direction until it ends, and then closes the link. Requests and replies are lost
// as a whole: the server never sees half a request.
func (p *proxy) pass(l *link, from, to net.Conn) {
	defer l.cut()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			l.last.Store(time.Now().UnixNano())
			if p.lose != nil && p.lose() {
				return
			}
			_ = to.SetWriteDeadline(time.Now().Add(answerWithin))
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
