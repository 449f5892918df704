package managed_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// busyPool is a client whose 4 slots are taken: two leases, one command, and one
// connection of somebody's own.
func busyPool(t *testing.T, s *redistest.Server) *managed.Client {
	t.Helper()
	c := client(t, sized(s, 4, 50*time.Millisecond))
	ctx := t.Context()
	a, err := c.Acquire(managed.WithLabel(ctx, "nightly report"))
	require.NoError(t, err)
	require.NoError(t, a.Set(ctx, "k", "v", 0).Err())
	b, err := c.Acquire(ctx)
	require.NoError(t, err)
	own := c.Conn()
	require.NoError(t, own.Ping(ctx).Err())
	done := make(chan struct{})
	go func() { defer close(done); c.BRPop(ctx, 0, "list") }()
	redistest.Eventually(t, "a command in flight", soon, func() bool {
		for _, x := range c.Conns() {
			if x.State == hooks.StateBusy && x.LastCommand == "brpop" {
				return true
			}
		}
		return false
	})
	t.Cleanup(func() {
		s.Admin().LPush(context.Background(), "list", 1)
		<-done
		a.Release()
		b.Release()
		own.Close()
		full(t, c, 4)
		agree(t, s, c)
	})
	return c
}

func TestAnExhaustedPoolExplainsItself(t *testing.T) {
	s := redistest.Start(t)
	c := busyPool(t, s)
	_, failed := c.Acquire(t.Context())
	require.ErrorIs(t, failed, redis.ErrPoolTimeout)
	var e *managed.ExhaustedError
	require.ErrorAs(t, failed, &e)

	require.Equal(t, s.Addr(), e.Addr)
	require.Equal(t, 4, e.PoolSize)
	require.Equal(t, 4, e.InUse)
	require.Equal(t, 0, e.Waiting)
	require.GreaterOrEqual(t, e.Waited, 50*time.Millisecond)
	require.Less(t, e.Waited, soon)
	require.Len(t, e.Leases, 2)
	require.Equal(t, "nightly report", e.Leases[0].Label)
	require.Contains(t, e.Leases[0].Site(), "exhausted_test.go:")
	require.Len(t, e.InFlight, 1)
	require.Equal(t, "brpop", e.InFlight[0].LastCommand)
	require.Equal(t, 1, e.Other)
	require.NoError(t, e.LastDialError)
	require.ErrorIs(t, e.Cause, redis.ErrPoolTimeout)

	text := e.Error()
	for _, part := range []string{"lifeguard/managed: pool of " + s.Addr(), "4 of 4 connections in use", "gave up after",
		"2 leased, 1 with a command in flight, 1 held otherwise", "(nightly report) by ", "exhausted_test.go:",
		"last command set", "brpop in flight for", "connection pool timeout"} {
		require.Contains(t, text, part)
	}
	require.NotContains(t, text, "\n")
}

func TestPlainCommandsGetTheSameError(t *testing.T) {
	s := redistest.Start(t)
	c := busyPool(t, s)
	ctx := t.Context()
	for name, run := range map[string]func() error{
		"a command":     func() error { return c.Get(ctx, "k").Err() },
		"Do":            func() error { return c.Do(ctx, "GET", "k").Err() },
		"a transaction": func() error { return c.Watch(ctx, func(*redis.Tx) error { return nil }, "k") },
		"a Conn()":      func() error { conn := c.Conn(); defer conn.Close(); return conn.Get(ctx, "k").Err() },
		"a clone's":     func() error { return c.WithTimeout(time.Second).Get(ctx, "k").Err() },
		"a script's":    func() error { return redis.NewScript("return 1").Run(ctx, c, nil).Err() },
		"AcquireFunc":   func() error { return c.AcquireFunc(ctx, func(*managed.Conn) error { return nil }) },
	} {
		t.Run(name, func(t *testing.T) {
			err := run()
			require.ErrorIs(t, err, redis.ErrPoolTimeout)
			var e *managed.ExhaustedError
			require.ErrorAs(t, err, &e)
			require.Len(t, e.Leases, 2)
			require.Contains(t, err.Error(), "nightly report")
		})
	}
}

func TestTheErrorOfACommandIsTheErrorOfItsCmd(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 1, 10*time.Millisecond))
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	cmd := redis.NewStringCmd(t.Context(), "GET", "k")
	err = c.Process(t.Context(), cmd)
	require.Error(t, err)
	require.Same(t, err, cmd.Err())
}

func TestACtxThatEndsWhileWaitingIsBothErrors(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 1, 30*time.Second))
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = c.Acquire(short)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, redis.ErrPoolTimeout)
	var e *managed.ExhaustedError
	require.ErrorAs(t, err, &e)
	require.Len(t, e.Leases, 1)
	require.GreaterOrEqual(t, e.Waited, 10*time.Millisecond)

	short, cancel = context.WithCancel(t.Context())
	go func() {
		redistest.Eventually(t, "a waiter", soon, func() bool { return c.PoolStats().PendingRequests > 0 })
		cancel()
	}()
	_, err = c.Acquire(short)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, redis.ErrPoolTimeout)
	conn.Release()
	full(t, c, 1)
	require.Zero(t, c.PoolStats().PendingRequests)
}

func TestTheErrorCountsThoseWhoWaitToo(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 1, 30*time.Second))
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	waiters := make(chan error, 3)
	for range 3 {
		go func() { waiters <- c.Ping(t.Context()).Err() }()
	}
	redistest.Eventually(t, "three wait", soon, func() bool { return c.PoolStats().PendingRequests == 3 })
	_, err = c.TryAcquire(t.Context())
	var e *managed.ExhaustedError
	require.ErrorAs(t, err, &e)
	require.Equal(t, 3, e.Waiting)
	require.Contains(t, err.Error(), "3 more callers waiting")
	conn.Release()
	for range 3 {
		require.NoError(t, <-waiters)
	}
}

func TestTheErrorSaysWhyNoConnectionCouldBeDialed(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := sized(s, 2, 50*time.Millisecond)
	opt.Addr, opt.MaxRetries = p.Addr(), -1
	c := client(t, opt)
	a, err := c.Acquire(t.Context())
	require.NoError(t, err)
	p.Close() // those that are open end, and nobody listens any more
	require.Error(t, a.Ping(t.Context()).Err())
	_, err = c.TryAcquire(t.Context())
	require.ErrorContains(t, err, p.Addr())
	require.ErrorContains(t, err, "refused")
	b, err := c.TryAcquire(t.Context())
	require.Error(t, err)
	require.Nil(t, b)
	a.Release()
}

func TestALongListOfHoldersIsCutInTheText(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 12, time.Second))
	for i := range 12 {
		conn, err := c.Acquire(managed.WithLabel(t.Context(), fmt.Sprint("holder", i)))
		require.NoError(t, err)
		defer conn.Release()
	}
	_, err := c.TryAcquire(t.Context())
	require.Equal(t, 5, strings.Count(err.Error(), "(holder"))
	require.Contains(t, err.Error(), "and 7 more leases")
	var e *managed.ExhaustedError
	require.ErrorAs(t, err, &e)
	require.Len(t, e.Leases, 5)
	require.Equal(t, 12, e.Leased)
}
