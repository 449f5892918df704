package integration_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// faultyReplies does something to the replies of commands on the key k, not to
// those of handshakes.
func faultyReplies(p *redistest.Proxy, a redistest.Action) {
	var onK sync.Map
	p.OnReply(func(n int, _ []byte) redistest.Action {
		if _, is := onK.Load(n); is {
			return a
		}
		return redistest.Forward
	})
	p.OnRequest(func(n int, b []byte) redistest.Action {
		if bytes.Contains(b, []byte("\r\nk\r\n")) {
			onK.Store(n, true)
		}
		return redistest.Forward
	})
}

func TestCallersSeeTheRealErrorAndWhetherItMayHaveHappened(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr())
	opt := behind(s, proxy)
	opt.ReadTimeout = 200 * time.Millisecond
	p := retry.Default()
	p.MaxAttempts = 1
	once := guarded(t, opt, managed.WithRetry(p))
	rdb := guarded(t, opt)
	ctx := upTo(t, 30*time.Second)
	for _, c := range []*managed.Client{once, rdb} {
		if err := c.Ping(ctx).Err(); err != nil {
			t.Fatal(err)
		}
	}
	isEOF := func(t *testing.T, err error) {
		var ce *hooks.ConnError
		if !errors.Is(err, io.EOF) || !errors.As(err, &ce) || !ce.Wrote || ce.Op != conntrack.OpRead {
			t.Errorf("%#v", err)
		}
	}
	isTimeout := func(t *testing.T, err error) {
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("%#v", err)
		}
	}
	isUnknown := func(t *testing.T, err error, name string) {
		var u *retry.UnknownOutcomeError
		if !errors.Is(err, retry.ErrUnknownOutcome) || !errors.As(err, &u) || u.Command != name || u.Attempts != 1 || retry.OutcomeOf(err) != retry.Unknown {
			t.Errorf("%#v", err)
		}
	}
	for _, fault := range []struct {
		name   string
		action redistest.Action
		check  func(*testing.T, error)
	}{{"closed", redistest.CutBefore, isEOF}, {"silent", redistest.Drop, isTimeout}} {
		faultyReplies(proxy, fault.action)
		t.Run("INCR, "+fault.name, func(t *testing.T) {
			cmd := rdb.Incr(ctx, "k")
			fault.check(t, cmd.Err())
			isUnknown(t, cmd.Err(), "incr")
		})
		t.Run("GET with one attempt, "+fault.name, func(t *testing.T) {
			err := once.Get(ctx, "k").Err()
			fault.check(t, err)
			if errors.Is(err, retry.ErrUnknownOutcome) {
				t.Errorf("a read has no outcome: %v", err)
			}
		})
		t.Run("SET with one attempt, "+fault.name, func(t *testing.T) {
			err := once.Set(ctx, "k", 1, 0).Err()
			fault.check(t, err)
			isUnknown(t, err, "set")
		})
		t.Run("pipeline, "+fault.name, func(t *testing.T) {
			cmds, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); p.Incr(ctx, "k"); return nil })
			fault.check(t, err)
			fault.check(t, cmds[0].Err())
			fault.check(t, cmds[1].Err())
			isUnknown(t, cmds[1].Err(), "incr")
			if errors.Is(cmds[0].Err(), retry.ErrUnknownOutcome) {
				t.Errorf("a read has no outcome: %v", cmds[0].Err())
			}
		})
		t.Run("lease, "+fault.name, func(t *testing.T) {
			proxy.OnReply(nil)
			err := rdb.AcquireFunc(ctx, func(c *managed.Conn) error {
				faultyReplies(proxy, fault.action)
				return c.Incr(ctx, "k").Err()
			})
			fault.check(t, err)
			if retry.OutcomeOf(err) != retry.Unknown {
				t.Errorf("outcome of %v: %v", err, retry.OutcomeOf(err))
			}
		})
	}
	proxy.OnReply(nil)
	if v, err := rdb.Do(ctx, "NO-SUCH-COMMAND").Result(); err == nil || !strings.HasPrefix(err.Error(), "ERR unknown command") {
		t.Errorf("the server's own error: %v, %v", v, err)
	}
	if err := rdb.Get(ctx, "nothing").Err(); err != redis.Nil {
		t.Errorf("redis.Nil: %v", err)
	}
}

// A hook of the user's sees each call once, with the error that the caller gets. One on
// the client inside sees each attempt, with that attempt's error.
func TestUserHooksSeeEachCallOnceAndThoseOfTheClientInsideEachAttempt(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr())
	rdb := guarded(t, behind(s, proxy))
	ctx := upTo(t, 20*time.Second)
	if err := rdb.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	var calls, attempts []error
	rdb.Client.AddHook(&watching{seen: func(_ redis.Cmder, err error) { attempts = append(attempts, err) }})
	rdb.AddHook(&watching{seen: func(_ redis.Cmder, err error) { calls = append(calls, err) }})
	left := 2
	proxy.OnReply(func(_ int, b []byte) redistest.Action {
		if left > 0 && strings.HasPrefix(string(b), "$5") {
			left--
			return redistest.CutBefore
		}
		return redistest.Forward
	})
	if err := s.Admin().Set(ctx, "k", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if v, err := rdb.Get(ctx, "k").Result(); err != nil || v != "value" {
		t.Fatalf("%q, %v", v, err)
	}
	if len(attempts) != 3 || attempts[2] != nil {
		t.Fatalf("the hook of the client inside saw %v", attempts)
	}
	for _, err := range attempts[:2] {
		if !errors.Is(err, io.EOF) {
			t.Errorf("%#v", err)
		}
	}
	if len(calls) != 1 || calls[0] != nil {
		t.Errorf("the hook of the managed client saw %v", calls)
	}
}

func TestTheErrorOfACommandIsItsOwnAndNotThatOfAnEarlierAttempt(t *testing.T) {
	s := redistest.Start(t)
	rdb := guarded(t, s.Options())
	ctx := upTo(t, 20*time.Second)
	s.Kill()
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	cmd := redis.NewStringCmd(ctx, "get", "k")
	if err := rdb.Process(short, cmd); err == nil || cmd.Err() == nil {
		t.Fatalf("%v, %v", err, cmd.Err())
	}
	s.Restart()
	if err := rdb.Process(ctx, cmd); err != redis.Nil { // the same command again
		t.Errorf("%v", err)
	}
	if err := cmd.Err(); err != redis.Nil && err != nil {
		t.Logf("go-redis keeps the first error in a command that is sent again: %v", err)
	}
}
