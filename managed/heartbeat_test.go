package managed_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// ids are the connections that are open.
func ids(c *managed.Client) map[uint64]bool {
	m := map[uint64]bool{}
	for _, i := range c.Conns() {
		m[i.ID] = true
	}
	return m
}

// A server with a timeout of 1 s gives an automatic heartbeat of 750 ms.
func TestTheHeartbeatKeepsAnIdlePoolAlive(t *testing.T) {
	for _, kind := range []string{"RESP2", "RESP3", "TLS", "cache", "cache over TLS", "pipelines"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var s *redistest.Server
			if strings.HasSuffix(kind, "TLS") {
				s = redistest.StartTLS(t, "--timeout", "2")
			} else {
				s = redistest.Start(t, "--timeout", "2")
			}
			opt := s.Options()
			opt.PoolSize, opt.PipelinePoolSize = 20, 3
			if kind == "RESP2" {
				opt.Protocol = 2
			}
			if strings.HasPrefix(kind, "cache") {
				opt.ClientSideCacheConfig = &redis.ClientSideCacheConfig{MaxEntries: 100}
			}
			var ev events
			c := client(t, opt, ev.option())
			ctx := t.Context()
			_, err := c.Warm(ctx, 20)
			require.NoError(t, err)
			for kind == "pipelines" && inPool(c, hooks.PoolPipeline) < opt.PipelinePoolSize {
				pipelineBurst(t, c, 6)
			}
			for i := range 10 { // with the cache on: pushes come for these
				require.ErrorIs(t, c.Get(ctx, fmt.Sprint("key", i)).Err(), redis.Nil)
			}
			before := ids(c)
			for i := range 10 {
				s.Admin().Set(ctx, fmt.Sprint("key", i), "new", 0)
			}
			time.Sleep(4400 * time.Millisecond)
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					if kind == "pipelines" && i < 6 {
						if _, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Ping(ctx); return nil }); err != nil {
							t.Error(err)
						}
					}
					if v, err := c.Get(ctx, fmt.Sprint("key", i%10)).Result(); err != nil || v != "new" {
						t.Error(v, err)
					}
				})
			}
			wg.Wait()
			if strings.HasPrefix(kind, "cache") {
				// The cache keeps a connection of the pool for itself for some seconds after
				// a miss (csc_miss_coalesce_modes.go): nobody can PING that one.
				t.Logf("%d of 20 were replaced", len(ev.of(hooks.Closed)))
				return
			}
			require.Emptyf(t, ev.of(hooks.Closed), "%v", ev.of(hooks.Closed))
			require.Equal(t, before, ids(c), "no connection was lost or opened")
		})
	}
}

func TestHeartbeatsAreSeenByNoHookAndByTheServerAsPlainPings(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 5
	c := client(t, opt, managed.WithHeartbeat(20*time.Millisecond))
	h := &spy{}
	_, err := c.Warm(t.Context(), 5)
	require.NoError(t, err)
	c.AddHook(h)
	require.NoError(t, s.Admin().Do(t.Context(), "CONFIG", "RESETSTAT").Err())
	started := time.Now()
	redistest.Eventually(t, "some heartbeats", soon, func() bool { return calls(t, s, "ping") >= 20 })
	pings := calls(t, s, "ping")
	rate := float64(pings) / time.Since(started).Seconds() / 5
	require.Empty(t, h.seen())
	require.Zero(t, c.RetryStats().Calls, "they are no commands")
	t.Logf("%d PINGs, %.0f a second on each connection; go-redis counts visits among its Hits: %d", pings, rate, c.PoolStats().Hits)
	require.Less(t, rate, 60.0, "one in 20 ms, not more")
	require.Zero(t, c.PoolStats().Misses-5)
}

// calls is how often the server has executed a command.
func calls(t testing.TB, s *redistest.Server, name string) int {
	t.Helper()
	info, err := s.Admin().InfoMap(context.Background(), "commandstats").Result()
	require.NoError(t, err)
	n := 0
	if line := info["Commandstats"]["cmdstat_"+name]; line != "" {
		_, err := fmt.Sscanf(line, "calls=%d", &n)
		require.NoError(t, err)
	}
	return n
}

func TestWhereConfigIsForbiddenThereIsNoAutomaticHeartbeatAndNoNoise(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--timeout", "1")
	require.NoError(t, s.Admin().Do(t.Context(), "ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-config").Err())
	opt := s.Options()
	opt.PoolSize, opt.Username, opt.Password = 5, "app", "secret"
	var log journal
	var ev events
	c := client(t, opt, log.option(), ev.option())
	burst(t, c, 5)
	require.NoError(t, s.Admin().Do(t.Context(), "CONFIG", "RESETSTAT").Err())
	redistest.Eventually(t, "the server has closed them", soon, func() bool { return s.NumClients(t) == 0 })
	require.Zero(t, calls(t, s, "ping"))
	burst(t, c, 5) // and callers do not notice
	require.Empty(t, log.text())
	c.SetHeartbeat(300 * time.Millisecond)
	before := ids(c)
	time.Sleep(1800 * time.Millisecond)
	require.Equal(t, before, ids(c), "a heartbeat of one's own works")
	require.Equal(t, 5, s.NumClients(t))
}

func TestTheTimeoutIsAskedForAgainAfterTheServerHasClosedAnIdleConnection(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 5
	var clk clock
	c := client(t, opt, clk.option())
	burst(t, c, 5)
	const both = 2 // `timeout`, and `maxclients` the first time
	redistest.Eventually(t, "it was asked once", soon, func() bool { return calls(t, s, "config|get") == both })
	require.NoError(t, s.Admin().Do(t.Context(), "CONFIG", "SET", "timeout", "2").Err())
	redistest.Eventually(t, "the server has closed them", soon, func() bool { return s.NumClients(t) == 0 })
	clk.advance(2 * time.Minute) // it asks once a minute at most
	burst(t, c, 5)               // finds the dead ones
	redistest.Eventually(t, "it was asked again", soon, func() bool { return calls(t, s, "config|get") == both+1 })
	before := ids(c)
	time.Sleep(4400 * time.Millisecond)
	require.Equal(t, before, ids(c))
	require.Equal(t, len(before), s.NumClients(t), "now there is a heartbeat")
}

// Nothing wakes maintenance when the only connection comes back.
func TestTheTimeoutIsAskedForAlthoughThePoolWasBusyAtFirst(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--timeout", "2")
	opt := s.Options()
	opt.PoolSize = 1
	c := client(t, opt)
	conn := c.Conn()
	require.NoError(t, conn.Ping(t.Context()).Err())
	time.Sleep(700 * time.Millisecond)
	require.Zero(t, calls(t, s, "config|get"))
	require.NoError(t, conn.Close())
	redistest.Eventually(t, "the server is asked", soon, func() bool { return calls(t, s, "config|get") == 2 })
	before := ids(c)
	time.Sleep(4400 * time.Millisecond)
	require.Equal(t, before, ids(c), "and there is a heartbeat")
}

// A PING of ours to a server that is only slow may cost one connection, not all.
func TestHeartbeatsToAServerThatStandsStillDoNotEmptyThePool(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 20
	var ev events
	c := client(t, opt, managed.WithHeartbeat(50*time.Millisecond), ev.option())
	burst(t, c, 20)
	s.Pause()
	time.Sleep(2500 * time.Millisecond)
	s.Resume()
	time.Sleep(200 * time.Millisecond)
	lost := ev.of(hooks.Closed)
	t.Logf("%d of 20 lost in 2.5 s", len(lost))
	require.LessOrEqual(t, len(lost), 2)
	for _, e := range lost {
		require.Equal(t, hooks.ReasonHeartbeat, e.Reason)
	}
	redistest.Eventually(t, "heartbeats go on", soon, func() bool {
		for _, i := range c.Conns() {
			if i.Idle > 150*time.Millisecond {
				return false
			}
		}
		return true
	})
}

// One dead connection found by a heartbeat makes the others suspect.
func TestHeartbeatsFindAHalfOpenPoolWithoutCallers(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize = p.Addr(), 20
	var ev events
	c := client(t, opt, managed.WithHeartbeat(100*time.Millisecond), ev.option())
	burst(t, c, 20)
	time.Sleep(50 * time.Millisecond)
	p.StallExisting()
	began := time.Now()
	closed := ev.wait(t, hooks.Closed, 20)
	counts := c.CloseReasons()
	t.Logf("all 20 ended within %v: %v", time.Since(began), counts)
	require.Len(t, closed, 20)
	require.Less(t, time.Since(began), 4*time.Second)
	require.Positive(t, counts[hooks.ReasonHeartbeat])
	require.Greater(t, counts[hooks.ReasonSuspected], uint64(15))
}

// Sweeps go through the pool and not through Conns: those would empty the cache.
func TestHeartbeatsLeaveTheClientSideCacheWarm(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize, opt.ClientSideCacheConfig = 5, &redis.ClientSideCacheConfig{MaxEntries: 1000}
	c := client(t, opt, managed.WithHeartbeat(10*time.Millisecond))
	ctx := t.Context()
	burst(t, c, 5) // acquires do empty it: before
	keys := make([]string, 100)
	for i := range keys {
		keys[i] = fmt.Sprint("warm", i)
		require.NoError(t, c.Set(ctx, keys[i], i, 0).Err())
	}
	time.Sleep(300 * time.Millisecond) // right after a SET the cache may be stale
	for range 2 {
		for _, k := range keys {
			require.NoError(t, c.Get(ctx, k).Err())
		}
	}
	before, visits := calls(t, s, "get"), c.PoolStats().Hits
	redistest.Eventually(t, "200 visits", soon, func() bool { return c.PoolStats().Hits > visits+200 })
	for _, k := range keys {
		require.NoError(t, c.Get(ctx, k).Err())
	}
	t.Logf("%d GETs of 100 reached the server after 200 visits", calls(t, s, "get")-before)
	require.LessOrEqual(t, calls(t, s, "get")-before, 5)
}

// The cache's own drainer takes idle connections, too: what is due is kept per connection.
func TestEveryConnectionGetsItsHeartbeatBesideTheDrainerOfTheCache(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize, opt.ClientSideCacheConfig = 40, &redis.ClientSideCacheConfig{MaxEntries: 100, DrainInterval: time.Millisecond}
	c := client(t, opt, managed.WithHeartbeat(200*time.Millisecond), managed.WithMaxIdle(0))
	burst(t, c, 40)
	began := time.Now()
	time.Sleep(300 * time.Millisecond)
	var worst time.Duration
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for _, i := range c.Conns() {
			worst = max(worst, i.Idle)
		}
	}
	t.Logf("the longest silence of any of 40 was %v", worst)
	require.Less(t, worst-redistest.Stalled(began), 500*time.Millisecond)
}

// Nothing else keeps maintenance awake then.
func TestTheHeartbeatGoesOnWithFailureDetectionOff(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 5
	c := client(t, opt, managed.WithHeartbeat(50*time.Millisecond), managed.WithMaxIdle(0), managed.WithFailureDetection(managed.FailureDetection{Off: true}))
	burst(t, c, 5)
	for range 10 {
		n := calls(t, s, "ping")
		redistest.Eventually(t, "the next heartbeats", time.Second, func() bool { return calls(t, s, "ping") >= n+5 })
	}
}

// A lease that ends sends nothing: no event tells maintenance that its connection is idle.
func TestTheHeartbeatComesAfterALease(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := client(t, s.Options(), managed.WithHeartbeat(50*time.Millisecond), managed.WithMaxIdle(0), managed.WithFailureDetection(managed.FailureDetection{Off: true}))
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	require.NoError(t, conn.Ping(t.Context()).Err())
	time.Sleep(200 * time.Millisecond) // longer than any look is put off
	n := calls(t, s, "ping")
	conn.Release()
	redistest.Eventually(t, "heartbeats", soon, func() bool { return calls(t, s, "ping") >= n+5 })
}

// Some proxies do not know PING and hang up.
func TestWherePingEndsConnectionsTheHeartbeatIsGivenUp(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	p.OnRequest(func(_ int, b []byte) redistest.Action {
		if bytes.Contains(bytes.ToLower(b), []byte("ping")) {
			return redistest.CutBefore
		}
		return redistest.Forward
	})
	opt := s.Options()
	opt.Addr, opt.PoolSize = p.Addr(), 10
	var ev events
	var log journal
	c := client(t, opt, ev.option(), log.option(), managed.WithHeartbeat(0), managed.WithFailureDetection(managed.FailureDetection{Off: true}))
	burst(t, c, 10)
	c.SetHeartbeat(20 * time.Millisecond) // not before: leases of connections that are due send a PING as well
	redistest.Eventually(t, "it is reported", soon, func() bool { return log.count("no heartbeats") == 1 })
	time.Sleep(200 * time.Millisecond) // ten heartbeats
	require.Len(t, ev.of(hooks.Closed), 2, "no more of them")
	require.NoError(t, c.Set(t.Context(), "k", "v", 0).Err())
	require.Equal(t, 1, log.count("no heartbeats"))
}
