package managed_test

import (
	"context"
	"strings"
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

func TestResetEndsIdleConnectionsNowAndBusyOnesWhenTheyComeBack(t *testing.T) {
	transports(t, func(t *testing.T, s *redistest.Server, opt *redis.Options) {
		opt.PoolSize = 20
		c := client(t, opt)
		ctx := t.Context()
		burst(t, c, 20)
		pipelineBurst(t, c, 3)
		sub := c.Subscribe(ctx, "channel")
		defer sub.Close()
		_, err := sub.Receive(ctx)
		require.NoError(t, err)
		conn, err := c.Acquire(ctx)
		require.NoError(t, err)
		key := redistest.UniqueKey(t, "list")
		popped := make(chan error, 1)
		go func() { popped <- c.BLPop(ctx, soon, key).Err() }()
		redistest.Eventually(t, "BLPOP waits", soon, func() bool {
			for _, i := range c.Conns() {
				if i.LastCommand == "blpop" {
					return true
				}
			}
			return false
		})
		old := ids(c)
		n := c.Reset(ctx)
		require.Equal(t, len(old)-1, n, "all but pub/sub")
		// Maintenance may have been asking for the server's timeout on another one.
		redistest.Eventually(t, "the lease, BLPOP and the subscription are left", soon, func() bool { return len(c.Conns()) == 3 })
		require.NoError(t, conn.Ping(ctx).Err(), "a lease works on")
		conn.Release()
		require.NoError(t, s.Admin().RPush(ctx, key, "x").Err())
		require.NoError(t, <-popped)
		redistest.Eventually(t, "only the subscription is left", time.Second, func() bool { return len(c.Conns()) == 1 })
		require.EqualValues(t, n, c.CloseReasons()[hooks.ReasonReset])
		require.NoError(t, s.Admin().Publish(ctx, "channel", "still").Err())
		_, err = sub.ReceiveMessage(ctx)
		require.NoError(t, err)
	})
}

func TestResetUnderLoadCostsNobodyAnError(t *testing.T) {
	transports(t, func(t *testing.T, s *redistest.Server, opt *redis.Options) {
		opt.PoolSize = 20
		c := client(t, opt)
		var n, failed atomic.Int64
		var odd atomic.Pointer[error]
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for range 16 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					n.Add(1)
					if err := c.Incr(t.Context(), "n").Err(); err != nil {
						failed.Add(1)
						odd.Store(&err)
					}
				}
			})
		}
		ended := 0
		for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			ended += c.Reset(t.Context())
		}
		close(stop)
		wg.Wait()
		t.Logf("%d commands while %d connections were reset", n.Load(), ended)
		if failed.Load() > 0 {
			t.Errorf("%d failed: %v", failed.Load(), *odd.Load())
		}
		got, err := s.Admin().Get(t.Context(), "n").Int64()
		require.NoError(t, err)
		require.Equal(t, n.Load(), got, "each exactly once")
	})
}

func TestEvictIdleEndsWhatIsIdleAndSaysHowMuch(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 20
	c := client(t, opt)
	burst(t, c, 20)
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	require.Equal(t, 19, c.EvictIdle(t.Context()))
	require.Len(t, c.Conns(), 1)
	require.NoError(t, conn.Ping(t.Context()).Err())
	conn.Release()
	time.Sleep(50 * time.Millisecond)
	require.Len(t, c.Conns(), 1, "one that was in use is not idle, and stays")
	agrees(t, s, c)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Zero(t, c.EvictIdle(ctx), "its ctx bounds it")
	require.Len(t, c.Conns(), 1)
	time.Sleep(50 * time.Millisecond)
	require.Len(t, c.Conns(), 1)
}

func TestWarmOpensConnectionsForReal(t *testing.T) {
	transports(t, func(t *testing.T, s *redistest.Server, opt *redis.Options) {
		require.NoError(t, s.Admin().Do(t.Context(), "ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all").Err())
		opt.PoolSize, opt.Username, opt.Password = 30, "app", "secret"
		var ev events
		c := client(t, opt, ev.option())
		n, err := c.Warm(t.Context(), 25)
		require.NoError(t, err)
		require.Equal(t, 25, n)
		list := s.ClientList(t)
		require.Len(t, list, 25)
		for _, x := range list {
			require.Equal(t, "app", x.User, "AUTH is done")
			require.Equal(t, 3, x.Resp, "HELLO is done")
		}
		hello := calls(t, s, "hello")
		_, errs := crowd(c, 25, 2)
		require.Empty(t, errs)
		// Maintenance may have one in its hands just then, as a caller more.
		extra := len(ev.of(hooks.Dialed)) - 25
		require.LessOrEqual(t, extra, 1, "25 callers dial nothing")
		require.LessOrEqual(t, calls(t, s, "hello")-hello, extra, "and shake no hands")
		n, err = c.Warm(t.Context(), 10)
		require.NoError(t, err)
		require.Equal(t, 10, n)
		require.Len(t, ev.of(hooks.Dialed), 25+extra, "there are enough")
	})
}

func TestWarmSaysHowFarItCame(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--maxclients", "12")
	s.NumClients(t)
	opt := s.Options()
	opt.PoolSize = 30
	c := client(t, opt)
	_, err := c.Warm(t.Context(), 31)
	require.ErrorContains(t, err, "PoolSize")
	_, err = c.Warm(t.Context(), -1)
	require.Error(t, err)
	n, err := c.Warm(t.Context(), 20)
	t.Log(n, err)
	require.ErrorContains(t, err, "of 20 connections are open") // and that the server refused or closed the next one
	require.GreaterOrEqual(t, n, 6)
	require.LessOrEqual(t, n, 11)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n, err = c.Warm(ctx, 30)
	require.ErrorIs(t, err, context.Canceled)
	require.Positive(t, n)
	require.NoError(t, c.Ping(t.Context()).Err(), "it took nobody's connection away")

	gone := client(t, &redis.Options{Addr: "127.0.0.1:1", PoolSize: 5})
	n, err = gone.Warm(t.Context(), 5)
	require.Error(t, err)
	require.Zero(t, n)
	require.NoError(t, c.Close())
	_, err = c.Warm(t.Context(), 1)
	require.ErrorIs(t, err, redis.ErrClosed)
}

func TestWarmCountsWhatIsInUseAndNeverWaitsForIt(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 10
	c := client(t, opt)
	var held []*managed.Conn
	for range 6 {
		conn, err := c.Acquire(t.Context())
		require.NoError(t, err)
		held = append(held, conn)
	}
	began := time.Now()
	n, err := c.Warm(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, 10, n)
	require.Less(t, redistest.Took(began), time.Second)
	for _, conn := range held {
		conn.Release()
	}
	require.Equal(t, 10, s.NumClients(t))
}

// Maintenance asks the server some questions once it is there, on a connection of the pool.
func TestEvictIdleClosesTheConnectionOfAProbe(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	asked := make(chan struct{})
	var once sync.Once
	p.OnRequest(func(_ int, b []byte) redistest.Action {
		if strings.Contains(string(b), "config") {
			once.Do(func() { close(asked); time.Sleep(100 * time.Millisecond) })
		}
		return redistest.Forward
	})
	opt := s.Options()
	opt.Addr = p.Addr()
	c := client(t, opt)
	_, err := c.Warm(t.Context(), 4)
	require.NoError(t, err)
	<-asked
	require.GreaterOrEqual(t, c.EvictIdle(t.Context()), 4)
}
