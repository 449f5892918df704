package managed_test

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// maintained is a server behind two endpoints that announce maintenance.
type maintained struct {
	*redistest.Server
	old, next *notifier
}

func startMaintained(t *testing.T, s *redistest.Server) *maintained {
	require.NoError(t, s.Admin().FlushAll(t.Context()).Err())
	return &maintained{Server: s, old: newNotifier(t, s.Addr()), next: newNotifier(t, s.Addr())}
}

func (m *maintained) options() *redis.Options {
	opt := m.Options()
	opt.Addr, opt.PoolSize = m.old.addr(), 6
	return opt
}

func (m *maintained) open() int { return m.old.count() + m.next.count() }

// besideBare runs f with a bare client, where c and e are nil, and with a managed one.
func besideBare(t *testing.T, f func(t *testing.T, m *maintained, rdb *redis.Client, c *managed.Client, e *events)) {
	s := redistest.Start(t)
	t.Run("bare", func(t *testing.T) {
		m := startMaintained(t, s)
		rdb := redis.NewClient(m.options())
		t.Cleanup(func() { _ = rdb.Close() })
		f(t, m, rdb, nil, nil)
	})
	t.Run("managed", func(t *testing.T) {
		m, e := startMaintained(t, s), new(events)
		c := client(t, m.options(), e.option())
		f(t, m, c.Client, c, e)
	})
}

// traffic has callers count, by commands and by pipelines, until stop is called;
// that says how many INCR were answered. An error fails the test.
func traffic(t *testing.T, rdb redis.Cmdable) (stop func() int64) {
	var done atomic.Bool
	var n atomic.Int64
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			ctx := context.Background()
			for !done.Load() {
				if i%2 == 0 {
					if err := rdb.Incr(ctx, "counter").Err(); err != nil {
						t.Errorf("a command: %v", err)
						return
					}
					n.Add(1)
					continue
				}
				cmds, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
					p.Incr(ctx, "counter")
					p.Incr(ctx, "counter")
					return nil
				})
				if err != nil {
					t.Errorf("a pipeline: %v", err)
					return
				}
				n.Add(int64(len(cmds)))
			}
		})
	}
	stop = func() int64 {
		done.Store(true)
		wg.Wait()
		return n.Load()
	}
	t.Cleanup(func() { stop() })
	return stop
}

// booksAreRight compares what is open with what the client says.
func booksAreRight(t *testing.T, m *maintained, rdb *redis.Client, c *managed.Client, e *events) {
	t.Helper()
	redistest.Eventually(t, "the pools count as many connections as there are", soon, func() bool {
		s := rdb.PoolStats()
		return int(s.TotalConns+s.PipelineStats.TotalConns) == m.open()
	})
	if c == nil {
		return
	}
	redistest.Eventually(t, "so do the events", soon, func() bool {
		return len(e.of(hooks.Dialed))-len(e.of(hooks.Closed)) == m.open()
	})
	at := map[string]int{}
	for _, i := range c.Conns() {
		at[i.Node]++
	}
	require.Equal(t, m.old.count(), at[m.old.addr()])
	require.Equal(t, m.next.count(), at[m.next.addr()])
	for why := range c.CloseReasons() {
		require.Equal(t, hooks.ReasonPool, why, "no connection ended but by go-redis's move")
	}
	full(t, c, 6)
}

// Not beside bare go-redis: there a caller may get a connection in the middle of its move
// (TestContractGoRedisGivesACallerAConnectionThatItIsMoving).
func TestConnectionsMoveToAnotherEndpointUnderTraffic(t *testing.T) {
	m, e := startMaintained(t, redistest.Start(t)), new(events)
	c := client(t, m.options(), e.option())
	stop := traffic(t, c)
	redistest.Eventually(t, "traffic on both pools", soon, func() bool { return m.old.asked() >= 4 })
	require.NotZero(t, m.old.push("MOVING", 1, 2, m.next.addr()))
	redistest.Eventually(t, "they have moved", soon, func() bool { return m.next.count() > 0 && m.old.told() == 0 })
	answered := stop()
	require.EqualValues(t, answered, m.count(t), "each call was carried out once")
	booksAreRight(t, m, c.Client, c, e)
}

// The connection is in use when its time comes: go-redis v9.23.0 may need seconds
// for one that is being taken out of the pool just then.
func TestAConnectionMovesToItsOwnEndpointAgain(t *testing.T) {
	besideBare(t, func(t *testing.T, m *maintained, rdb *redis.Client, c *managed.Client, e *events) {
		done := make(chan error)
		go func() {
			done <- rdb.XRead(context.Background(), &redis.XReadArgs{Streams: []string{"nothing", "$"}, Block: 200 * time.Millisecond}).Err()
		}()
		redistest.Eventually(t, "it waits in the server", soon, func() bool {
			return slices.ContainsFunc(m.ClientList(t), func(i redistest.ClientInfo) bool { return i.Cmd == "xread" })
		})
		require.Equal(t, 1, m.old.push("MOVING", 1, 0, nil))
		require.Equal(t, redis.Nil, <-done)
		redistest.Eventually(t, "it has been replaced", soon, func() bool { return m.old.told() == 0 && m.old.count() == 1 })
		booksAreRight(t, m, rdb, c, e)
	})
}

func (m *maintained) count(t *testing.T) int64 {
	n, err := m.Admin().Get(t.Context(), "counter").Int64()
	require.NoError(t, err)
	return n
}

func TestALeaseKeepsItsConnectionUntilItIsReleasedAndThenItMoves(t *testing.T) {
	m := startMaintained(t, redistest.Start(t))
	e := new(events)
	c := client(t, m.options(), e.option())
	ctx := t.Context()
	lease, err := c.Acquire(ctx)
	require.NoError(t, err)
	id := lease.ClientID(ctx).Val()
	require.Equal(t, 1, m.old.push("MOVING", 1, 2, m.next.addr()))
	for range 3 {
		require.Equal(t, id, lease.ClientID(ctx).Val(), "the lease has its connection")
	}
	_, err = lease.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Incr(ctx, "counter").Err() })
	require.NoError(t, err)
	require.Zero(t, m.next.count())
	lease.Release()
	redistest.Eventually(t, "it has moved", soon, func() bool { return m.old.count() == 0 && m.next.count() == 1 })
	booksAreRight(t, m, c.Client, c, e)
}

func TestIdleConnectionsMoveAtTheirNextCheckout(t *testing.T) {
	m := startMaintained(t, redistest.Start(t))
	e := new(events)
	c := client(t, m.options(), e.option())
	ctx := t.Context()
	_, err := c.Warm(ctx, 6)
	require.NoError(t, err)
	require.Equal(t, 6, m.old.push("MOVING", 1, 2, m.next.addr()))
	redistest.Eventually(t, "they have moved", soon, func() bool {
		require.NoError(t, c.Incr(ctx, "counter").Err())
		return m.old.told() == 0 && m.next.count() > 0
	})
	booksAreRight(t, m, c.Client, c, e)
}

func TestASubscriptionMoves(t *testing.T) {
	besideBare(t, func(t *testing.T, m *maintained, rdb *redis.Client, c *managed.Client, e *events) {
		ctx := t.Context()
		var sub *redis.PubSub
		if c != nil {
			sub = c.Subscribe(ctx, "news")
		} else {
			sub = rdb.Subscribe(ctx, "news")
		}
		defer sub.Close()
		messages := sub.Channel(redis.WithChannelHealthCheckInterval(100 * time.Millisecond))
		publish := func(text string) {
			require.Eventually(t, func() bool {
				require.NoError(t, m.Admin().Publish(ctx, "news", text).Err())
				select {
				case got := <-messages:
					return got.Payload == text
				case <-time.After(20 * time.Millisecond):
					return false
				}
			}, soon, time.Millisecond)
		}
		publish("before")
		require.Equal(t, 1, m.old.push("MOVING", 1, 2, m.next.addr()))
		redistest.Eventually(t, "it has moved", soon, func() bool { return m.old.count() == 0 && m.next.count() == 1 })
		publish("after")
		if c != nil {
			require.Len(t, c.Conns(), 1)
		}
	})
}

func TestReadsMayTakeLongerWhileAShardMigratesOrFailsOver(t *testing.T) {
	for _, name := range []string{"MIGRATING", "FAILING_OVER"} {
		t.Run(name, func(t *testing.T) {
			besideBare(t, func(t *testing.T, m *maintained, rdb *redis.Client, c *managed.Client, _ *events) {
				ctx := t.Context()
				rdb = rdb.WithTimeout(150 * time.Millisecond)
				call := func() error { return rdb.Incr(ctx, "counter").Err() }
				if c != nil {
					c := c.WithTimeout(150 * time.Millisecond)
					call = func() error { return c.Incr(ctx, "counter").Err() }
				}
				require.NoError(t, call())
				require.NotZero(t, m.old.push(name, 1, 2, 0))
				require.NoError(t, call())
				m.Pause()
				time.AfterFunc(400*time.Millisecond, m.Resume)
				require.NoError(t, call())
				require.EqualValues(t, 3, m.count(t))
				require.Equal(t, 1, m.old.count(), "its connection is kept")
			})
		})
	}
}

// Not beside bare go-redis, as in TestConnectionsMoveToAnotherEndpointUnderTraffic. What the cache has
// read from the old endpoint is invalidated, or forgotten.
func TestTheClientSideCacheStaysRightWhenConnectionsMove(t *testing.T) {
	m, e := startMaintained(t, redistest.Start(t)), new(events)
	opt := m.options()
	opt.ClientSideCacheConfig = &redis.ClientSideCacheConfig{MaxEntries: 100}
	c := client(t, opt, e.option())
	ctx := t.Context()
	require.NoError(t, m.Admin().Set(ctx, "k", "0", 0).Err())
	read := func() string {
		v, err := c.Get(ctx, "k").Result()
		require.NoError(t, err)
		return v
	}
	redistest.Eventually(t, "the cache answers", soon, func() bool { read(); return c.CSCStats().Hits > 0 })
	require.NotZero(t, m.old.push("MOVING", 1, 2, m.next.addr()))
	redistest.Eventually(t, "its connections have moved", soon, func() bool {
		require.NoError(t, c.Incr(ctx, "counter").Err())
		read()
		return m.old.told() == 0 && m.next.count() > 0
	})
	for i := range 5 {
		require.NoError(t, m.Admin().Set(ctx, "k", i+1, 0).Err())
		redistest.Eventually(t, "the new value", soon, func() bool { return read() == strconv.Itoa(i+1) })
	}
	hits := c.CSCStats().Hits
	redistest.Eventually(t, "the cache answers again", soon, func() bool { read(); return c.CSCStats().Hits > hits })
	booksAreRight(t, m, c.Client, c, e)
}
