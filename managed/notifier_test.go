package managed_test

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// notifier is an endpoint that announces maintenance, in front of a server that
// does not: it takes CLIENT MAINT_NOTIFICATIONS, and pushes what a test says.
type notifier struct {
	target string
	l      net.Listener
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[*notified]struct{}
}

// notified is one connection of a client. A push goes between two replies, for a
// read from the server gives whole ones: those of these tests are small.
type notified struct {
	client, server net.Conn

	mu    sync.Mutex // writes to client
	asked bool       // for notifications
	told  bool       // one
}

func newNotifier(t testing.TB, target string) *notifier {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n := &notifier{target: target, l: l, conns: map[*notified]struct{}{}}
	n.wg.Go(n.accept)
	t.Cleanup(func() {
		_ = l.Close()
		n.cut()
		n.wg.Wait()
	})
	return n
}

func (n *notifier) addr() string { return n.l.Addr().String() }

func (n *notifier) accept() {
	for {
		client, err := n.l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", n.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		c := &notified{client: client, server: server}
		n.mu.Lock()
		n.conns[c] = struct{}{}
		n.mu.Unlock()
		n.wg.Go(func() { c.requests(); n.forget(c) })
		n.wg.Go(func() { c.replies(); n.forget(c) })
	}
}

func (n *notifier) forget(c *notified) {
	c.close()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
}

// cut ends all connections.
func (n *notifier) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		c.close()
	}
}

func (n *notifier) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.conns)
}

// told is how many of those that were told something are still open, and asked how
// many want to be told.
func (n *notifier) told() int  { return n.having(func(c *notified) bool { return c.told }) }
func (n *notifier) asked() int { return n.having(func(c *notified) bool { return c.asked }) }

func (n *notifier) having(f func(*notified) bool) (having int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		c.mu.Lock()
		if f(c) {
			having++
		}
		c.mu.Unlock()
	}
	return having
}

// push sends a notification to every connection that asked for them, and says to
// how many. A nil is the null of RESP3.
func (n *notifier) push(name string, args ...any) int {
	frame := fmt.Appendf(nil, ">%d\r\n$%d\r\n%s\r\n", 1+len(args), len(name), name)
	for _, a := range args {
		switch a := a.(type) {
		case nil:
			frame = append(frame, "_\r\n"...)
		case int:
			frame = fmt.Appendf(frame, ":%d\r\n", a)
		case string:
			frame = fmt.Appendf(frame, "$%d\r\n%s\r\n", len(a), a)
		case []string: // an array of one array
			frame = fmt.Appendf(frame, "*1\r\n*%d\r\n", len(a))
			for _, s := range a {
				frame = fmt.Appendf(frame, "$%d\r\n%s\r\n", len(s), s)
			}
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	told := 0
	for c := range n.conns {
		if c.write(frame, true) {
			told++
		}
	}
	return told
}

func (c *notified) close() {
	_ = c.client.Close()
	_ = c.server.Close()
}

func (c *notified) write(b []byte, push bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if push && !c.asked {
		return false
	}
	_, err := c.client.Write(b)
	c.told = c.told || push
	return err == nil
}

func (c *notified) requests() {
	buf := make([]byte, 64<<10)
	for {
		m, err := c.client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:m], []byte("\r\nmaint_notifications\r\n")) {
			c.mu.Lock()
			c.asked = true
			c.mu.Unlock()
			c.write([]byte("+OK\r\n"), false)
			continue
		}
		if string(buf[:m]) == "*1\r\n$7\r\ncommand\r\n" { // of a cluster client; a push would split so large a reply
			c.write([]byte("*0\r\n"), false)
			continue
		}
		if _, err := c.server.Write(buf[:m]); err != nil {
			return
		}
	}
}

func (c *notified) replies() {
	buf := make([]byte, 64<<10)
	for {
		m, err := c.server.Read(buf)
		if err != nil || !c.write(buf[:m], false) {
			return
		}
	}
}
