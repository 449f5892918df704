package managed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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

// settled waits until maintenance has asked for the server's timeout: that is a
// command of its own.
func settled(t testing.TB, s *redistest.Server) {
	t.Helper()
	redistest.Eventually(t, "the server was asked for maxclients and timeout", soon, func() bool { return calls(t, s, "config|get") >= 2 })
}

// crowd runs n callers, GET and SET in turns, k commands each, and returns how
// long each command took, sorted, and the errors.
func crowd(c *managed.Client, n, k int) (took []time.Duration, errs []error) {
	return crowdOf(n, k, func(ctx context.Context, i, j int) error {
		key := fmt.Sprint("crowd", i)
		if (i+j)%2 == 0 {
			return c.Set(ctx, key, j, 0).Err()
		}
		return c.Get(ctx, key).Err()
	})
}

func crowdOf(n, k int, do func(ctx context.Context, i, j int) error) (took []time.Duration, errs []error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	ctx := context.Background()
	for i := range n {
		wg.Go(func() {
			for j := range k {
				began := time.Now()
				err := do(ctx, i, j)
				if errors.Is(err, redis.Nil) {
					err = nil
				}
				d := redistest.Took(began)
				mu.Lock()
				took = append(took, d)
				if err != nil {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	return took, errs
}

func TestAfterAllConnectionsWereKilledNobodySeesAnErrorOrWaits(t *testing.T) {
	transports(t, func(t *testing.T, s *redistest.Server, opt *redis.Options) {
		opt.PoolSize, opt.ReadTimeout = 100, 3*time.Second
		c := client(t, opt)
		burst(t, c, 100)
		require.GreaterOrEqual(t, s.KillClients(t), 100)
		took, errs := crowd(c, 100, 3)
		t.Logf("idle: the longest of %d took %v; %v", len(took), took[len(took)-1], c.CloseReasons())
		require.Empty(t, errs)
		require.Less(t, took[len(took)-1], opt.ReadTimeout)
		agrees(t, s, c)
		for range 3 { // and in the middle of commands
			killed := make(chan int)
			go func() {
				time.Sleep(10 * time.Millisecond)
				killed <- s.KillClients(t)
			}()
			took, errs = crowd(c, 100, 10)
			t.Logf("in use: %d killed, the longest of %d took %v", <-killed, len(took), took[len(took)-1])
			require.Empty(t, errs)
			require.Less(t, took[len(took)-1], opt.ReadTimeout)
		}
	})
}

// idleHeardLast fills the pool so that the connections which go-redis takes first
// are those that received something first: the others prove it.
func idleHeardLast(t testing.TB, c *managed.Client, n int) {
	t.Helper()
	held := make([]*managed.Conn, n)
	for i := range held {
		var err error
		held[i], err = c.Acquire(t.Context())
		require.NoError(t, err)
	}
	for _, conn := range held {
		require.NoError(t, conn.Ping(t.Context()).Err())
	}
	for _, conn := range held {
		conn.Release()
	}
}

func TestAHalfOpenPoolServesEverybodyInTime(t *testing.T) {
	for _, kind := range []string{"tcp", "tls", "writes only"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, size := redistest.Start(t), 64
			if kind == "tls" {
				s, size = redistest.StartTLS(t), 32 // what is measured is not how fast handshakes are
			}
			p := redistest.NewProxy(t, s.Addr())
			opt := s.Options()
			opt.Addr, opt.PoolSize, opt.ReadTimeout = p.Addr(), size, 5*time.Second
			var ev events
			c := client(t, opt, ev.option())
			_, errs := crowd(c, size, 20) // they pay for what will be sent again
			require.Empty(t, errs)
			idleHeardLast(t, c, opt.PoolSize)
			p.StallExisting()
			took, errs := crowd(c, size*3/4, 4)
			if kind == "writes only" {
				idleHeardLast(t, c, opt.PoolSize)
				p.StallExisting()
				took, errs = crowdOf(size*3/4, 4, func(ctx context.Context, i, j int) error { return c.Set(ctx, fmt.Sprint("crowd", i), j, 0).Err() })
			}
			t.Logf("the longest of %d took %v, the median %v; %v", len(took), took[len(took)-1], took[len(took)/2], c.CloseReasons())
			require.Empty(t, errs)
			require.Less(t, took[len(took)-1], 1500*time.Millisecond)
		})
	}
}

// A round trip takes half of Patience, so the dial, the handshake and the PING of a fresh connection
// together take longer.
func TestOnASlowNetworkHalfOpenConnectionsAreFoundAsWell(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	p.OnReply(func(int, []byte) redistest.Action {
		time.Sleep(150 * time.Millisecond)
		return redistest.Forward
	})
	opt := s.Options()
	opt.Addr, opt.PoolSize, opt.ReadTimeout = p.Addr(), 4, time.Minute
	c := client(t, opt)
	idleHeardLast(t, c, opt.PoolSize)
	p.StallExisting()
	took, errs := crowd(c, 1, 1)
	require.Empty(t, errs)
	require.Less(t, took[0], 20*time.Second)
}

// A question of maintenance is answered by nobody for a second; the look at the
// connections of the others must not wait for it.
func TestAQuestionWithoutAnAnswerDoesNotHideAHalfOpenConnection(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	lost := make(chan struct{})
	var once sync.Once
	p.OnRequest(func(_ int, b []byte) redistest.Action {
		if bytes.Contains(b, []byte("maxclients")) {
			once.Do(func() {
				p.StallExisting()
				close(lost)
			})
		}
		return redistest.Forward
	})
	opt := s.Options()
	opt.Addr, opt.PoolSize, opt.ReadTimeout = p.Addr(), 8, 5*time.Second
	c := client(t, opt)
	idleHeardLast(t, c, opt.PoolSize)
	<-lost
	took, errs := crowd(c, 4, 1)
	require.Empty(t, errs)
	require.Less(t, took[len(took)-1], 1500*time.Millisecond)
	require.Zero(t, c.CloseReasons()[hooks.ReasonError], "the question ended by its own timeout: %v", c.CloseReasons())
}

// Of commands in the middle of which the link dies only those that may not be
// repeated fail, and everybody who comes afterwards is served.
func TestWhenAConnectionTurnsHalfOpenOnlyCommandsInFlightFail(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize, opt.ReadTimeout = p.Addr(), 64, 5*time.Second // some are idle
	c := client(t, opt)
	burst(t, c, 64)
	var failed, late, sent atomic.Int64
	var worst atomic.Int64
	var stalled atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 48 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				var err error
				switch i % 3 {
				case 0:
					err = c.Get(t.Context(), "key").Err()
				case 1:
					err = c.Set(t.Context(), "key", i, 0).Err()
				default:
					err = c.Incr(t.Context(), "n").Err()
				}
				sent.Add(1)
				d := int64(redistest.Took(began))
				for w := worst.Load(); d > w && !worst.CompareAndSwap(w, d); w = worst.Load() {
				}
				if err != nil && !errors.Is(err, redis.Nil) {
					failed.Add(1)
					if at := stalled.Load(); at == 0 || began.UnixNano() > at {
						late.Add(1)
						t.Logf("began %v after: %v", time.Duration(began.UnixNano()-at), err)
					}
				}
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	p.StallExisting()
	stalled.Store(time.Now().Add(10 * time.Millisecond).UnixNano())
	time.Sleep(2500 * time.Millisecond)
	close(stop)
	wg.Wait()
	t.Logf("%d commands, %d failed, %d of them began later; the longest took %v", sent.Load(), failed.Load(), late.Load(), time.Duration(worst.Load()))
	require.LessOrEqual(t, failed.Load(), int64(16), "at most one for each caller of INCR")
	require.Less(t, time.Duration(worst.Load()), 1500*time.Millisecond)
}

func TestAServerThatStandsStillLosesOnlyTheConnectionsOfTimedOutCommands(t *testing.T) {
	for _, how := range []string{"DEBUG SLEEP", "SIGSTOP"} {
		start := func(t *testing.T) (c *managed.Client, ev *events, hold func(time.Duration)) {
			s := redistest.Start(t, "--enable-debug-command", "yes")
			opt := s.Options()
			opt.PoolSize, opt.ReadTimeout = 50, 5*time.Second
			ev = &events{}
			c = client(t, opt, ev.option())
			burst(t, c, 50)
			settled(t, s)
			return c, ev, func(d time.Duration) {
				if how == "SIGSTOP" {
					s.Pause()
					time.AfterFunc(d, s.Resume)
					return
				}
				go s.Admin().Do(context.Background(), "DEBUG", "SLEEP", fmt.Sprint(d.Seconds()))
				time.Sleep(20 * time.Millisecond)
			}
		}
		t.Run(how+", patient", func(t *testing.T) {
			t.Parallel()
			c, ev, hold := start(t)
			hold(1500 * time.Millisecond)
			took, errs := crowd(c, 20, 1)
			t.Logf("nobody timed out: the longest took %v", took[len(took)-1])
			require.Empty(t, errs)
			require.Emptyf(t, ev.of(hooks.Closed), "%v", ev.of(hooks.Closed))
		})
		t.Run(how+", impatient", func(t *testing.T) {
			t.Parallel()
			c, ev, hold := start(t)
			hold(900 * time.Millisecond)
			_, errs := crowd(c.WithTimeout(300*time.Millisecond), 5, 1)
			_ = errs // SETs and GETs are repeated until the server is back, or fail
			time.Sleep(1200 * time.Millisecond)
			ends := ev.of(hooks.Closed)
			t.Logf("with 5 impatient callers: %d connections ended, %v", len(ends), c.CloseReasons())
			for _, e := range ends {
				require.Equalf(t, hooks.ReasonError, e.Reason, "%v", e)
			}
			require.LessOrEqual(t, len(ends), 5*5, "one for each attempt that timed out")
		})
	}
}

// Reads go on, writes wait: that is no half-open connection.
func TestPausedWritesLoseNoConnection(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize, opt.ReadTimeout = 20, 5*time.Second
	var ev events
	c := client(t, opt, ev.option())
	burst(t, c, 20)
	settled(t, s)
	require.NoError(t, s.Admin().Do(t.Context(), "CLIENT", "PAUSE", "2000", "WRITE").Err())
	took, errs := crowd(c, 20, 2)
	t.Logf("the longest of %d took %v", len(took), took[len(took)-1])
	require.Empty(t, errs)
	require.Greater(t, took[len(took)-1], 1500*time.Millisecond, "they did wait")
	require.Emptyf(t, ev.of(hooks.Closed), "%v", ev.of(hooks.Closed))
}

// Stalls that are shorter than anybody's timeout but longer than our patience.
func TestAServerThatStuttersLosesNoConnection(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--enable-debug-command", "yes")
	opt := s.Options()
	opt.PoolSize, opt.ReadTimeout = 20, 5*time.Second
	var ev events
	c := client(t, opt, ev.option(), managed.WithHeartbeat(50*time.Millisecond))
	burst(t, c, 20)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				s.Admin().Do(context.Background(), "DEBUG", "SLEEP", []string{"0.35", "0.7", "0.55"}[i%3])
				time.Sleep(time.Duration(20+7*i%40) * time.Millisecond)
			}
		}
	})
	var failed atomic.Int64
	end := time.Now().Add(3 * time.Second)
	for range 10 {
		wg.Go(func() {
			for time.Now().Before(end) {
				if err := c.Ping(t.Context()).Err(); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	time.Sleep(time.Until(end))
	close(stop)
	wg.Wait()
	t.Logf("%d failed; %v", failed.Load(), c.CloseReasons())
	require.Zero(t, failed.Load())
	require.LessOrEqualf(t, len(ev.of(hooks.Closed)), 1, "%v", ev.of(hooks.Closed))
}

func TestATimeoutAloneCondemnsNobody(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize, opt.ReadTimeout, opt.ContextTimeoutEnabled = p.Addr(), 20, 300*time.Millisecond, true
	var ev events
	c := client(t, opt, ev.option())
	burst(t, c, 20)
	var drop atomic.Int64
	drop.Store(1)
	p.OnReply(func(int, []byte) redistest.Action {
		if drop.Add(-1) == 0 {
			return redistest.Drop
		}
		return redistest.Forward
	})
	require.Error(t, c.Get(retry.Bound(t.Context()), "key").Err())
	time.Sleep(1300 * time.Millisecond)
	require.Lenf(t, ev.of(hooks.Closed), 1, "%v", ev.of(hooks.Closed))
	// A ctx that has ended says nothing about the server either.
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_ = c.BLPop(ctx, time.Second, redistest.UniqueKey(t, "none")).Err()
		cancel()
	}
	time.Sleep(1300 * time.Millisecond)
	require.LessOrEqualf(t, len(ev.of(hooks.Closed)), 6, "%v", ev.of(hooks.Closed))
	require.Zero(t, c.CloseReasons()[hooks.ReasonSuspected])
}

// An interrupted lease and a Discard are our own doing.
func TestWhatWeEndOurselvesMakesNobodySuspect(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 10
	c := client(t, opt)
	burst(t, c, 10)
	pings := calls(t, s, "ping")
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		conn, err := c.Acquire(ctx)
		require.NoError(t, err)
		require.Error(t, conn.BLPop(ctx, time.Second, redistest.UniqueKey(t, "none")).Err())
		conn.Release()
		cancel()
		conn, err = c.Acquire(t.Context())
		require.NoError(t, err)
		conn.Discard()
	}
	time.Sleep(300 * time.Millisecond)
	require.Equal(t, pings, calls(t, s, "ping"), "no PING was sent to the others")
	require.Equal(t, map[hooks.Reason]uint64{hooks.ReasonInterrupted: 3, hooks.ReasonDiscarded: 3}, c.CloseReasons())
}

func TestReadOnlyRetiresAllOlderConnectionsOnceASecond(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 10
	var clk clock
	c := client(t, opt, clk.option(), managed.WithMaxIdle(0))
	ctx := retry.Bound(t.Context())
	require.NoError(t, c.Set(ctx, "key", 1, 0).Err())
	burst(t, c, 10)
	demote := func() {
		require.NoError(t, s.Admin().Do(t.Context(), "CONFIG", "SET", "replica-serve-stale-data", "yes").Err())
		require.NoError(t, s.Admin().Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err())
	}
	promote := func() { require.NoError(t, s.Admin().Do(t.Context(), "REPLICAOF", "NO", "ONE").Err()) }
	demote()
	require.True(t, redis.IsReadOnlyError(c.Set(ctx, "key", 2, 0).Err()))
	redistest.Eventually(t, "all older connections have ended", time.Second, func() bool { return c.CloseReasons()[hooks.ReasonReadOnly] == 10 })
	require.Empty(t, c.Conns())
	burst(t, c, 10)
	for range 5 {
		require.True(t, redis.IsReadOnlyError(c.Set(ctx, "key", 2, 0).Err()))
	}
	require.EqualValues(t, 15, c.CloseReasons()[hooks.ReasonReadOnly], "those alone that were answered so: it has taken no write since")
	promote()
	clk.advance(2 * time.Second)
	require.NoError(t, c.Set(ctx, "key", 3, 0).Err())
	burst(t, c, 10)
	demote()
	require.True(t, redis.IsReadOnlyError(c.Set(ctx, "key", 4, 0).Err()))
	redistest.Eventually(t, "and again all of them", time.Second, func() bool { return c.CloseReasons()[hooks.ReasonReadOnly] == 25 })
	promote()
	require.NoError(t, c.Set(ctx, "key", 5, 0).Err())
}

func TestAReplicaByMistakeDoesNotChurn(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	require.NoError(t, s.Admin().Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err())
	opt := s.Options()
	opt.PoolSize = 10
	var ev events
	c := client(t, opt, ev.option())
	burst(t, c, 10)
	for range 50 {
		require.True(t, redis.IsReadOnlyError(c.Set(retry.Bound(t.Context()), "key", 1, 0).Err()))
	}
	time.Sleep(50 * time.Millisecond)
	t.Log(c.CloseReasons()) // go-redis itself ends each connection that says READONLY, and no other one
	require.LessOrEqual(t, len(ev.of(hooks.Closed)), 50)
}

// go-redis closes it only after a command that was sent alone.
func TestPipelinesTransactionsAndScriptsUseNoConnectionAgainThatLeadsToAReplica(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	require.NoError(t, s.Admin().Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err())
	for name, call := range map[string]func(context.Context, *managed.Client) error{
		"pipeline": func(ctx context.Context, c *managed.Client) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "none"); return p.Set(ctx, "key", 1, 0).Err() })
			if err != redis.Nil {
				return err
			}
			return nil
		},
		"transaction": func(ctx context.Context, c *managed.Client) error {
			_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Set(ctx, "key", 1, 0).Err() })
			require.Error(t, err)
			return nil
		},
		"script": func(ctx context.Context, c *managed.Client) error {
			require.Error(t, c.Eval(ctx, "return redis.call('set', KEYS[1], 1)", []string{"key"}).Err())
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := client(t, s.Options())
			ctx := retry.Bound(t.Context())
			for n := range 5 {
				require.NoError(t, call(ctx, c))
				require.LessOrEqual(t, len(c.Conns()), 1)
				require.LessOrEqual(t, uint64(n), c.CloseReasons()[hooks.ReasonReadOnly])
			}
		})
	}
}
