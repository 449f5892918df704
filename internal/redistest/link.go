package redistest

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	chunkSize  = 64 << 10
	chunkQueue = 32
	slicePause = 100 * time.Microsecond
	// orphanTime bounds how long a server may take over a request whose client
	// was cut off.
	orphanTime = 2 * time.Second
)

// link is one connection through a Proxy: the client's end and the server's.
type link struct {
	p      *Proxy
	n      int
	client *net.TCPConn

	mu     sync.Mutex
	server duplex
	ended  bool
	done   chan struct{} // closed with the link
	mute   atomic.Bool   // no reply is passed on any more

	// under p.mu
	lost       bool // a black hole
	clientGone bool // the client has closed its end
}

// feed carries what one end sent to the goroutine that forwards it. Reading is
// apart from forwarding so that a stalled link still notices a close.
type feed struct {
	chunks chan []byte
	err    error // why it ended; set before chunks is closed
}

func (l *link) run() {
	var wg sync.WaitGroup
	defer func() {
		l.close()
		wg.Wait()
		l.p.mu.Lock()
		delete(l.p.links, l)
		l.p.mu.Unlock()
	}()
	requests := &feed{chunks: make(chan []byte, chunkQueue)}
	wg.Go(func() {
		l.read(l.client, requests)
		l.p.mu.Lock()
		l.clientGone = true
		l.p.mu.Unlock()
	})
	if !l.pass() {
		return
	}
	server, err := l.p.dial()
	if err != nil {
		return
	}
	l.mu.Lock()
	l.server = server
	ended := l.ended
	l.mu.Unlock()
	if ended {
		server.Close()
		return
	}
	replies := &feed{chunks: make(chan []byte, chunkQueue)}
	wg.Go(func() { l.read(server, replies) })

	var both sync.WaitGroup
	both.Go(func() { l.forwardRequests(requests) })
	both.Go(func() { l.forwardReplies(replies) })
	both.Wait()
}

func (l *link) read(src net.Conn, f *feed) {
	defer close(f.chunks)
	for {
		b := make([]byte, chunkSize)
		n, err := src.Read(b)
		if n > 0 {
			select {
			case f.chunks <- b[:n]:
			case <-l.done:
				return
			}
		}
		if err != nil {
			f.err = err
			return
		}
	}
}

func (l *link) forwardRequests(f *feed) {
	for b := range f.chunks {
		if !l.pass() {
			return
		}
		switch l.p.decide(false, l.n, b) {
		case Forward:
			if _, err := l.server.Write(b); err != nil {
				l.close()
				return
			}
		case CutBefore:
			l.close()
			return
		case CutAfter:
			l.mute.Store(true) // the answer may be here before we cut
			l.server.Write(b)
			l.orphan()
			return
		case HalfThenCut:
			l.server.Write(b[:len(b)/2])
			l.close()
			return
		}
	}
	l.finish(f.err, l.server)
}

func (l *link) forwardReplies(f *feed) {
	for b := range f.chunks {
		if !l.pass() {
			return
		}
		if l.mute.Load() {
			continue
		}
		switch l.p.decide(true, l.n, b) {
		case Forward:
			if l.writeReply(b) != nil {
				l.close()
				return
			}
		case CutBefore:
			l.close()
			return
		case CutAfter:
			l.writeReply(b)
			l.close()
			return
		case HalfThenCut:
			l.writeReply(b[:len(b)/2])
			l.close()
			return
		}
	}
	if l.mute.Load() {
		l.close()
		return
	}
	l.finish(f.err, l.client)
}

func (l *link) writeReply(b []byte) error {
	l.p.mu.Lock()
	n := l.p.slice
	l.p.mu.Unlock()
	if n <= 0 {
		n = len(b)
	}
	for len(b) > 0 {
		piece := b[:min(n, len(b))]
		if _, err := l.client.Write(piece); err != nil {
			return err
		}
		if b = b[len(piece):]; len(b) > 0 {
			time.Sleep(slicePause)
		}
	}
	return nil
}

// finish passes the end of one direction on: an orderly close as such, and a
// reset as a reset.
func (l *link) finish(err error, dst duplex) {
	if !l.pass() {
		return
	}
	if errors.Is(err, io.EOF) {
		dst.CloseWrite()
		return
	}
	l.reset()
}

// orphan cuts the client off and lets the server finish the request it has
// been given; what it says goes nowhere.
func (l *link) orphan() {
	l.client.Close()
	l.server.CloseWrite()
	select {
	case <-l.done: // the server has said all that it had to say
	case <-time.After(orphanTime):
	}
	l.close()
}

// pass waits while the link is stalled, and says whether it is still there.
func (l *link) pass() bool {
	for {
		l.p.mu.Lock()
		wait, changed := l.p.stalled || l.lost, l.p.changed
		l.p.mu.Unlock()
		if !wait {
			select {
			case <-l.done:
				return false
			default:
				return true
			}
		}
		select {
		case <-changed:
		case <-l.done:
			return false
		}
	}
}

func (l *link) reset() {
	l.client.SetLinger(0)
	l.mu.Lock()
	if s, ok := l.server.(*net.TCPConn); ok {
		s.SetLinger(0)
	}
	l.mu.Unlock()
	l.close()
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
	close(l.done)
	l.client.Close()
	if l.server != nil {
		l.server.Close()
	}
}

func (p *Proxy) decide(reply bool, n int, b []byte) Action {
	p.mu.Lock()
	f := p.onRequest
	if reply {
		f = p.onReply
	}
	p.mu.Unlock()
	if f == nil {
		return Forward
	}
	return f(n, b)
}
