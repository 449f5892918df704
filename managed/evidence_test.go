package managed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// slowly passes requests on at so many bytes a second, on each connection.
func slowly(p *redistest.Proxy, perSecond int) {
	p.OnRequest(func(_ int, b []byte) redistest.Action {
		time.Sleep(time.Duration(len(b)) * time.Second / time.Duration(perSecond))
		return redistest.Forward
	})
}

// late holds up the replies of connections that have been asked for something.
func late(p *redistest.Proxy, what string, d time.Duration) {
	var slow [1 << 10]atomic.Bool
	p.OnRequest(func(n int, b []byte) redistest.Action {
		if bytes.Contains(b, []byte(what)) {
			slow[n].Store(true)
		}
		return redistest.Forward
	})
	p.OnReply(func(n int, _ []byte) redistest.Action {
		if slow[n].Swap(false) {
			time.Sleep(d)
		}
		return redistest.Forward
	})
}

// leftAlone checks that a healthy client has lost nothing.
func leftAlone(t testing.TB, c *managed.Client) {
	t.Helper()
	require.Empty(t, c.CloseReasons(), "connections ended")
	require.Zero(t, c.RetryStats().Retries, "commands were sent again")
}

// Whatever is slow and alive takes as long as with go-redis alone, happens once,
// and costs no connection.
func TestWhatIsSlowIsLeftAlone(t *testing.T) {
	big := strings.Repeat("x", 2<<20)
	type do = func(ctx context.Context, c redis.UniversalClient) error
	push := func(ctx context.Context, c redis.UniversalClient) error { return c.RPush(ctx, "list", big).Err() }
	incr := func(ctx context.Context, c redis.UniversalClient) error { return c.Incr(ctx, "sluggish").Err() }
	for _, x := range []struct {
		name string
		slow func(*testing.T, *redistest.Server, *redistest.Proxy)
		do   do
		once func(ctx context.Context, c *redis.Client) (int64, error)
	}{
		{"RPUSH over a slow line", func(_ *testing.T, _ *redistest.Server, p *redistest.Proxy) { slowly(p, 2<<20) }, push,
			func(ctx context.Context, c *redis.Client) (int64, error) { return c.LLen(ctx, "list").Result() }},
		{"SET over a slow line", func(_ *testing.T, _ *redistest.Server, p *redistest.Proxy) { slowly(p, 3<<19) },
			func(ctx context.Context, c redis.UniversalClient) error { return c.Set(ctx, "big", big, 0).Err() }, nil},
		{"a pipeline over a slow line", func(_ *testing.T, _ *redistest.Server, p *redistest.Proxy) { slowly(p, 2<<20) },
			func(ctx context.Context, c redis.UniversalClient) error {
				_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
					for range 4 {
						p.RPush(ctx, "list", big[:1<<19])
					}
					return nil
				})
				return err
			}, func(ctx context.Context, c *redis.Client) (int64, error) {
				n, err := c.LLen(ctx, "list").Result()
				return n / 4, err
			}},
		{"a write of a slow shard", func(_ *testing.T, _ *redistest.Server, p *redistest.Proxy) {
			late(p, "sluggish", 1500*time.Millisecond)
		}, incr,
			func(ctx context.Context, c *redis.Client) (int64, error) { return c.Get(ctx, "sluggish").Int64() }},
		{"a read of a slow shard", func(_ *testing.T, _ *redistest.Server, p *redistest.Proxy) {
			late(p, "sluggish", 1500*time.Millisecond)
		},
			func(ctx context.Context, c redis.UniversalClient) error {
				if err := c.Get(ctx, "sluggish").Err(); err != redis.Nil {
					return err
				}
				return nil
			}, nil},
		{"a server that stands still", func(t *testing.T, s *redistest.Server, _ *redistest.Proxy) {
			go s.Admin().Do(context.Background(), "DEBUG", "SLEEP", "1.5")
			time.Sleep(20 * time.Millisecond)
		}, incr, func(ctx context.Context, c *redis.Client) (int64, error) { return c.Get(ctx, "sluggish").Int64() }},
		{"FLUSHALL of many keys", func(t *testing.T, s *redistest.Server, _ *redistest.Proxy) {
			require.NoError(t, s.Admin().Do(t.Context(), "DEBUG", "POPULATE", "1500000", "key", "64").Err())
		}, func(ctx context.Context, c redis.UniversalClient) error { return c.Do(ctx, "FLUSHALL", "SYNC").Err() }, nil},
		{"a script that others do not wait for", func(_ *testing.T, _ *redistest.Server, p *redistest.Proxy) {
			late(p, "sluggish", 1500*time.Millisecond)
		},
			func(ctx context.Context, c redis.UniversalClient) error {
				return c.Eval(ctx, "return redis.call('INCR', KEYS[1])", []string{"sluggish"}).Err()
			}, func(ctx context.Context, c *redis.Client) (int64, error) { return c.Get(ctx, "sluggish").Int64() }},
		{"a queue that is empty", func(*testing.T, *redistest.Server, *redistest.Proxy) {},
			func(ctx context.Context, c redis.UniversalClient) error {
				if err := c.BLPop(ctx, 2*time.Second, "none").Err(); err != redis.Nil {
					return err
				}
				return nil
			}, nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t, "--enable-debug-command", "yes")
			p := redistest.NewProxy(t, s.Addr())
			opt := s.Options()
			opt.Addr = p.Addr()
			opt.PoolSize = 10
			c := client(t, opt)
			burst(t, c, 6)
			settled(t, s)
			bare := redis.NewClient(opt)
			defer bare.Close()
			run := func(c redis.UniversalClient) time.Duration {
				x.slow(t, s, p)
				began := time.Now()
				require.NoError(t, x.do(t.Context(), c))
				return redistest.Took(began)
			}
			ours, theirs := run(c), run(bare)
			t.Logf("ours took %v, go-redis's %v", ours, theirs)
			if x.once != nil {
				n, err := x.once(t.Context(), s.Admin())
				require.NoError(t, err)
				require.EqualValues(t, 2, n, "once by each client")
			}
			leftAlone(t, c)
		})
	}
}

// A peer that does not read keeps its window closed, and is alive.
func TestAClosedWindowIsNoDeadPeer(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--enable-debug-command", "yes")
	opt := s.Options()
	opt.PoolSize, opt.ReadTimeout, opt.WriteTimeout = 4, -1, -1
	c := client(t, opt)
	burst(t, c, 4)
	settled(t, s)
	go s.Admin().Do(context.Background(), "DEBUG", "SLEEP", "4")
	time.Sleep(20 * time.Millisecond)
	big := strings.Repeat("x", 1<<20)
	_, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for i := range 24 {
			p.Append(t.Context(), fmt.Sprint("key", i), big)
		}
		return nil
	})
	require.NoError(t, err)
	leftAlone(t, c)
}

// An idle connection that a firewall has forgotten says nothing about one that is in use.
func TestASiblingThatDiedOfIdlenessSaysNothingOfAConnectionInUse(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize = p.Addr(), 4
	var clk clock
	c := client(t, opt, clk.option())
	burst(t, c, 2)
	settled(t, s)
	p.StallExisting()
	clk.advance(2 * time.Second)
	conn := fresh(t, c, 2)
	defer conn.Release()
	require.NoError(t, conn.Ping(t.Context()).Err())
	late(p, "sluggish", 1500*time.Millisecond)
	require.NoError(t, conn.Incr(t.Context(), "sluggish").Err())
	require.Equal(t, map[hooks.Reason]uint64{hooks.ReasonSuspected: 2}, c.CloseReasons(), "the two that were dead")
}

// fresh leases until it gets a connection that was opened after the first n, and
// gives the others back.
func fresh(t testing.TB, c *managed.Client, n int) *managed.Conn {
	t.Helper()
	var held []*managed.Conn
	defer func() {
		for _, conn := range held {
			conn.Release()
		}
	}()
	for range n {
		conn, err := c.Acquire(t.Context())
		require.NoError(t, err)
		held = append(held, conn)
	}
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	return conn
}

// With an idle sibling a half-open connection is found although its bytes are
// acknowledged by something on the way; the error and the event name the evidence.
func TestAHalfOpenConnectionIsFoundByAnIdleSibling(t *testing.T) {
	for _, cmd := range []string{"incr", "blpop", "get"} {
		t.Run(cmd, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			p := redistest.NewProxy(t, s.Addr())
			opt := s.Options()
			opt.Addr, opt.PoolSize, opt.ReadTimeout = p.Addr(), 4, 10*time.Second
			var ev events
			c := client(t, opt, ev.option())
			burst(t, c, 3)
			settled(t, s)
			p.StallExisting()
			began := time.Now()
			var err error
			switch cmd {
			case "incr":
				err = c.Incr(t.Context(), "n").Err()
			case "blpop":
				err = c.BLPop(t.Context(), 20*time.Second, "none").Err()
			default:
				require.ErrorIs(t, c.Get(t.Context(), "none").Err(), redis.Nil) // repeated
			}
			took := redistest.Took(began)
			t.Logf("after %v: %v", took, err)
			require.Less(t, took, 1500*time.Millisecond)
			if cmd != "get" {
				require.ErrorIs(t, err, retry.ErrUnknownOutcome)
				require.ErrorContains(t, err, "another connection, heard from no earlier, did not answer a PING, while a new one did")
			}
			for _, e := range ev.wait(t, hooks.Closed, 3) {
				require.Equal(t, hooks.ReasonSuspected, e.Reason)
			}
		})
	}
}

// Where something acknowledges for a dead server and no connection is idle there is
// no evidence, and the caller's own limit decides, as in go-redis.
func TestWithoutEvidenceAHalfOpenConnectionCostsTheReadTimeout(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize, opt.ReadTimeout = p.Addr(), 1, 1200*time.Millisecond
	c := client(t, opt)
	require.NoError(t, c.Ping(t.Context()).Err())
	settled(t, s)
	p.StallExisting()
	began := time.Now()
	require.ErrorIs(t, c.Get(t.Context(), "none").Err(), redis.Nil)
	require.Greater(t, redistest.Took(began), 1100*time.Millisecond)
	require.Equal(t, map[hooks.Reason]uint64{hooks.ReasonError: 1}, c.CloseReasons())
}

// What is sent again because of our own verdict is paid for like everything else.
func TestRepeatsAfterAVerdictArePaidForFromTheBudget(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize, opt.ReadTimeout = p.Addr(), 4, 10*time.Second
	policy := retry.Default()
	policy.Budget = retry.NewBudget(0, 0)
	c := client(t, opt, managed.WithRetry(policy))
	burst(t, c, 3)
	settled(t, s)
	p.StallExisting()
	require.ErrorContains(t, c.Get(t.Context(), "none").Err(), "half-open")
	require.EqualValues(t, 1, c.RetryStats().BudgetRefusals)
}

// The ctx of an Acquire bounds the Acquire, not the answer of the connection that
// it would have got.
func TestAnAcquireThatGivesUpLeavesItsConnectionAlive(t *testing.T) {
	for _, obeyed := range []bool{false, true} {
		t.Run(fmt.Sprint("ContextTimeoutEnabled ", obeyed), func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			p := redistest.NewProxy(t, s.Addr())
			opt := s.Options()
			opt.Addr, opt.PoolSize, opt.ContextTimeoutEnabled = p.Addr(), 1, obeyed // so that no second one is opened while the first is busy
			var ev events
			c := client(t, opt, ev.option(), managed.WithValidateAfter(0))
			conn, err := c.Acquire(t.Context())
			require.NoError(t, err)
			id := conn.Info().ID
			conn.Release()
			settled(t, s)
			p.OnReply(func(int, []byte) redistest.Action { time.Sleep(80 * time.Millisecond); return redistest.Forward })
			back := func() { // the connection, when the PING that nobody waits for has its reply
				require.Eventually(t, func() bool { return c.PoolStats().IdleConns == 1 }, 30*time.Second, time.Millisecond)
			}
			for range 3 {
				began := time.Now()
				_, err = c.Acquire(deadline(t, 5*time.Millisecond))
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Less(t, redistest.Took(began), 50*time.Millisecond)
				back()
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(5*time.Millisecond, cancel)
				_, err = c.Acquire(ctx)
				require.ErrorIs(t, err, context.Canceled)
				back()
			}
			conn, err = c.Acquire(t.Context())
			require.NoError(t, err)
			require.Equal(t, id, conn.Info().ID, "the same one")
			conn.Release()
			require.Empty(t, ev.of(hooks.Closed))
			require.Equal(t, 1, p.Conns())
			full(t, c, 1)
		})
	}
}

// A Write that takes its time is not judged by the clock.
func TestAWriteThatIsRunningIsNotJudged(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize, opt.WriteTimeout = p.Addr(), 4, 10*time.Second
	c := client(t, opt)
	burst(t, c, 3)
	settled(t, s)
	slowly(p, 8<<20)
	done := make(chan error, 1)
	go func() { done <- c.Set(context.Background(), "big", strings.Repeat("x", 16<<20), 0).Err() }()
	var err error
	seen := false
	for err = errors.New("not done"); err != nil && err.Error() == "not done"; {
		for _, i := range c.Conns() {
			seen = seen || i.State == hooks.StateBusy && i.Idle > time.Second
		}
		select {
		case err = <-done:
		case <-time.After(10 * time.Millisecond):
		}
	}
	require.NoError(t, err)
	require.True(t, seen, "it took more than a second")
	leftAlone(t, c)
}
