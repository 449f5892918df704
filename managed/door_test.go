package managed_test

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// door is a server's address that can be shut and opened: while it is shut,
// nobody listens there.
type door struct {
	t      testing.TB
	target string
	addr   string

	mu    sync.Mutex
	ln    net.Listener
	conns map[net.Conn]struct{}
	gone  bool // shut
	wg    sync.WaitGroup

	accepted atomic.Int64
	ended    chan struct{} // closed when the listener is
}

func newDoor(t testing.TB, target string) *door {
	t.Helper()
	d := &door{t: t, target: target, addr: "127.0.0.1:0", conns: map[net.Conn]struct{}{}}
	d.open()
	d.addr = d.ln.Addr().String()
	t.Cleanup(func() { d.shut(); d.wg.Wait() })
	return d
}

// open lets new connections in; it returns the time since when.
func (d *door) open() time.Time {
	d.t.Helper()
	ln, err := net.Listen("tcp", d.addr)
	for end := time.Now().Add(time.Second); err != nil && time.Now().Before(end); ln, err = net.Listen("tcp", d.addr) {
		time.Sleep(100 * time.Microsecond)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	now := time.Now()
	d.mu.Lock()
	ended := make(chan struct{})
	d.ln, d.ended, d.gone = ln, ended, false
	d.mu.Unlock()
	d.wg.Go(func() {
		defer close(ended)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			d.accepted.Add(1)
			d.wg.Go(func() { d.serve(c) })
		}
	})
	return now
}

func (d *door) serve(c net.Conn) {
	s, err := net.Dial("tcp", d.target)
	if err != nil {
		c.Close()
		return
	}
	d.mu.Lock()
	d.conns[c], d.conns[s] = struct{}{}, struct{}{}
	if d.gone {
		c.Close()
		s.Close()
	}
	d.mu.Unlock()
	var both sync.WaitGroup
	pass := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		to.Close()
		from.Close()
	}
	both.Go(func() { pass(s, c) })
	both.Go(func() { pass(c, s) })
	both.Wait()
	d.mu.Lock()
	delete(d.conns, c)
	delete(d.conns, s)
	d.mu.Unlock()
}

// close lets no new connection in; those there are go on.
func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ln == nil {
		return
	}
	d.ln.Close()
	<-d.ended // while Accept runs, the socket is still open
	// A process that another test starts has a copy of the socket until its exec.
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		c, err := net.Dial("tcp", d.addr)
		if err != nil {
			return
		}
		c.Close()
	}
}

// shut is the end of a server: no new connection, and the old ones are cut.
func (d *door) shut() {
	d.close()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone = true
	for c := range d.conns {
		c.Close()
	}
}
