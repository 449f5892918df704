package conntrack_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func connError(t *testing.T, err error) *hooks.ConnError {
	t.Helper()
	var e *hooks.ConnError
	if !errors.As(err, &e) {
		t.Fatalf("%T (%v) is no ConnError", err, err)
	}
	return e
}

func TestADialErrorSaysWhereAndThatNothingWasSent(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	r := newRig(t, &redis.Options{Addr: addr, Password: "hidden"}, conntrack.Config{})
	for name, run := range map[string]func() error{
		"a command": func() error { return r.Incr(bg, "n").Err() },
		"a pipeline": func() error {
			_, err := r.Pipelined(bg, func(p redis.Pipeliner) error { p.Incr(bg, "n"); return nil })
			return err
		},
		"a transaction": func() error {
			_, err := r.TxPipelined(bg, func(p redis.Pipeliner) error { p.Incr(bg, "n"); return nil })
			return err
		},
		"a Conn": func() error { c := r.Conn(); defer c.Close(); return c.Incr(bg, "n").Err() },
	} {
		err := run()
		e := connError(t, err)
		if e.Op != conntrack.OpDial || e.Node != addr || !e.Unsent() || e.Wrote {
			t.Errorf("%s: %+v, want a dial error of %s", name, e, addr)
		}
		if strings.Count(err.Error(), addr) != 1 || !strings.HasSuffix(err.Error(), ": connection refused") {
			t.Errorf("%s: %v, want the address once and the reason last", name, err)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v is no ECONNREFUSED", name, err)
		}
		var ne net.Error
		if !errors.As(err, &ne) {
			t.Errorf("%s: %v is no net.Error", name, err)
		}
		if strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: the error shows the password: %v", name, err)
		}
	}
	if len(r.events.of(hooks.DialFailed)) == 0 {
		redistest.Eventually(t, "a DialFailed event", soon, func() bool { return len(r.events.of(hooks.DialFailed)) > 0 })
	}
	if f := r.node.LastDialFailure(); f == nil || !errors.Is(f.Err, syscall.ECONNREFUSED) {
		t.Errorf("LastDialFailure = %v", f)
	}
}

func TestAFailedHandshakeIsUnsent(t *testing.T) {
	s := redistest.Start(t)
	for _, protocol := range []int{2, 3} {
		p := redistest.NewProxy(t, s.Addr())
		opt := s.Options()
		opt.Addr = p.Addr()
		opt.Protocol = protocol
		opt.ClientName = "me"
		p.OnReply(func(int, []byte) redistest.Action { return redistest.CutBefore })
		r := newRig(t, opt, conntrack.Config{Opaque: true})
		err := r.Incr(bg, "n").Err()
		e := connError(t, err)
		if !e.Handshake || !e.Unsent() || e.Op == conntrack.OpDial {
			t.Errorf("RESP%d: %+v, want an unsent error of the handshake", protocol, e)
		}
		if !strings.Contains(err.Error(), "handshake") {
			t.Errorf("RESP%d: the text does not say that it was the handshake: %v", protocol, err)
		}
		p.OnReply(nil)
		if n, err := r.Incr(bg, fmt.Sprintf("n%d", protocol)).Result(); n != 1 || err != nil {
			t.Errorf("RESP%d: INCR afterwards: %d, %v", protocol, n, err)
		}
	}
}

func TestALostReplyIsAReadErrorThatMayHaveBeenSent(t *testing.T) {
	s := redistest.Start(t)
	for _, protocol := range []int{2, 3} {
		p := redistest.NewProxy(t, s.Addr())
		opt := s.Options()
		opt.Addr = p.Addr()
		opt.Protocol = protocol
		r := newRig(t, opt, conntrack.Config{})
		r.fill(t, 1)
		c := r.only(t)
		p.OnReply(func(int, []byte) redistest.Action { return redistest.CutBefore })
		err := r.Incr(bg, "n").Err()
		p.OnReply(nil)
		e := connError(t, err)
		if e.Op != conntrack.OpRead || !e.Wrote || e.Unsent() || e.Handshake || e.Self || e.ID != c.ID() || e.Node != p.Addr() {
			t.Errorf("RESP%d: %+v, want a read error of connection %d after the command was sent", protocol, e, c.ID())
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("RESP%d: %v is no EOF", protocol, err)
		}
		ev := r.events.wantClosed(t, c.ID(), hooks.ReasonError)
		if !errors.Is(ev.Err, io.EOF) {
			t.Errorf("RESP%d: the Closed event has the error %v, want EOF", protocol, ev.Err)
		}
	}
}

func TestAResetIsAReset(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr = p.Addr()
	opt.Protocol = 2 // with RESP3 go-redis reads once more after a failed read and gets EOF
	r := newRig(t, opt, conntrack.Config{})
	r.fill(t, 1)
	asked := make(chan struct{})
	p.OnRequest(func(int, []byte) redistest.Action { close(asked); return redistest.Drop })
	go func() { <-asked; p.CutAll() }()
	err := r.Incr(bg, "n").Err()
	p.OnRequest(nil)
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v is no ECONNRESET", err)
	}
	if ne, ok := err.(net.Error); !ok || ne.Timeout() {
		t.Errorf("err.(net.Error) of a reset: %T, want one that is no timeout", err)
	}
	if e := connError(t, err); e.Op != conntrack.OpRead || e.Unsent() {
		t.Errorf("%+v", e)
	}
}

func TestATimeoutIsATimeoutForEveryWayToAsk(t *testing.T) {
	s := redistest.Start(t)
	for _, protocol := range []int{2, 3} {
		p := redistest.NewProxy(t, s.Addr())
		opt := s.Options()
		opt.Addr = p.Addr()
		opt.Protocol = protocol
		opt.ReadTimeout = 100 * time.Millisecond
		r := newRig(t, opt, conntrack.Config{})
		r.fill(t, 1)
		p.Stall(true)
		err := r.Incr(bg, "n").Err()
		p.Stall(false)
		if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
			t.Errorf("RESP%d: err.(net.Error): %T (%v), want a timeout", protocol, err, err)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || !os.IsTimeout(err) {
			t.Errorf("RESP%d: %v: os.ErrDeadlineExceeded %v, os.IsTimeout %v", protocol, err, errors.Is(err, os.ErrDeadlineExceeded), os.IsTimeout(err))
		}
		var op *net.OpError
		if !errors.As(err, &op) {
			t.Errorf("RESP%d: %v has no *net.OpError", protocol, err)
		}
	}
}

func TestAWriteErrorSaysWhetherAByteWasSent(t *testing.T) {
	s := redistest.Start(t)
	for _, x := range []struct {
		name   string
		after  int // bytes that go through
		unsent bool
	}{{"nothing", 0, true}, {"some", 1000, false}} {
		opt := s.Options()
		base := redis.NewDialer(&redis.Options{DialTimeout: 5 * time.Second})
		var w *limitedWriter
		opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := base(ctx, network, addr)
			w = &limitedWriter{Conn: c}
			return w, err
		}
		r := newRig(t, opt, conntrack.Config{})
		r.fill(t, 1)
		w.limit(x.after)
		err := r.Set(bg, "k", strings.Repeat("v", 10_000), 0).Err()
		e := connError(t, err)
		if e.Op != conntrack.OpWrite || e.Unsent() != x.unsent || e.Wrote == x.unsent {
			t.Errorf("%s written: %+v, want a write error with Unsent %v", x.name, e, x.unsent)
		}
		if !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%v is no EPIPE", err)
		}
		if e.Unsent() != strings.Contains(err.Error(), "nothing sent") {
			t.Errorf("the text is wrong about what was sent: %v", err)
		}
	}
}

type limitedWriter struct {
	net.Conn
	mu      sync.Mutex
	limited bool
	left    int
}

func (w *limitedWriter) limit(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.limited, w.left = true, n
}

func (w *limitedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.limited {
		return w.Conn.Write(b)
	}
	n := min(w.left, len(b))
	w.left -= n
	if n > 0 {
		n, _ = w.Conn.Write(b[:n])
	}
	return n, &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", syscall.EPIPE)}
}

// What is below would be executed two or three times without Opaque.
func TestAnOpaqueErrorKeepsGoRedisFromRepeatingAnIncrWhoseReplyIsLost(t *testing.T) {
	redistest.Binary(t, "redis-server") // without one all of it is skipped, not only its parts
	plain := redistest.Start(t)
	cluster := redistest.StartOneNodeCluster(t)
	for _, opaque := range []bool{true, false} {
		repeated := 0
		for _, kind := range []string{"Client", "ClusterClient", "Ring"} {
			for _, how := range []string{"command", "pipeline", "transaction", "timeout"} {
				t.Run(fmt.Sprintf("%s %s opaque=%v", kind, how, opaque), func(t *testing.T) {
					s := plain
					if kind == "ClusterClient" {
						s = cluster
					}
					n, err := loseReplies(t, s, kind, how, opaque)
					if opaque && n != 1 {
						t.Errorf("an INCR whose reply was lost was executed %d times, want once", n)
					}
					if n > 1 {
						repeated++
					}
					if err == nil && opaque {
						t.Error("no error for a lost reply")
					}
					if err != nil && opaque {
						e := connError(t, err)
						if e.Unsent() {
							t.Errorf("%+v says unsent", e)
						}
						if how == "timeout" && !os.IsTimeout(errors.Unwrap(e)) && !errors.Is(err, os.ErrDeadlineExceeded) {
							t.Errorf("%v is no timeout any more after Reveal", err)
						}
						if how != "timeout" && !errors.Is(err, io.EOF) {
							t.Errorf("%v is no EOF any more after Reveal", err)
						}
					}
				})
			}
		}
		if !opaque && repeated == 0 {
			t.Error("go-redis repeats nothing by itself any more: opaque errors can go")
		}
	}
}

func TestContractWithoutRetriesAClientRepeatsNothingWhoseReplyIsLost(t *testing.T) {
	s := redistest.Start(t)
	for name, incr := range map[string]func(c *redis.Client, key string) error{
		"command": func(c *redis.Client, key string) error { return c.Incr(bg, key).Err() },
		"clone":   func(c *redis.Client, key string) error { return c.WithTimeout(time.Second).Incr(bg, key).Err() },
		"pipeline": func(c *redis.Client, key string) error {
			_, err := c.Pipelined(bg, func(p redis.Pipeliner) error { p.Incr(bg, key); return nil })
			return err
		},
		"transaction": func(c *redis.Client, key string) error {
			_, err := c.TxPipelined(bg, func(p redis.Pipeliner) error { p.Incr(bg, key); return nil })
			return err
		},
		"Watch": func(c *redis.Client, key string) error {
			return c.Watch(bg, func(tx *redis.Tx) error { return tx.Incr(bg, key).Err() })
		},
		"Conn": func(c *redis.Client, key string) error {
			conn := c.Conn()
			defer conn.Close()
			return conn.Incr(bg, key).Err()
		},
		"AutoPipeline": func(c *redis.Client, key string) error {
			ap, err := c.AutoPipelineWithOptions(&redis.AutoPipelineOptions{})
			if err != nil {
				return err
			}
			return ap.Incr(bg, key).Err()
		},
		"full duplex": func(c *redis.Client, key string) error {
			ap, err := c.AutoPipelineWithOptions(&redis.AutoPipelineOptions{FullDuplex: true})
			if err != nil {
				return err
			}
			return ap.Incr(bg, key).Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := redistest.NewProxy(t, s.Addr())
			c := redis.NewClient(&redis.Options{Addr: p.Addr(), MaxRetries: -1})
			defer c.Close()
			if err := c.Ping(bg).Err(); err != nil {
				t.Fatal(err)
			}
			var sent atomic.Int64
			p.OnRequest(func(_ int, b []byte) redistest.Action {
				if bytes.Contains(b, []byte("incr")) && sent.Add(1) == 1 {
					return redistest.CutAfter
				}
				return redistest.Forward
			})
			err := incr(c, redistest.UniqueKey(t, "n"))
			if err == nil || sent.Load() != 1 {
				t.Errorf("%v, and the INCR was sent %d times although MaxRetries is -1: errors of a client of one server must be opaque, too", err, sent.Load())
			}
		})
	}
}

// loseReplies loses the replies of an INCR twice, or holds them back, and says
// how often it was executed and what the caller saw.
func loseReplies(t *testing.T, s *redistest.Server, kind, how string, opaque bool) (int64, error) {
	t.Helper()
	key := redistest.UniqueKey(t, "n")
	p := redistest.NewProxy(t, s.Addr())
	tr := conntrack.NewTracker(conntrack.Config{Opaque: opaque})
	newClient := func(o *redis.Options) *redis.Client {
		o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
		n := tr.NewNode(o)
		c := redis.NewClient(o)
		n.Bind(c)
		t.Cleanup(n.Close)
		return c
	}
	const retries = 3
	readTimeout := soon
	if how == "timeout" {
		readTimeout = 150 * time.Millisecond
	}
	var c redis.UniversalClient
	switch kind {
	case "Client":
		c = newClient(&redis.Options{Addr: p.Addr(), MaxRetries: retries, MinRetryBackoff: -1, MaxRetryBackoff: -1, ReadTimeout: readTimeout})
	case "Ring":
		c = redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": p.Addr()}, NewClient: newClient, MaxRetries: retries,
			MinRetryBackoff: -1, MaxRetryBackoff: -1, ReadTimeout: readTimeout, HeartbeatFrequency: time.Hour})
	default:
		c = redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{p.Addr()}, NewClient: newClient, MaxRetries: -1,
			MinRetryBackoff: -1, MaxRetryBackoff: -1, ReadTimeout: readTimeout,
			ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
				return []redis.ClusterSlot{{Start: 0, End: 16383, Nodes: []redis.ClusterNode{{Addr: p.Addr()}}}}, nil
			}})
	}
	defer c.Close()
	if err := c.Set(bg, "warm", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Pipelined(bg, func(p redis.Pipeliner) error { p.Get(bg, "warm"); return nil }); err != nil {
		t.Fatal(err)
	}
	// Of each connection that has carried the INCR the reply is lost, twice.
	var mu sync.Mutex
	carries := map[int]bool{}
	lost := 0
	p.OnRequest(func(conn int, b []byte) redistest.Action {
		if bytes.Contains(bytes.ToLower(b), []byte("incr")) {
			mu.Lock()
			carries[conn] = true
			mu.Unlock()
		}
		return redistest.Forward
	})
	p.OnReply(func(conn int, b []byte) redistest.Action {
		mu.Lock()
		defer mu.Unlock()
		if !carries[conn] || lost >= 2 {
			return redistest.Forward
		}
		delete(carries, conn)
		lost++
		if how == "timeout" {
			return redistest.Drop
		}
		return redistest.CutBefore
	})
	var err error
	switch how {
	case "pipeline":
		_, err = c.Pipelined(bg, func(p redis.Pipeliner) error { p.Incr(bg, key); return nil })
	case "transaction":
		_, err = c.TxPipelined(bg, func(p redis.Pipeliner) error { p.Incr(bg, key); return nil })
	default:
		err = c.Incr(bg, key).Err()
	}
	p.OnReply(nil)
	p.OnRequest(nil)
	n, gerr := s.Admin().Get(bg, key).Int64()
	if gerr != nil {
		t.Fatal(gerr)
	}
	return n, attempt.Reveal(err)
}

func TestTheHookRevealsOpaqueErrorsOfCommandsAndPipelines(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr = p.Addr()
	r := newRig(t, opt, conntrack.Config{Opaque: true})
	r.fill(t, 1)
	_, _ = r.Pipelined(bg, func(p redis.Pipeliner) error { p.Ping(bg); return nil })
	p.OnReply(func(int, []byte) redistest.Action { return redistest.CutBefore })
	cmd := r.Incr(bg, "n")
	if !errors.Is(cmd.Err(), io.EOF) {
		t.Errorf("a command: %#v, want an EOF inside", cmd.Err())
	}
	p.OnReply(nil)
	_, _ = r.Pipelined(bg, func(p redis.Pipeliner) error { p.Ping(bg); return nil })
	p.OnReply(func(int, []byte) redistest.Action { return redistest.CutBefore })
	cmds, err := r.Pipelined(bg, func(p redis.Pipeliner) error { p.Incr(bg, "n"); p.Incr(bg, "n"); return nil })
	if !errors.Is(err, io.EOF) {
		t.Errorf("a pipeline: %#v, want an EOF inside", err)
	}
	for i, c := range cmds {
		if !errors.Is(c.Err(), io.EOF) {
			t.Errorf("command %d of a pipeline: %#v, want an EOF inside", i, c.Err())
		}
	}
}

// Opaque errors must not touch pub/sub: its timeouts are its users' business.
func TestATimeoutOfPubSubIsNeitherOpaqueNorAFailure(t *testing.T) {
	s := redistest.Start(t)
	var failures atomic.Int64
	opt := s.Options()
	var reads atomic.Int64
	base := redis.NewDialer(&redis.Options{DialTimeout: 5 * time.Second})
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := base(ctx, network, addr)
		return &readCounter{c, &reads}, err
	}
	r := newRig(t, opt, conntrack.Config{Opaque: true})
	r.node.SetUpkeep(conntrack.Upkeep{Used: func() {}, Failed: func(conntrack.Failure) { failures.Add(1) }})
	ps := r.Subscribe(bg, "news")
	defer ps.Close()
	if _, err := ps.Receive(bg); err != nil {
		t.Fatal(err)
	}
	c := r.only(t)
	// A PING that is written while a Receive already waits.
	before := reads.Load()
	got := make(chan error, 1)
	go func() {
		_, err := ps.ReceiveTimeout(bg, soon)
		got <- err
	}()
	redistest.Eventually(t, "Receive waits", soon, func() bool { return reads.Load() > before })
	if err := ps.Ping(bg); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	_, err := ps.ReceiveTimeout(bg, 50*time.Millisecond)
	if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
		t.Errorf("ReceiveTimeout gives %T (%v), want a net.Error with Timeout", err, err)
	}
	if failures.Load() > 0 || r.only(t) != c || c.Info().Closing != "" {
		t.Errorf("a quiet channel counts as %d failures of its connection, which is %v", failures.Load(), r.tracker.Conns())
	}
	if n := r.Publish(bg, "news", "x").Val(); n != 1 {
		t.Errorf("%d subscribers", n)
	}
	if m, err := ps.ReceiveMessage(bg); err != nil || m.Payload != "x" {
		t.Errorf("the next message: %v, %v", m, err)
	}
}

type readCounter struct {
	net.Conn
	n *atomic.Int64
}

func (c *readCounter) Read(b []byte) (int, error) {
	c.n.Add(1)
	return c.Conn.Read(b)
}

// Full duplex reads replies in groups, each with a deadline of its own.
func TestAnOpaqueErrorKeepsFullDuplexFromRepeatingAnIncr(t *testing.T) {
	s := redistest.Start(t)
	for _, duplex := range []bool{true, false} {
		for round := range 3 {
			p := redistest.NewProxy(t, s.Addr())
			opt := s.Options()
			opt.Addr = p.Addr()
			opt.MaxRetries = 3
			opt.MinRetryBackoff, opt.MaxRetryBackoff = -1, -1
			r := newRig(t, opt, conntrack.Config{Opaque: true})
			ap, err := r.AutoPipelineWithOptions(&redis.AutoPipelineOptions{FullDuplex: duplex})
			if err != nil {
				t.Fatal(err)
			}
			if err := ap.Ping(bg).Err(); err != nil {
				t.Fatal(err)
			}
			var cuts atomic.Int64
			p.OnReply(func(_ int, b []byte) redistest.Action {
				if bytes.Count(b, []byte(":")) > 1 && cuts.Add(1) <= 3 {
					return redistest.HalfThenCut
				}
				return redistest.Forward
			})
			const n = 50
			key := redistest.UniqueKey(t, "n")
			var failed atomic.Int64
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() {
					if ap.Incr(bg, key).Err() != nil {
						failed.Add(1)
					}
				})
			}
			wg.Wait()
			executed, err := s.Admin().Get(bg, key).Int64()
			if err != nil {
				t.Fatal(err)
			}
			if executed > n || executed < n-failed.Load() {
				t.Errorf("full duplex %v, round %d: %d INCR of which %d failed were executed %d times", duplex, round, n, failed.Load(), executed)
			}
			if cuts.Load() > 0 && failed.Load() == 0 {
				t.Errorf("full duplex %v, round %d: replies were lost and nobody was told", duplex, round)
			}
			_ = ap.Close()
		}
	}
}
