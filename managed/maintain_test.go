package managed_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// clock is the real clock, moved by hand.
type clock struct{ ahead, wallAhead atomic.Int64 }

func (c *clock) now() time.Time  { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) wall() time.Time { return c.now().Add(time.Duration(c.wallAhead.Load())) }

// advance lets time pass.
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// jump moves the wall clock alone, as a suspended machine sees it.
func (c *clock) jump(d time.Duration) { c.wallAhead.Add(int64(d)) }

func (c *clock) option() managed.Option { return managed.WithClock(c.now, c.wall) }

// burst opens n connections by using them all at once.
func burst(t testing.TB, c *managed.Client, n int) {
	t.Helper()
	ctx := context.Background()
	held := make([]*managed.Conn, n)
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for i := range held {
		wg.Go(func() {
			conn, err := c.Acquire(ctx)
			if err != nil {
				failed.Store(&err)
				return
			}
			held[i] = conn
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
	for _, conn := range held {
		conn.Release()
	}
}

// pipelineBurst opens up to n connections of the pipeline pool.
func pipelineBurst(t testing.TB, c *managed.Client, n int) {
	t.Helper()
	ctx := context.Background()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			p := c.Pipeline()
			for range 200 {
				p.Ping(ctx)
			}
			if _, err := p.Exec(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func inPool(c *managed.Client, p hooks.Pool) int {
	n := 0
	for _, i := range c.Conns() {
		if i.Pool == p {
			n++
		}
	}
	return n
}

// transports runs f on TCP, TLS 1.2 and 1.3 and a Unix socket, with a private
// server each. args are for all of them.
func transports(t *testing.T, f func(t *testing.T, s *redistest.Server, opt *redis.Options), args ...string) {
	for _, name := range []string{"tcp", "tls1.2", "tls1.3", "unix"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s *redistest.Server
			var opt *redis.Options
			switch name {
			case "tcp":
				s = redistest.Start(t, args...)
				opt = s.Options()
			case "unix":
				s = redistest.Start(t, args...)
				opt = s.Options()
				opt.Network, opt.Addr = "unix", s.Unix()
			default:
				s = redistest.StartTLS(t, args...)
				opt = s.Options()
				opt.TLSConfig.MinVersion, opt.TLSConfig.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
				if name == "tls1.3" {
					opt.TLSConfig.MinVersion, opt.TLSConfig.MaxVersion = tls.VersionTLS13, tls.VersionTLS13
				}
			}
			f(t, s, opt)
		})
	}
}

// agrees checks that go-redis, our table and the server count the same.
func agrees(t testing.TB, s *redistest.Server, c *managed.Client) {
	t.Helper()
	var text string
	defer func() {
		if t.Failed() {
			t.Log(text)
		}
	}()
	redistest.Eventually(t, "go-redis, the table of connections and the server count the same", soon, func() bool {
		st := c.PoolStats()
		pool := int(st.TotalConns)
		if st.PipelineStats != nil {
			pool += int(st.PipelineStats.TotalConns)
		}
		server, table := s.NumClients(t), len(c.Conns())
		text = fmt.Sprintf("go-redis %d, table %d, server %d", pool, table, server)
		return pool == server && table == server
	})
}

// goRedisOwn are two goroutines that go-redis starts with every client.
var goRedisOwn = goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/maintnotifications.(*CircuitBreakerManager).cleanupLoop")

func TestAClientWithoutConnectionsHasNoGoroutine(t *testing.T) {
	s := redistest.Start(t)
	s.NumClients(t) // the judge's own
	ignore := goleak.IgnoreCurrent()
	c := client(t, s.Options(), managed.WithMaxAge(time.Minute), managed.WithMaxIdle(time.Minute), managed.WithHeartbeat(time.Second))
	c.SetMaxIdle(time.Second)
	require.NoError(t, goleak.Find(ignore, goRedisOwn))
	require.NoError(t, c.Ping(t.Context()).Err())
	require.NoError(t, c.Close())
	require.NoError(t, goleak.Find(ignore), "everything ends with Close")
}

func TestMaintenanceRestsWhenThereIsNothingToDo(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 20
	c := client(t, opt)
	burst(t, c, 20)
	time.Sleep(time.Second) // the looks that follow use
	hits := c.PoolStats().Hits
	time.Sleep(500 * time.Millisecond)
	require.Equal(t, hits, c.PoolStats().Hits, "no visit is made in silence")
}

// A lease past its age, a Conn with session state: what is due and cannot be visited must not make
// maintenance visit all the others over and over.
func TestWhatIsInUseDoesNotMakeMaintenanceSpin(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize, opt.ReadTimeout = 30, 5*time.Second
	c := client(t, opt, managed.WithMaxAge(200*time.Millisecond), managed.WithMaxAgeJitter(0))
	done := make(chan error, 1)
	go func() { done <- c.BLPop(t.Context(), 2*time.Second, redistest.UniqueKey(t, "empty")).Err() }()
	holder := c.Conn()
	defer holder.Close()
	require.NoError(t, holder.Ping(t.Context()).Err())
	time.Sleep(300 * time.Millisecond)
	c.SetMaxAge(time.Second) // the ones that are opened now are young
	burst(t, c, 20)
	time.Sleep(600 * time.Millisecond) // now the two in use are past it, the others are not
	before := c.PoolStats().Hits
	time.Sleep(300 * time.Millisecond)
	visits := c.PoolStats().Hits - before
	t.Logf("%d visits in 300 ms", visits)
	require.Less(t, visits, uint32(1000)) // a round each tick makes more than 3000
	require.ErrorIs(t, <-done, redis.Nil)
}

// The same in a pool so large that one tick cannot visit all of it: the next one goes
// on from there, and the round comes to an end.
func TestARoundOfALargePoolEnds(t *testing.T) {
	t.Parallel()
	const size = 300
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = size + 10
	c := client(t, opt, managed.WithMaxAge(100*time.Millisecond), managed.WithMaxAgeJitter(0))
	holder := c.Conn()
	defer holder.Close()
	require.NoError(t, holder.Ping(t.Context()).Err())
	time.Sleep(200 * time.Millisecond)
	c.SetMaxAge(time.Hour) // the holder's has the order to close
	burst(t, c, size)
	time.Sleep(time.Second) // by now a round is made every 640 ms
	before := c.PoolStats().Hits
	time.Sleep(600 * time.Millisecond)
	visits := c.PoolStats().Hits - before
	t.Logf("%d visits in 600 ms", visits)
	require.Less(t, visits, uint32(3*2*size))
}

func TestMaintenanceHoldsAtMostOneIdleConnectionOfAPool(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 20
	c := client(t, opt, managed.WithHeartbeat(time.Millisecond))
	burst(t, c, 20)
	pipelineBurst(t, c, 10)
	require.Eventually(t, func() bool { return c.Node().Main().Idle >= 19 }, soon, time.Millisecond)
	least, leastPipe, torn := 20, 100, 0
	pipe := c.Node().Pipeline().Total
	started := c.PoolStats().Hits
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); {
		st := c.PoolStats()
		if st.TotalConns != 20 || st.IdleConns > st.TotalConns { // read in two steps
			torn++
			continue
		}
		least = min(least, int(st.IdleConns))
		if p := st.PipelineStats; p != nil && p.IdleConns <= p.TotalConns {
			leastPipe = min(leastPipe, int(p.IdleConns))
		}
	}
	st := c.PoolStats()
	t.Logf("of 20 at least %d idle, of %d of the pipeline pool %d, over %d visits (%d torn reads)", least, pipe, leastPipe, st.Hits-started, torn)
	require.Greater(t, st.Hits-started, uint32(20), "visits were made")
	require.GreaterOrEqual(t, least, 19)
	require.GreaterOrEqual(t, leastPipe, pipe-1)
	require.Zero(t, st.Timeouts)
	require.EqualValues(t, 20, st.TotalConns)
}

// limiter counts what go-redis asks of it, and can forbid everything.
type limiter struct {
	allowed, good, bad atomic.Int64
	closed             atomic.Bool
}

func (l *limiter) Allow() error {
	l.allowed.Add(1)
	if l.closed.Load() {
		return fmt.Errorf("not allowed")
	}
	return nil
}

func (l *limiter) ReportResult(err error) {
	if err != nil {
		l.bad.Add(1)
	} else {
		l.good.Add(1)
	}
}

func TestAUsersLimiterNeitherSeesNorStopsMaintenance(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	l := &limiter{}
	opt := s.Options()
	opt.PoolSize, opt.Limiter = 10, l
	c := client(t, opt, managed.WithHeartbeat(20*time.Millisecond))
	_, err := c.Warm(t.Context(), 10)
	require.NoError(t, err)
	before := [3]int64{l.allowed.Load(), l.good.Load(), l.bad.Load()}
	l.closed.Store(true) // no command is let through: maintenance is
	hits := c.PoolStats().Hits
	require.Eventually(t, func() bool { return c.PoolStats().Hits > hits+20 }, soon, time.Millisecond)
	require.GreaterOrEqual(t, c.EvictIdle(t.Context()), 9, "one may be answering a PING right now")
	require.Equal(t, before, [3]int64{l.allowed.Load(), l.good.Load(), l.bad.Load()})
	require.Error(t, c.Ping(t.Context()).Err())
}

func TestGoRedissOwnLimitsOfAgeAndIdlenessBecomeOurs(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize, opt.ConnMaxIdleTime, opt.ConnMaxLifetime = 10, 300*time.Millisecond, time.Hour
	c := client(t, opt)
	require.EqualValues(t, -1, c.Client.Options().ConnMaxIdleTime, "go-redis's own check of idleness is off")
	require.Zero(t, c.Client.Options().ConnMaxLifetime)
	burst(t, c, 10)
	redistest.Eventually(t, "all idle connections are ended with nobody calling", 1300*time.Millisecond, func() bool { return s.NumClients(t) == 0 })
	require.EqualValues(t, 10, c.CloseReasons()[hooks.ReasonIdle])

	opt.ConnMaxIdleTime, opt.ConnMaxLifetime = -1, 300*time.Millisecond
	c = client(t, opt)
	burst(t, c, 10)
	redistest.Eventually(t, "all old connections are ended with nobody calling", 550*time.Millisecond, func() bool { return len(c.Conns()) == 0 })
	require.EqualValues(t, 10, c.CloseReasons()[hooks.ReasonAge])
}

// Every end gives one Closed event, and the counts by reason say the same.
func TestEveryEndOfAConnectionIsOneEventWithItsReason(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	var ev events
	opt := s.Options()
	opt.PoolSize = 10
	c := client(t, opt, ev.option(), managed.WithMaxAgeJitter(0), managed.WithMaxIdle(0))
	ctx := t.Context()
	warm := func() {
		_, err := c.Warm(ctx, 10)
		require.NoError(t, err)
	}
	warm()
	require.Equal(t, 10, c.Reset(ctx)) // reset
	warm()
	c.SetMaxIdle(20 * time.Millisecond) // idle
	redistest.Eventually(t, "idle", soon, func() bool { return len(c.Conns()) == 0 })
	c.SetMaxIdle(0)
	warm()
	c.SetMaxAge(time.Millisecond) // age
	redistest.Eventually(t, "age", soon, func() bool { return len(c.Conns()) == 0 })
	c.SetMaxAge(0)
	conn, err := c.Acquire(ctx) // discarded
	require.NoError(t, err)
	conn.Discard()
	conn, err = c.Acquire(ctx) // will have session state
	require.NoError(t, err)
	require.NoError(t, conn.Select(ctx, 1).Err())
	conn.Release()
	warm()
	s.KillClients(t) // error
	require.NoError(t, c.Ping(ctx).Err())
	c.EvictIdle(ctx)
	warm()
	require.NoError(t, c.Close()) // shutdown
	dialed := ev.wait(t, hooks.Dialed, 1)
	closed := ev.wait(t, hooks.Closed, len(dialed))
	require.Len(t, closed, len(dialed), "each connection ends once")
	seen := map[uint64]bool{}
	counts := map[hooks.Reason]uint64{}
	for _, e := range closed {
		require.Falsef(t, seen[e.ConnID], "two ends of connection %d", e.ConnID)
		seen[e.ConnID] = true
		counts[e.Reason]++
		require.NotEmpty(t, e.Reason)
		require.Positive(t, e.Age)
		require.LessOrEqual(t, e.Idle, e.Age)
		require.Positive(t, e.BytesOut)
	}
	require.Equal(t, counts, c.CloseReasons())
	t.Log(counts)
	for r, n := range map[hooks.Reason]uint64{hooks.ReasonIdle: 10, hooks.ReasonAge: 10, hooks.ReasonDiscarded: 1, hooks.ReasonSessionState: 1, hooks.ReasonShutdown: 10} {
		require.Equalf(t, n, counts[r], "%s", r)
	}
	require.GreaterOrEqual(t, counts[hooks.ReasonReset], uint64(10))
	require.GreaterOrEqual(t, counts[hooks.ReasonError], uint64(1))
}
