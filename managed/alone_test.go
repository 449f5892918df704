package managed_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// aloneOn are the two kinds of client of several nodes, on one server behind a proxy, with a
// pool of one connection for each node.
func aloneOn(t *testing.T, f func(t *testing.T, p *redistest.Proxy, c watcher, node *redis.Client, bare watcher, key string)) {
	t.Helper()
	t.Run("ring", func(t *testing.T) {
		p := redistest.NewProxy(t, redistest.Start(t).Addr())
		opt := &redis.RingOptions{Addrs: map[string]string{"a": p.Addr()}, HeartbeatFrequency: time.Hour,
			PoolSize: 1, PoolTimeout: 500 * time.Millisecond, PipelinePoolSize: -1, ReadTimeout: 500 * time.Millisecond}
		c := managed.NewRing(opt, managed.WithLogger(quiet))
		defer c.Close()
		bare := redis.NewRing(opt)
		defer bare.Close()
		var node *redis.Client
		require.NoError(t, c.ForEachShard(t.Context(), func(_ context.Context, n *redis.Client) error { node = n; return nil }))
		f(t, p, c, node, bare, "n")
	})
	t.Run("cluster", func(t *testing.T) {
		nodes := redistest.StartCluster(t, "redis-server", 2, 0)
		here := nodes.Master(0).Addr()
		p := redistest.NewProxy(t, here)
		opt := nodes.Options()
		opt.PoolSize, opt.PoolTimeout, opt.PipelinePoolSize = 1, 500*time.Millisecond, -1
		opt.ReadTimeout = 500 * time.Millisecond
		opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == here {
				addr = p.Addr()
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
		c, err := managed.NewCluster(opt, managed.WithLogger(quiet))
		require.NoError(t, err)
		defer c.Close()
		bare := redis.NewClusterClient(opt)
		defer bare.Close()
		node, err := c.MasterForKey(t.Context(), nodes.Key(0, "n"))
		require.NoError(t, err)
		f(t, p, c, node, bare, nodes.Key(0, "n"))
	})
}

func TestACommandOfATransactionOnANodeHasTheErrorOfABareOne(t *testing.T) {
	t.Parallel()
	aloneOn(t, func(t *testing.T, p *redistest.Proxy, c watcher, node *redis.Client, bare watcher, key string) {
		lose := func(command string, how redistest.Action) {
			p.OnRequest(func(_ int, b []byte) redistest.Action {
				if strings.HasPrefix(string(b), fmt.Sprintf("*2\r\n$%d\r\n%s\r\n", len(command), command)) {
					return how
				}
				return redistest.Forward
			})
		}
		run := func(c watcher, call func(tx *redis.Tx) error) (inside, second, outside error) {
			outside = c.Watch(t.Context(), func(tx *redis.Tx) error {
				inside = call(tx)
				second = tx.Get(t.Context(), key).Err()
				return inside
			}, key)
			return inside, second, outside
		}
		get := func(tx *redis.Tx) error { return tx.Get(t.Context(), key).Err() }
		incr := func(tx *redis.Tx) error { return tx.Incr(t.Context(), key).Err() }
		require.NoError(t, c.Watch(t.Context(), incr, key))
		require.NoError(t, bare.Watch(t.Context(), incr, key))

		lose("get", redistest.Drop)
		want, _, _ := run(bare, get)
		_, ok := want.(net.Error)
		require.True(t, ok, "go-redis's own %T", want)
		inside, second, outside := run(c, get)
		require.Equal(t, inside, outside)
		for _, err := range []error{inside, second} {
			_, ok := err.(net.Error)
			require.True(t, ok, "%T %v", err, err)
			var lost *hooks.ConnError
			require.ErrorAs(t, err, &lost)
			require.NotErrorIs(t, err, retry.ErrUnknownOutcome)
		}

		lose("incr", redistest.CutAfter)
		want, _, _ = run(bare, incr)
		inside, _, outside = run(c, incr)
		require.Equal(t, inside, outside)
		var unknown *retry.UnknownOutcomeError
		require.ErrorAs(t, inside, &unknown)
		require.Equal(t, "incr", unknown.Command)
		require.ErrorIs(t, inside, want)

		conn := node.Conn()
		err := conn.Incr(t.Context(), key).Err()
		_ = conn.Close()
		require.ErrorAs(t, err, &unknown)
		p.OnRequest(nil)
		require.Equal(t, redis.Nil, c.Watch(t.Context(), func(tx *redis.Tx) error { return tx.Get(t.Context(), "none").Err() }, key))
	})
}

func TestAConnOfANodeSaysThatThePoolIsExhausted(t *testing.T) {
	t.Parallel()
	aloneOn(t, func(t *testing.T, _ *redistest.Proxy, c watcher, node *redis.Client, _ watcher, key string) {
		require.NoError(t, c.Watch(t.Context(), func(*redis.Tx) error {
			conn := node.Conn()
			defer conn.Close()
			var full *managed.ExhaustedError
			require.ErrorAs(t, conn.Get(t.Context(), key).Err(), &full)
			return nil
		}, key))
	})
}
