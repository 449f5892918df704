package conntrack_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/push"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// Push frames that arrive in pieces around a visit.

// cutter is a net.Conn whose reads end at a chosen byte of every push frame: at
// offset at the read ends, and what follows comes with the next one.
type cutter struct {
	net.Conn
	mu   sync.Mutex
	at   int // 0: reads are whole
	rest []byte
}

func (c *cutter) set(at int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = at
}

func (c *cutter) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.rest) == 0 {
		buf := make([]byte, len(b))
		c.mu.Unlock()
		n, err := c.Conn.Read(buf)
		c.mu.Lock()
		if n == 0 {
			return 0, err
		}
		c.rest = buf[:n]
		if i := bytes.IndexByte(c.rest, '>'); i >= 0 && c.at > 0 && i+c.at < len(c.rest) {
			n = copy(b, c.rest[:i+c.at])
			c.rest = c.rest[n:]
			return n, nil
		}
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// pushes notes the keys that invalidations named.
type pushes struct {
	mu   sync.Mutex
	keys []string
	odd  []string
}

func (p *pushes) HandlePushNotification(_ context.Context, _ push.NotificationHandlerContext, n []any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(n) == 2 && n[0] == "invalidate" {
		if keys, ok := n[1].([]any); ok && len(keys) == 1 {
			p.keys = append(p.keys, fmt.Sprint(keys[0]))
			return nil
		}
	}
	p.odd = append(p.odd, fmt.Sprint(n...))
	return nil
}

func (p *pushes) have(key string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.keys, key)
}

// invalidation is one push frame as the server sends it.
func invalidation(key string) []byte {
	return fmt.Appendf(nil, ">2\r\n$10\r\ninvalidate\r\n*1\r\n$%d\r\n%s\r\n", len(key), key)
}

// tracked is a rig with one connection that gets the server's invalidations.
func trackedRig(t *testing.T, opt *redis.Options) (*rig, *pushes) {
	t.Helper()
	opt.PoolSize = 1
	user := opt.OnConnect
	opt.OnConnect = func(ctx context.Context, c *redis.Conn) error {
		if user != nil {
			return user(ctx, c)
		}
		return c.Do(ctx, "CLIENT", "TRACKING", "ON").Err()
	}
	r := newRig(t, opt, conntrack.Config{})
	p := &pushes{}
	if err := r.RegisterPushNotificationHandler("invalidate", p, false); err != nil {
		t.Fatal(err)
	}
	return r, p
}

// Every byte of a real push frame is once the last one that has arrived when the
// visit comes; the rest arrives with or after the visit.
func TestAPushCutAtAnyByteAroundAVisitIsNeverMixedUp(t *testing.T) {
	s := redistest.Start(t)
	for _, mode := range []string{"visit", "ping", "lease"} {
		p := redistest.NewProxy(t, s.Addr())
		opt := s.Options()
		opt.Addr = p.Addr()
		// A short one: the look for push frames gives up on half of one after it.
		opt.ReadTimeout = time.Second
		r, got := trackedRig(t, opt)
		ended := 0
		frame := len(invalidation("key:000"))
		for cut := 1; cut < frame; cut++ {
			key := fmt.Sprintf("key:%03d", cut)
			if err := r.Get(bg, key).Err(); err != nil && err != redis.Nil {
				t.Fatalf("%s, cut %d: %v", mode, cut, err)
			}
			c := r.only(t)
			// Hold the rest of the frame back until the visit is over, or comes.
			arrived := make(chan struct{})
			rest := make(chan struct{})
			var once sync.Once
			p.OnReply(func(_ int, b []byte) redistest.Action {
				if bytes.HasPrefix(b, []byte(">")) {
					once.Do(func() { close(arrived) })
					<-rest
				}
				return redistest.Forward
			})
			p.ReplySlices(cut)
			if err := s.Admin().Set(bg, key, "x", 0).Err(); err != nil {
				t.Fatal(err)
			}
			<-arrived
			go close(rest) // races with the visit on purpose
			if mode == "ping" {
				c.Validate()
			}
			switch mode {
			case "lease":
				conn := r.Conn()
				tracked, err := r.node.Acquire(bg, conn, nil)
				if err != nil {
					ended++
				} else {
					if id, err := conn.Echo(bg, key).Result(); err != nil || id != key {
						t.Errorf("lease, cut %d: ECHO gives %q, %v", cut, id, err)
					}
					_ = tracked
				}
				_ = conn.Close()
			default:
				if _, removed, err := r.visit(hooks.PoolMain); removed {
					ended++
				} else if err != nil && !errors.Is(err, conntrack.ErrWouldWait) {
					t.Errorf("%s, cut %d: %v", mode, cut, err)
				}
			}
			for i := range 3 {
				want := fmt.Sprintf("%s:%d", key, i)
				if echo, err := r.Echo(bg, want).Result(); err != nil || echo != want {
					t.Errorf("%s, cut %d: after the visit ECHO gives %q, %v, want %q", mode, cut, echo, err, want)
				}
			}
			p.OnReply(nil)
			p.ReplySlices(0)
			if r.tracker.Len() == 1 && r.only(t) == c {
				redistest.Eventually(t, fmt.Sprintf("%s, cut %d: the invalidation reaches its handler", mode, cut), soon, func() bool {
					r.Ping(bg)
					return got.have(key)
				})
			}
		}
		got.mu.Lock()
		if len(got.odd) > 0 {
			t.Errorf("%s: push handlers got pieces of something else: %q", mode, got.odd)
		}
		got.mu.Unlock()
		t.Logf("%s: %d cuts, %d connections ended", mode, frame-1, ended)
	}
}

// The same with reads cut, so that the reader of go-redis itself holds the first
// part of a frame, as it does in its looks for push frames.
func TestAReaderThatHoldsHalfAPushNeverGetsTheAnswerOfAVisit(t *testing.T) {
	s := redistest.Start(t)
	for _, secure := range []bool{false, true} {
		srv := s
		if secure {
			srv = redistest.StartTLS(t)
		}
		opt := srv.Options()
		opt.ReadTimeout = time.Second
		var cut *cutter
		base := redis.NewDialer(&redis.Options{TLSConfig: opt.TLSConfig, DialTimeout: 5 * time.Second})
		opt.TLSConfig = nil
		opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := base(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			cut = &cutter{Conn: c} // has no socket to look at
			return cut, nil
		}
		r, got := trackedRig(t, opt)
		frame := len(invalidation("key:000"))
		for at := 1; at < frame; at++ {
			key := fmt.Sprintf("key:%03d", at)
			if err := r.Get(bg, key).Err(); err != nil && err != redis.Nil {
				t.Fatal(err)
			}
			cut.set(at)
			if err := srv.Admin().Set(bg, key, "x", 0).Err(); err != nil {
				t.Fatal(err)
			}
			// The frame comes together with this reply or before the visit's.
			if v, err := r.Get(bg, key).Result(); err != nil || v != "x" {
				t.Fatalf("TLS %v, cut %d: GET gives %q, %v", secure, at, v, err)
			}
			if _, removed, err := r.visit(hooks.PoolMain); err != nil && !removed {
				t.Errorf("TLS %v, cut %d: %v", secure, at, err)
			}
			conn := r.Conn()
			if _, err := r.node.Acquire(bg, conn, nil); err == nil {
				if echo, err := conn.Echo(bg, key).Result(); err != nil || echo != key {
					t.Errorf("TLS %v, cut %d: ECHO on a lease gives %q, %v", secure, at, echo, err)
				}
			}
			_ = conn.Close()
			if echo, err := r.Echo(bg, key).Result(); err != nil || echo != key {
				t.Errorf("TLS %v, cut %d: ECHO gives %q, %v", secure, at, echo, err)
			}
			if !got.have(key) {
				t.Errorf("TLS %v, cut %d: the invalidation was lost", secure, at)
			}
			cut.set(0)
		}
		if len(got.odd) > 0 {
			t.Errorf("push handlers got pieces of something else: %q", got.odd)
		}
	}
}

// holder adds the first bytes of a push frame to the next reply, and keeps the
// rest of the frame until something is written: till then reads time out.
type holder struct {
	net.Conn
	mu    sync.Mutex
	add   []byte
	held  []byte
	ready []byte
}

func (h *holder) arm(frame []byte, at int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.add, h.held = frame[:at], frame[at:]
}

func (h *holder) Read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ready) > 0 {
		n := copy(b, h.ready)
		h.ready = h.ready[n:]
		return n, nil
	}
	if h.add == nil && h.held != nil {
		return 0, os.ErrDeadlineExceeded
	}
	h.mu.Unlock()
	n, err := h.Conn.Read(b)
	h.mu.Lock()
	if h.add != nil && n > 0 {
		n += copy(b[n:], h.add)
		h.add = nil
	}
	return n, err
}

func (h *holder) Write(b []byte) (int, error) {
	h.mu.Lock()
	if h.add == nil && h.held != nil {
		h.ready, h.held = h.held, nil
	}
	h.mu.Unlock()
	return h.Conn.Write(b)
}

// Here go-redis's reader really holds the begin of a frame when the visit comes.
func TestAVisitWhileTheReaderHoldsThePartOfAPushIsAnsweredByTheServer(t *testing.T) {
	s := redistest.Start(t)
	kept := 0
	frame := invalidation("key")
	for at := 1; at < len(frame); at++ {
		opt := s.Options()
		opt.PoolSize = 1
		base := redis.NewDialer(&redis.Options{DialTimeout: 5 * time.Second})
		var h *holder
		opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := base(ctx, network, addr)
			h = &holder{Conn: c}
			return h, err
		}
		r := newRig(t, opt, conntrack.Config{})
		got := &pushes{}
		if err := r.RegisterPushNotificationHandler("invalidate", got, false); err != nil {
			t.Fatal(err)
		}
		if err := r.Ping(bg).Err(); err != nil {
			t.Fatal(err)
		}
		c := r.only(t)
		h.arm(frame, at)
		if err := r.Ping(bg).Err(); err != nil {
			t.Fatalf("cut %d: %v", at, err)
		}
		if r.tracker.Len() == 0 {
			continue // go-redis could not go on in the middle of the frame
		}
		kept++
		if met, removed, err := r.visit(hooks.PoolMain); err != nil || removed || met != c {
			t.Errorf("cut %d: a visit: %v, removed %v", at, err, removed)
		}
		if echo, err := r.Echo(bg, at).Result(); err != nil || echo != fmt.Sprint(at) {
			t.Errorf("cut %d: ECHO gives %q, %v", at, echo, err)
		}
		got.mu.Lock()
		if len(got.odd) > 0 || !slices.Equal(got.keys, []string{"key"}) {
			t.Errorf("cut %d: the handler got %q and %q, want the one key", at, got.keys, got.odd)
		}
		got.mu.Unlock()
		_ = r.Close()
	}
	if kept == 0 {
		t.Error("go-redis never keeps a connection with half a push in its reader: this test shows nothing any more")
	}
	t.Logf("%d of %d cuts leave the connection in the pool", kept, len(frame)-1)
}

// A connection that has ever delivered a push is always sent a PING: the visit costs a
// round trip.
func TestAConnectionThatDeliversPushesIsNeverAnsweredFor(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	r, _ := trackedRig(t, opt)
	r.Get(bg, "k")
	c := r.only(t)
	before := c.Info().BytesOut
	if _, _, err := r.visit(hooks.PoolMain); err != nil || c.Info().BytesOut != before {
		t.Fatalf("a first visit: %v, %d bytes written", err, c.Info().BytesOut-before)
	}
	s.Admin().Set(bg, "k", "v", 0)
	if err := r.Get(bg, "k").Err(); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, "the push has been read", soon, func() bool { r.Ping(bg); return c.PushSeen() })
	before = c.Info().BytesOut
	if _, removed, err := r.visit(hooks.PoolMain); err != nil || removed {
		t.Fatal(err)
	}
	if sent := c.Info().BytesOut - before; sent != uint64(len("*1\r\n$4\r\nPING\r\n")) {
		t.Errorf("a visit of a connection that delivers pushes wrote %d bytes, want a PING", sent)
	}
}

func TestOneAnswerOfAVisitIsGoodForOneRead(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	r := newRig(t, opt, conntrack.Config{})
	r.fill(t, 1)
	var nc net.Conn
	nc, err := opt.Dialer(bg, "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	visit, done := conntrack.NewVisit()
	defer done()
	buf := make([]byte, 100)

	write := func(b []byte) error { _, err := nc.Write(b); return err }
	read := func() (string, error) { n, err := nc.Read(buf); return string(buf[:n]), err }
	_ = nc.SetDeadline(time.Now().Add(soon))
	if err := write(visit); err != nil {
		t.Fatal(err)
	}
	if got, err := read(); got != "+K\r\n" || err != nil {
		t.Fatalf("the answer of a visit: %q, %v", got, err)
	}
	if got, err := read(); !refused(err) {
		t.Errorf("a second read after a visit's answer gives %q, %v, want a refusal at once", got, err)
	}

	other, err := opt.Dialer(bg, "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	nc = other
	visit, done = conntrack.NewVisit() // each is recognised once
	defer done()
	if err := write(visit); err != nil {
		t.Fatal(err)
	}
	if err := write([]byte("*1\r\n$4\r\nPING\r\n")); !refused(err) {
		t.Errorf("a write while a visit's answer is unread: %v, want a refusal: replies would shift by one", err)
	}

	third, err := opt.Dialer(bg, "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	nc = third
	buf = make([]byte, 3)
	visit, done = conntrack.NewVisit()
	defer done()
	if err := write(visit); err != nil {
		t.Fatal(err)
	}
	if got, err := read(); !refused(err) {
		t.Errorf("a read too small for the answer gives %q, want an error", got)
	}
	buf = make([]byte, 100)

	visit, done = conntrack.NewVisit()
	defer done()
	// A visit in two writes, with something before or behind it, or made up, is data.
	for _, b := range [][]byte{visit[:len(visit)-1], append(bytes.Clone(visit), '\n'), append([]byte("*1\r\n$4\r\nPING\r\n"), visit...)} {
		c, err := opt.Dialer(bg, "tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(b); err != nil {
			t.Error(err)
		}
		if conntrack.Canned(c) {
			t.Errorf("%q was taken for a visit", b)
		}
		_ = c.Close()
	}
}

func refused(err error) bool {
	_, ok := conntrack.RefusedFor(err)
	return ok
}
