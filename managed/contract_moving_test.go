package managed_test

import (
	"context"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// betweenHellos calls f after the HELLO of the second handshake, in the middle of it.
type betweenHellos struct {
	hellos atomic.Int32
	f      func()
}

func (h *betweenHellos) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *betweenHellos) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (h *betweenHellos) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == "hello" && h.hellos.Add(1) == 2 {
			h.f()
		}
		return err
	}
}

// inTheMiddleOfAMove moves the one connection of a client of database 3, and sets a key in the
// middle of the handshake at the new endpoint. It returns the databases in which the key is then.
func inTheMiddleOfAMove(t *testing.T, open func(*redis.Options) redis.UniversalClient) (found []int) {
	m := startMaintained(t, redistest.Start(t))
	opt := m.options()
	opt.DB, opt.PoolSize, opt.PipelinePoolSize = 3, 1, -1
	rdb := open(opt)
	set := make(chan error, 1)
	rdb.AddHook(&betweenHellos{f: func() {
		done := make(chan struct{})
		go func() {
			defer close(done)
			set <- rdb.Set(context.Background(), "where", "here", 0).Err()
		}()
		select { // it can end now only if it gets this connection
		case <-done:
		case <-time.After(200 * time.Millisecond):
		}
	}})
	ctx := t.Context()
	require.NoError(t, rdb.Ping(ctx).Err())
	require.Equal(t, 1, m.old.push("MOVING", 1, 2, m.next.addr()))
	require.NoError(t, rdb.Ping(ctx).Err()) // reads the notification; the move begins
	require.NoError(t, <-set)
	for db := range 4 {
		admin := m.Options()
		admin.DB = db
		c := redis.NewClient(admin)
		if c.Exists(ctx, "where").Val() == 1 {
			found = append(found, db)
		}
		require.NoError(t, c.Close())
	}
	return found
}

func TestContractGoRedisGivesACallerAConnectionThatItIsMoving(t *testing.T) {
	found := inTheMiddleOfAMove(t, func(opt *redis.Options) redis.UniversalClient {
		rdb := redis.NewClient(opt)
		t.Cleanup(func() { _ = rdb.Close() })
		return rdb
	})
	require.Equal(t, []int{0}, found, "go-redis gave a caller the connection in the middle of its handshake, so that SET ran in database 0; "+
		"if it does not any more, Conn.awaitHandshake of conntrack and its row in docs/MIGRATION.md can go")
}

func TestACallerWaitsForTheHandshakeOfAConnectionThatMoves(t *testing.T) {
	found := inTheMiddleOfAMove(t, func(opt *redis.Options) redis.UniversalClient { return client(t, opt) })
	require.Equal(t, []int{3}, found)
}

// go-redis v9.23.0 keeps such a connection, and tries again some seconds later.
func TestAMoveToAnEndpointThatIsUnreachableKeepsTheBooksRight(t *testing.T) {
	besideBare(t, func(t *testing.T, m *maintained, rdb *redis.Client, c *managed.Client, e *events) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, l.Close())
		ctx := t.Context()
		require.NoError(t, rdb.Incr(ctx, "counter").Err())
		require.Equal(t, 1, m.old.push("MOVING", 1, 2, l.Addr().String()))
		for range 3 {
			require.NoError(t, rdb.Incr(ctx, "counter").Err())
		}
		require.EqualValues(t, 4, m.count(t))
		if c == nil {
			return
		}
		redistest.Eventually(t, "the move was tried", soon, func() bool { return len(e.of(hooks.DialFailed)) > 0 })
		redistest.Eventually(t, "the pool has all that is open", soon, func() bool { return int(c.PoolStats().TotalConns) == m.open() })
		require.Len(t, c.Conns(), m.open())
		require.Empty(t, c.CloseReasons())
	})
}

func TestAMoveToItsOwnEndpointThatIsUnreachableKeepsTheBooksRight(t *testing.T) {
	m, e := startMaintained(t, redistest.Start(t)), new(events)
	c := client(t, m.options(), e.option())
	done := make(chan error)
	go func() {
		done <- c.XRead(context.Background(), &redis.XReadArgs{Streams: []string{"nothing", "$"}, Block: 200 * time.Millisecond}).Err()
	}()
	redistest.Eventually(t, "it waits in the server", soon, func() bool {
		return slices.ContainsFunc(m.ClientList(t), func(i redistest.ClientInfo) bool { return i.Cmd == "xread" })
	})
	require.NoError(t, m.old.l.Close())
	require.Equal(t, 1, m.old.push("MOVING", 1, 0, nil))
	require.Equal(t, redis.Nil, <-done)
	redistest.Eventually(t, "the move was tried", soon, func() bool { return len(e.of(hooks.DialFailed)) > 0 })
	redistest.Eventually(t, "the pool has all that is open", soon, func() bool { return int(c.PoolStats().TotalConns) == m.open() })
	require.Len(t, c.Conns(), m.open())
	require.Empty(t, c.CloseReasons())
}
