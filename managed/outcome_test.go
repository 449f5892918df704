package managed_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// increments are the ways to send an INCR of the key n.
var increments = map[string]func(context.Context, *managed.Client) error{
	"command": func(ctx context.Context, c *managed.Client) error { return c.Incr(ctx, "n").Err() },
	"do":      func(ctx context.Context, c *managed.Client) error { return c.Do(ctx, "incr", "n").Err() },
	"clone": func(ctx context.Context, c *managed.Client) error {
		return c.WithTimeout(time.Minute).Incr(ctx, "n").Err()
	},
	"adaptive": func(ctx context.Context, c *managed.Client) error { return c.Adaptive().Incr(ctx, "n").Err() },
	"pipeline": func(ctx context.Context, c *managed.Client) error {
		cmds, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.Incr(ctx, "n")
			p.Incr(ctx, "n")
			return nil
		})
		for _, cmd := range cmds {
			if (cmd.Err() == nil) != (err == nil) {
				return fmt.Errorf("of the pipeline %v, of a command of it %v", err, cmd.Err())
			}
		}
		return err
	},
	"transaction": func(ctx context.Context, c *managed.Client) error {
		_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Incr(ctx, "n").Err() })
		return err
	},
	"watch": func(ctx context.Context, c *managed.Client) error {
		return c.Watch(ctx, func(tx *redis.Tx) error { return tx.Incr(ctx, "n").Err() }, "k")
	},
	"conn": func(ctx context.Context, c *managed.Client) error {
		conn := c.Conn()
		defer conn.Close()
		return conn.Incr(ctx, "n").Err()
	},
	"batch": func(ctx context.Context, c *managed.Client) error {
		done := make(chan error, 1)
		go func() { done <- c.Adaptive(managed.AlwaysBatch).Incr(ctx, "n").Err() }()
		return <-done
	},
}

func TestACtxThatEndsInTheQueueOfThePoolIsAnExhaustedPool(t *testing.T) {
	s := redistest.Start(t)
	for name, call := range increments {
		t.Run(name, func(t *testing.T) {
			opt := sized(s, 2, soon)
			opt.PipelinePoolSize = -1
			c := client(t, opt)
			held := func() *managed.Conn {
				conn, err := c.Acquire(t.Context())
				require.NoError(t, err)
				return conn
			}
			a, b := held(), held()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			defer cancel()
			before := c.Stats()
			err := call(ctx, c)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorIs(t, err, redis.ErrPoolTimeout)
			require.NotErrorIs(t, err, retry.ErrUnknownOutcome)
			require.Equal(t, retry.NotSent, retry.OutcomeOf(err))
			var e *managed.ExhaustedError
			require.ErrorAs(t, err, &e)
			require.Equal(t, 2, e.Leased)
			require.Len(t, e.Leases, 2)
			require.Positive(t, e.Waited)
			ne, ok := err.(net.Error)
			require.True(t, ok, "%T is no net.Error", err)
			require.True(t, ne.Timeout())
			after := c.Stats()
			require.Equal(t, before.PoolTimeouts+1, after.PoolTimeouts)
			require.Equal(t, before.Waits+1, after.Waits)
			require.Zero(t, after.UnknownOutcomes)
			a.Release()
			b.Release()
			require.NoError(t, call(t.Context(), c))
		})
	}
}

func TestAFullPoolAndASleepingServerGiveNoUnknownOutcomeForWhatWasNotSent(t *testing.T) {
	s := redistest.Start(t, "--enable-debug-command", "yes")
	c := client(t, sized(s, 10, soon))
	warm(t, c, 10)
	asleep := make(chan error, 1)
	go func() { asleep <- s.Admin().Do(context.Background(), "debug", "sleep", "1").Err() }()
	var unknown, exhausted atomic.Int32
	var wg sync.WaitGroup
	start := time.Now()
	for range 300 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			err := c.Incr(ctx, "n").Err()
			var e *managed.ExhaustedError
			switch {
			case errors.Is(err, retry.ErrUnknownOutcome):
				unknown.Add(1)
			case errors.As(err, &e):
				exhausted.Add(1)
			case err != nil:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Less(t, time.Since(start), soon)
	require.NoError(t, <-asleep)
	require.LessOrEqual(t, unknown.Load(), int32(20), "the pool has 10 connections")
	t.Logf("unknown %d, exhausted %d", unknown.Load(), exhausted.Load())
}

// warm opens n connections.
func warm(t testing.TB, c *managed.Client, n int) {
	t.Helper()
	got, err := c.Warm(t.Context(), n)
	require.NoError(t, err)
	require.Equal(t, n, got)
}

var errMine = errors.New("mine")

type refusingLimiter struct{ err error }

func (l refusingLimiter) Allow() error     { return l.err }
func (refusingLimiter) ReportResult(error) {}

type refusingHook struct{}

func (refusingHook) DialHook(next redis.DialHook) redis.DialHook { return next }
func (refusingHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "incr" {
			return errMine
		}
		return next(ctx, cmd)
	}
}
func (refusingHook) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			cmd.SetErr(errMine)
		}
		return errMine
	}
}

type unwilling struct{}

func (unwilling) MarshalBinary() ([]byte, error) { return nil, errMine }

func TestAnErrorOfTheUsersOwnComesBackAsItIsAndNothingWasSent(t *testing.T) {
	s := redistest.Start(t)
	for name, spoil := range map[string]func(*redis.Options){
		"credentials": func(o *redis.Options) {
			o.CredentialsProviderContext = func(context.Context) (string, string, error) { return "", "", errMine }
		},
		"OnConnect": func(o *redis.Options) { o.OnConnect = func(context.Context, *redis.Conn) error { return errMine } },
		"Limiter":   func(o *redis.Options) { o.Limiter = refusingLimiter{errMine} },
		"hook":      nil,
	} {
		for how, call := range increments {
			if name == "hook" && (how == "watch" || how == "clone") {
				continue // they have none
			}
			t.Run(name+"/"+how, func(t *testing.T) {
				opt := s.Options()
				if spoil != nil {
					spoil(opt)
				}
				c := client(t, opt)
				if spoil == nil {
					c.AddHook(refusingHook{})
				}
				err := call(t.Context(), c)
				require.True(t, err == errMine, "%T %v", err, err)
				require.Equal(t, retry.NotSent, retry.OutcomeOf(err))
				require.Zero(t, c.Stats().UnknownOutcomes)
			})
		}
	}
	c := client(t, s.Options())
	require.True(t, c.Set(t.Context(), "k", unwilling{}, 0).Err() == errMine)
	_, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error { return p.Append(t.Context(), "k", "").Err() })
	require.NoError(t, err)
	_, err = c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		p.Incr(t.Context(), "n")
		p.Set(t.Context(), "k", unwilling{}, 0)
		return nil
	})
	require.True(t, err == errMine, "%T %v", err, err)
}

// Also if the error looks like that of a connection.
func TestWhatALimiterRefusesIsNeverUnknown(t *testing.T) {
	s := redistest.Start(t)
	for _, refusal := range []error{io.EOF, net.ErrClosed, os.ErrDeadlineExceeded, &net.OpError{Op: "read", Err: errMine}} {
		for how, call := range increments {
			t.Run(refusal.Error()+"/"+how, func(t *testing.T) {
				t.Parallel()
				opt := s.Options()
				opt.Limiter = refusingLimiter{refusal}
				c := client(t, opt)
				err := call(deadline(t, 100*time.Millisecond), c)
				require.ErrorIs(t, err, refusal)
				require.Equal(t, retry.NotSent, retry.OutcomeOf(err), "%T %v", err, err)
				require.Zero(t, c.Stats().UnknownOutcomes)
			})
		}
	}
}

func TestWhatAHandshakeIsAnsweredWithSaysThatNothingWasSent(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "right")
	opt := s.Options()
	opt.Password = "wrong"
	c := client(t, opt)
	for how, call := range increments {
		err := call(t.Context(), c)
		require.Error(t, err, how)
		require.Contains(t, err.Error(), "WRONGPASS", how)
		var reply redis.Error
		require.ErrorAs(t, err, &reply, how)
		require.Equal(t, retry.NotSent, retry.OutcomeOf(err), how)
		require.NotErrorIs(t, err, retry.ErrUnknownOutcome, how)
	}
}

func TestACtxThatEndsWhileACommandIsInFlightIsFoundInItsError(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	for _, obey := range []bool{true, false} {
		opt := s.Options()
		opt.Addr, opt.ContextTimeoutEnabled = p.Addr(), obey
		opt.ReadTimeout = 300 * time.Millisecond
		c := client(t, opt)
		require.NoError(t, c.Ping(t.Context()).Err())
		p.OnReply(func(int, []byte) redistest.Action { return redistest.Drop })
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err := c.Incr(ctx, "n").Err()
		require.ErrorIs(t, err, retry.ErrUnknownOutcome)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		ne, ok := err.(net.Error)
		require.True(t, ok && ne.Timeout())
		ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err = c.Get(ctx, "n").Err()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, retry.ErrUnknownOutcome)
		p.OnReply(nil)
		_ = c.Close()
	}
}

func TestATruncatedReplyIsAnUnexpectedEOF(t *testing.T) {
	s := redistest.Start(t)
	require.NoError(t, s.Admin().Set(t.Context(), "k", strings.Repeat("x", 1000), 0).Err())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	go cutInside(ln, s.Addr())
	opt := s.Options()
	opt.Addr, opt.MaxRetries, opt.PipelinePoolSize = ln.Addr().String(), -1, -1
	plain := redis.NewClient(opt)
	defer plain.Close()
	require.ErrorIs(t, plain.Get(t.Context(), "k").Err(), io.ErrUnexpectedEOF)
	require.ErrorIs(t, client(t, opt).Get(t.Context(), "k").Err(), io.ErrUnexpectedEOF)
}

// cutInside forwards, and closes a connection inside of the first long reply.
func cutInside(ln net.Listener, to string) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		up, err := net.Dial("tcp", to)
		if err != nil {
			_ = c.Close()
			return
		}
		go func() { _, _ = io.Copy(up, c) }()
		go func() {
			defer c.Close()
			defer up.Close()
			b := make([]byte, 4096)
			for {
				n, err := up.Read(b)
				if err != nil {
					return
				}
				if n > 1000 {
					_, _ = c.Write(b[:500])
					return
				}
				_, _ = c.Write(b[:n])
			}
		}()
	}
}

func TestTheNameInAnUnknownOutcomeIsNeverAnArgument(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr = p.Addr()
	c := client(t, opt)
	require.NoError(t, c.Ping(t.Context()).Err())
	p.OnRequest(func(_ int, b []byte) redistest.Action {
		if strings.Contains(string(b), "secret") {
			return redistest.CutAfter // the reply is lost
		}
		return redistest.Forward
	})
	for _, args := range [][]any{{"SET token secret"}, {"secret", "k"}, {"CONFIG", "secret"}, {"config", "set secret"}} {
		err := c.Do(t.Context(), args...).Err()
		var e *retry.UnknownOutcomeError
		require.ErrorAs(t, err, &e)
		require.NotContains(t, e.Command, "secret")
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestACommandOnALeaseWhoseCtxIsDoneWasNotSent(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, s.Options())
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := c.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	cancel()
	err = conn.Incr(t.Context(), "n").Err()
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, retry.NotSent, retry.OutcomeOf(err))

	short, stop := context.WithTimeout(t.Context(), 0)
	defer stop()
	other, err := c.Acquire(t.Context())
	require.NoError(t, err)
	defer other.Release()
	err = other.Incr(short, "n").Err()
	require.ErrorIs(t, err, context.DeadlineExceeded)
	ne, ok := err.(net.Error)
	require.True(t, ok && ne.Timeout(), "%T", err)
}

func TestOneAttemptIsOneDial(t *testing.T) {
	s := redistest.Start(t)
	s.Kill()
	opt := s.Options()
	opt.MaxRetries = -1
	c := client(t, opt)
	for how, call := range increments {
		start := time.Now()
		err := call(t.Context(), c)
		require.Error(t, err, how)
		require.Less(t, time.Since(start), time.Second, how)
		require.Equal(t, retry.NotSent, retry.OutcomeOf(err), how)
		var e *hooks.ConnError
		require.ErrorAs(t, err, &e, how)
		require.Equal(t, conntrack.OpDial, e.Op, how)
		_, ok := err.(net.Error)
		require.True(t, ok, "%s: %T", how, err)
	}
}

func TestWithoutADeadlineAnUnreachableServerFailsAfterTheBreakersTimeOnce(t *testing.T) {
	s := redistest.Start(t)
	s.Kill()
	policy := retry.Default()
	policy.Breaker.After = 500 * time.Millisecond
	for how, call := range increments {
		if how == "watch" || how == "conn" {
			continue
		}
		t.Run(how, func(t *testing.T) {
			c := client(t, s.Options(), managed.WithRetry(policy))
			start := time.Now()
			err := call(t.Context(), c)
			took := time.Since(start)
			require.Error(t, err)
			require.Less(t, took, 950*time.Millisecond)
			require.Greater(t, took, 400*time.Millisecond)
			_, ok := err.(net.Error)
			require.True(t, ok, "%T", err)
		})
	}
}

func TestWaitingBringsNoNodesWhereNoneWasGiven(t *testing.T) {
	ring, err := managed.NewRingClient(&redis.RingOptions{Addrs: map[string]string{}}, managed.WithLogger(quiet))
	require.NoError(t, err)
	defer ring.Close()
	cluster, err := managed.NewCluster(&redis.ClusterOptions{}, managed.WithLogger(quiet))
	require.NoError(t, err)
	defer cluster.Close()
	plainRing := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{}})
	defer plainRing.Close()
	plainCluster := redis.NewClusterClient(&redis.ClusterOptions{})
	defer plainCluster.Close()
	for _, pair := range [][2]redis.UniversalClient{{ring, plainRing}, {cluster, plainCluster}} {
		start := time.Now()
		want := pair[1].Get(t.Context(), "k").Err().Error()
		require.EqualError(t, pair[0].Get(t.Context(), "k").Err(), want)
		_, err := pair[0].Pipelined(t.Context(), func(p redis.Pipeliner) error { return p.Get(t.Context(), "k").Err() })
		require.EqualError(t, err, want)
		_, err = pair[0].TxPipelined(t.Context(), func(p redis.Pipeliner) error { return p.Get(t.Context(), "k").Err() })
		_, wantTx := pair[1].TxPipelined(t.Context(), func(p redis.Pipeliner) error { return p.Get(t.Context(), "k").Err() })
		require.EqualError(t, err, wantTx.Error())
		require.Less(t, time.Since(start), 3*time.Second)
	}
}

func TestALoggerMayUseTheClientThatLogs(t *testing.T) {
	s := redistest.Start(t)
	s.Kill()
	policy := retry.Default()
	policy.Breaker.After = 50 * time.Millisecond
	h := &loggingIntoRedis{}
	c, err := managed.New(s.Options(), managed.WithRetry(policy), managed.WithLogger(h.logger()))
	require.NoError(t, err)
	h.client.Store(c)
	t.Cleanup(func() { _ = c.Close() })
	within(t, "calls while the logger writes to Redis", func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for ctx.Err() == nil {
			_ = c.Incr(ctx, "n").Err()
		}
	})
	require.Positive(t, h.lines.Load())
}

// loggingIntoRedis is a slog.Handler that writes what it is told into Redis.
type loggingIntoRedis struct {
	client atomic.Pointer[managed.Client]
	lines  atomic.Int32
	busy   atomic.Bool
}

func (h *loggingIntoRedis) logger() *slog.Logger { return slog.New(h) }

func (h *loggingIntoRedis) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (h *loggingIntoRedis) WithAttrs([]slog.Attr) slog.Handler           { return h }
func (h *loggingIntoRedis) WithGroup(string) slog.Handler                { return h }
func (h *loggingIntoRedis) Handle(_ context.Context, r slog.Record) error {
	h.lines.Add(1)
	c := h.client.Load()
	if c == nil || !h.busy.CompareAndSwap(false, true) {
		return nil
	}
	defer h.busy.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	return c.LPush(ctx, "log", r.Message).Err()
}

func TestAFullPoolOfANodeIsExplainedByItsOwnHolders(t *testing.T) {
	c := redistest.StartCluster(t, "redis-server", 2, 0)
	opt := c.Options()
	opt.PoolSize, opt.PoolTimeout = 1, soon
	rdb, err := managed.NewCluster(opt, managed.WithLogger(quiet))
	require.NoError(t, err)
	defer rdb.Close()
	here, there := c.Key(0, "k"), c.Key(1, "k")
	a, err := rdb.Acquire(t.Context(), here)
	require.NoError(t, err)
	defer a.Release()
	b, err := rdb.Acquire(t.Context(), there)
	require.NoError(t, err)
	defer b.Release()
	for how, call := range map[string]func(context.Context) error{
		"command":  func(ctx context.Context) error { return rdb.Incr(ctx, here).Err() },
		"adaptive": func(ctx context.Context) error { return rdb.Adaptive().Incr(ctx, here).Err() },
		"watch": func(ctx context.Context) error {
			return rdb.Watch(ctx, func(tx *redis.Tx) error { return tx.Incr(ctx, here).Err() }, here)
		},
		"acquire": func(ctx context.Context) error { _, err := rdb.Acquire(ctx, here); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		err := call(ctx)
		cancel()
		require.Less(t, time.Since(start), soon/2, how)
		require.ErrorIs(t, err, context.DeadlineExceeded, how)
		require.ErrorIs(t, err, redis.ErrPoolTimeout, how)
		require.Equal(t, retry.NotSent, retry.OutcomeOf(err), how)
		var e *managed.ExhaustedError
		require.ErrorAs(t, err, &e, how)
		require.Equal(t, 1, e.Leased, how)
		require.Len(t, e.Leases, 1, how)
		require.Equal(t, c.Master(0).Addr(), e.Addr, how)
	}
	require.Zero(t, rdb.Stats().UnknownOutcomes)

	c.Master(0).Kill()
	a.Release()
	for i := range 8 { // whether its ctx ends in an attempt or between two
		ctx, cancel := context.WithCancel(t.Context())
		stop := time.AfterFunc(time.Duration(30+20*i)*time.Millisecond, cancel)
		_, err := rdb.Acquire(ctx, here)
		stop.Stop()
		cancel()
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, retry.NotSent, retry.OutcomeOf(err))
	}
}

func TestTheWriteOfASecondCommandThatFailsWasNotSent(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, s.Options())
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	require.NoError(t, conn.Incr(t.Context(), "n").Err())
	s.Kill()
	redistest.Eventually(t, "a write fails", soon, func() bool {
		err = conn.Incr(t.Context(), "n").Err()
		return err != nil
	})
	var e *hooks.ConnError
	require.ErrorAs(t, err, &e)
	require.Equal(t, e.Wrote, retry.OutcomeOf(err) == retry.Unknown)
	if e.Op == conntrack.OpWrite {
		require.False(t, e.Wrote)
	}
}

func TestAnErrorOfTheNetworkFromTheUsersCodeBeforeAWatchSaysThatNothingWasSent(t *testing.T) {
	s, one := redistest.Start(t), redistest.StartOneNodeCluster(t)
	ctx := t.Context()
	mine := &net.OpError{Op: "read", Net: "tcp", Err: errors.New("the vault does not answer")}
	get := func(context.Context) (string, string, error) { return "", "", mine }
	opt, slots := s.Options(), slotsOf(one)
	opt.CredentialsProviderContext, slots.CredentialsProviderContext = get, get
	policy := managed.WithRetry(retry.Policy{MaxAttempts: 1})
	for name, c := range map[string]redis.UniversalClient{
		"client": client(t, opt, policy), "cluster": clusterClient(t, slots, policy),
	} {
		for call, err := range map[string]error{
			"command": c.Incr(ctx, "n").Err(),
			"watch":   c.Watch(ctx, func(*redis.Tx) error { return nil }, "n"),
		} {
			require.ErrorIs(t, err, mine, "%s, %s", name, call)
			require.Equal(t, retry.NotSent, retry.OutcomeOf(err), "%s, %s: %T %v", name, call, err, err)
			_, ok := err.(net.Error)
			require.True(t, ok, "%s, %s: %T", name, call, err)
		}
	}
}
