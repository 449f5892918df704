package redistest_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// raw is a connection without a client library, so that a test sees each byte.
func raw(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	return c.(*net.TCPConn)
}

func say(t *testing.T, c net.Conn, cmd string) {
	t.Helper()
	_, err := c.Write([]byte(cmd + "\r\n"))
	require.NoError(t, err)
}

func hear(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	_, err := io.ReadFull(c, b)
	require.NoError(t, err)
	require.Equal(t, want, string(b))
}

// silent reports whether nothing at all arrives for a while.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	n, err := c.Read(make([]byte, 1))
	var ne net.Error
	require.ErrorAs(t, err, &ne, "read %d bytes", n)
	require.True(t, ne.Timeout(), err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
}

func TestAProxyPassesEverythingOnOverTCPAndUnix(t *testing.T) {
	s := redistest.Start(t)
	big := strings.Repeat("x", 1<<20)
	for _, target := range []string{s.Addr(), s.Unix()} {
		p := redistest.NewProxy(t, target)
		opt := s.Options()
		opt.Addr = p.Addr()
		c := client(t, opt)
		require.NoError(t, c.Set(ctx, "big", big, 0).Err())
		got, err := c.Get(ctx, "big").Result()
		require.NoError(t, err)
		require.True(t, got == big)
		require.Equal(t, 1, p.Conns())
		require.Equal(t, 1, p.Accepted())
		c.Close()
		redistest.Eventually(t, "the close has been passed on", 2*time.Second, func() bool {
			return p.Conns() == 0 && s.NumClients(t) == 0
		})
	}
}

func TestAProxyPassesOnThatTheServerCloses(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	c := raw(t, p.Addr())
	say(t, c, "PING")
	hear(t, c, "+PONG\r\n")
	require.Equal(t, 1, s.KillClients(t))
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
}

func TestAProxyWhoseTargetIsAwayClosesConnections(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	s.Kill()
	_, err := raw(t, p.Addr()).Read(make([]byte, 1))
	require.Error(t, err)
	s.Restart()
	c := raw(t, p.Addr())
	say(t, c, "PING")
	hear(t, c, "+PONG\r\n")
}

func TestStallHoldsEverythingBackUntilItIsOver(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	old := raw(t, p.Addr())
	say(t, old, "PING")
	hear(t, old, "+PONG\r\n")

	p.Stall(true)
	fresh := raw(t, p.Addr())
	gone := raw(t, p.Addr())
	say(t, old, "INCR n")
	say(t, fresh, "PING")
	silent(t, old)
	silent(t, fresh)
	require.ErrorIs(t, s.Admin().Get(ctx, "n").Err(), redis.Nil)
	require.Equal(t, 3, p.Conns())
	gone.Close()
	redistest.Eventually(t, "a close by the client is noticed", time.Second, func() bool { return p.Conns() == 2 })

	p.Stall(false)
	hear(t, old, ":1\r\n")
	hear(t, fresh, "+PONG\r\n")
}

func TestStallExistingLosesOldConnectionsForEverAndServesNewOnes(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	old := raw(t, p.Addr())
	say(t, old, "PING")
	hear(t, old, "+PONG\r\n")
	p.StallExisting()
	fresh := raw(t, p.Addr())
	say(t, fresh, "PING")
	hear(t, fresh, "+PONG\r\n")
	say(t, old, "INCR n")
	silent(t, old)
	p.Stall(true)
	p.Stall(false)
	silent(t, old)
	old.Close()
	redistest.Eventually(t, "the client's close is noticed", time.Second, func() bool { return p.Conns() == 1 })
	require.Equal(t, 2, s.NumClients(t), "the server has not heard of that close")
	p.Close()
	redistest.Eventually(t, "the server is free of both", time.Second, func() bool { return s.NumClients(t) == 0 })
}

func TestCutAllResetsConnectionsAndSaysHowMany(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	var conns []net.Conn
	for range 3 {
		c := raw(t, p.Addr())
		say(t, c, "PING")
		hear(t, c, "+PONG\r\n")
		conns = append(conns, c)
	}
	require.Equal(t, 3, p.CutAll())
	for _, c := range conns {
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
	redistest.Eventually(t, "the server has lost them too", time.Second, func() bool { return s.NumClients(t) == 0 })
	redistest.Eventually(t, "none is counted", time.Second, func() bool { return p.Conns() == 0 })
	require.Zero(t, p.CutAll())
}

func TestRefuseNewClosesNewConnectionsAndKeepsOldOnes(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	old := raw(t, p.Addr())
	say(t, old, "PING")
	hear(t, old, "+PONG\r\n")
	p.RefuseNew(true)
	_, err := raw(t, p.Addr()).Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	say(t, old, "PING")
	hear(t, old, "+PONG\r\n")
	p.RefuseNew(false)
	c := raw(t, p.Addr())
	say(t, c, "PING")
	hear(t, c, "+PONG\r\n")
	require.Equal(t, 2, p.Accepted())
}

func TestActionsOnRequests(t *testing.T) {
	const cmd = "INCR n"
	for _, tt := range []struct {
		action   redistest.Action
		executed string // the counter in the end
		hears    string // before the end, or before silence
		cut      bool
	}{
		{redistest.Forward, "1", ":1\r\n", false},
		{redistest.Drop, "", "", false},
		{redistest.CutBefore, "", "", true},
		{redistest.CutAfter, "1", "", true},
		{redistest.HalfThenCut, "", "", true},
	} {
		t.Run(tt.action.String(), func(t *testing.T) {
			s := redistest.Start(t)
			p := redistest.NewProxy(t, s.Addr())
			p.OnRequest(func(n int, b []byte) redistest.Action {
				if assert.Equal(t, 1, n); bytes.Contains(b, []byte("INCR")) {
					return tt.action
				}
				return redistest.Forward
			})
			judge(t, s, p, cmd, tt.hears, tt.executed, tt.cut)
		})
	}
}

func TestActionsOnReplies(t *testing.T) {
	const cmd = "INCRBY n 1234"
	for _, tt := range []struct {
		action redistest.Action
		hears  string
		cut    bool
	}{
		{redistest.Forward, ":1234\r\n", false},
		{redistest.Drop, "", false},
		{redistest.CutBefore, "", true},
		{redistest.CutAfter, ":1234\r\n", true},
		{redistest.HalfThenCut, ":12", true},
	} {
		t.Run(tt.action.String(), func(t *testing.T) {
			s := redistest.Start(t)
			p := redistest.NewProxy(t, s.Addr())
			p.OnReply(func(_ int, b []byte) redistest.Action {
				if b[0] == ':' {
					return tt.action
				}
				return redistest.Forward
			})
			judge(t, s, p, cmd, tt.hears, "1234", tt.cut)
		})
	}
}

// judge sends cmd through p and sees what came of it at both ends.
func judge(t *testing.T, s *redistest.Server, p *redistest.Proxy, cmd, hears, executed string, cut bool) {
	t.Helper()
	c := raw(t, p.Addr())
	say(t, c, "PING")
	hear(t, c, "+PONG\r\n")
	say(t, c, cmd)
	hear(t, c, hears)
	if cut {
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		redistest.Eventually(t, "the server has lost the client", 3*time.Second, func() bool { return s.NumClients(t) == 0 })
	} else {
		silent(t, c)
		say(t, c, "PING")
		hear(t, c, "+PONG\r\n")
	}
	if executed == "" {
		silentCounter(t, s)
		return
	}
	redistest.Eventually(t, "n is "+executed, time.Second, func() bool { return s.Admin().Get(ctx, "n").Val() == executed })
}

func silentCounter(t *testing.T, s *redistest.Server) {
	t.Helper()
	time.Sleep(20 * time.Millisecond)
	require.ErrorIs(t, s.Admin().Get(ctx, "n").Err(), redis.Nil)
}

func TestReplySlicesArriveInPieces(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	c := raw(t, p.Addr())
	p.ReplySlices(3)
	say(t, c, "ECHO 0123456789")
	want, got := "$10\r\n0123456789\r\n", ""
	reads := 0
	for b := make([]byte, 100); len(got) < len(want); reads++ {
		n, err := c.Read(b)
		require.NoError(t, err)
		got += string(b[:n])
	}
	assert.Equal(t, want, got)
	assert.Greater(t, reads, 1)
	p.ReplySlices(0)
	say(t, c, "PING")
	hear(t, c, "+PONG\r\n")
}

// A client under load while the proxy does its worst: no deadlock, no race, no
// reply of somebody else's.
func TestAProxyUnderLoadAndFaultsStaysItself(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.ReadTimeout, opt.DialTimeout = p.Addr(), 100*time.Millisecond, 100*time.Millisecond
	c := client(t, opt)
	var ok atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				want := redistest.UniqueKey(t, "v")
				got, err := c.Echo(ctx, want).Result()
				if err == nil {
					ok.Add(1)
					assert.Equal(t, want, got)
				}
			}
		})
	}
	for range 5 {
		time.Sleep(20 * time.Millisecond)
		p.CutAll()
		p.ReplySlices(7)
		time.Sleep(20 * time.Millisecond)
		p.StallExisting()
		p.RefuseNew(true)
		time.Sleep(20 * time.Millisecond)
		p.RefuseNew(false)
		p.Stall(true)
		time.Sleep(20 * time.Millisecond)
		p.Stall(false)
		p.ReplySlices(0)
	}
	p.CutAll()
	before := ok.Load()
	redistest.Eventually(t, "commands succeed again", 5*time.Second, func() bool { return ok.Load() > before+100 })
	close(stop)
	wg.Wait()
}

func TestABlockingCallbackDoesNotHangTheEndOfATest(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 3 s")
	}
	s := redistest.Start(t)
	block := make(chan struct{})
	ft := &errorT{TB: t}
	p := redistest.NewProxy(ft, s.Addr())
	entered := make(chan struct{})
	p.OnRequest(func(int, []byte) redistest.Action { close(entered); <-block; return redistest.Forward })
	say(t, raw(t, p.Addr()), "PING")
	<-entered
	p.Close()
	assert.Contains(t, ft.said, "does a callback")
	close(block)
}

type errorT struct {
	testing.TB
	said string
}

func (e *errorT) Cleanup(func()) {}
func (e *errorT) Errorf(format string, args ...any) {
	e.said = errors.New(format).Error()
}
