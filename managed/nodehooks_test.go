package managed_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// nodeHook is a hook that NewClient adds to the client of a node. It notes what it sees.
type nodeHook struct {
	mu        sync.Mutex
	seen      []string
	continues func(context.Context) context.Context               // the ctx that it goes on with
	before    func(context.Context, *redis.Client, []redis.Cmder) // what it does first
	client    *redis.Client
}

func (h *nodeHook) note(ctx context.Context, cmds []redis.Cmder) context.Context {
	h.mu.Lock()
	names := make([]string, len(cmds))
	for i, cmd := range cmds {
		names[i] = cmd.Name()
	}
	if n := names[0]; n != "hello" && n != "client" && n != "command" {
		h.seen = append(h.seen, strings.Join(names, " "))
	}
	h.mu.Unlock()
	if h.before != nil {
		h.before(ctx, h.client, cmds)
	}
	if h.continues != nil {
		return h.continues(ctx)
	}
	return ctx
}

func (h *nodeHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (h *nodeHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return next(h.note(ctx, []redis.Cmder{cmd}), cmd)
	}
}

func (h *nodeHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return next(h.note(ctx, cmds), cmds) }
}

// leasing is a client of several nodes.
type leasing interface {
	redis.UniversalClient
	Acquire(context.Context, string) (*managed.Conn, error)
}

// hooked gives a ring and a cluster client, each of one node, whose NewClient adds the hook that
// make returns.
func hooked(t testing.TB, test func(t *testing.T, c leasing, bare redis.UniversalClient, h, bareHook *nodeHook, s *redis.Client), like *nodeHook, opts ...managed.Option) {
	s, one := redistest.Start(t), redistest.StartOneNodeCluster(t)
	adds := func(h *nodeHook) func(o *redis.Options) *redis.Client {
		return func(o *redis.Options) *redis.Client {
			c := redis.NewClient(o)
			h.client = c
			c.AddHook(h)
			return c
		}
	}
	opts = append(opts, managed.WithLogger(quiet))
	hook := func() *nodeHook { return &nodeHook{continues: like.continues, before: like.before} }
	run := func(kind string, c leasing, bare redis.UniversalClient, h, bareHook *nodeHook, s *redis.Client) {
		t.(*testing.T).Run(kind, func(t *testing.T) { test(t, c, bare, h, bareHook, s) })
		redistest.Eventually(t, "no slot is lost", soon, func() bool { // the heartbeat may just hold one
			stats := c.PoolStats()
			return stats.TotalConns == stats.IdleConns
		})
		require.NoError(t, c.Close())
		require.NoError(t, bare.Close())
	}
	ring := func(h *nodeHook) *redis.RingOptions {
		return &redis.RingOptions{Addrs: map[string]string{"a": s.Addr()}, NewClient: adds(h), PoolSize: 4, HeartbeatFrequency: time.Hour}
	}
	cluster := func(h *nodeHook) *redis.ClusterOptions {
		slots := []redis.ClusterSlot{{End: 16383, Nodes: []redis.ClusterNode{{Addr: one.Addr()}}}}
		return &redis.ClusterOptions{ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) { return slots, nil }, NewClient: adds(h), PoolSize: 4}
	}
	h, b := hook(), hook()
	run("ring", managed.NewRing(ring(h), opts...), redis.NewRing(ring(b)), h, b, s.Admin())
	h, b = hook(), hook()
	run("cluster", managed.NewClusterClient(cluster(h), opts...), redis.NewClusterClient(cluster(b)), h, b, one.Admin())
}

func withValue(ctx context.Context) context.Context { return context.WithValue(ctx, heldByHook{}, 1) }

type heldByHook struct{}

func TestAHookThatNewClientAddsSeesWhatItSeesOnABareClientAndNoVisit(t *testing.T) {
	hooked(t, func(t *testing.T, c leasing, bare redis.UniversalClient, h, bareHook *nodeHook, s *redis.Client) {
		ctx := t.Context()
		for _, c := range []redis.UniversalClient{bare, c} {
			require.NoError(t, c.Set(ctx, "k", "v", 0).Err())
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); p.Incr(ctx, "n"); return nil })
			require.NoError(t, err)
			_, err = c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); p.Incr(ctx, "n"); return nil })
			require.NoError(t, err)
			require.NoError(t, c.Watch(ctx, incr, "n"))
		}
		h.mu.Lock()
		bareHook.mu.Lock()
		require.Equal(t, bareHook.seen, h.seen)
		bareHook.mu.Unlock()
		h.seen = nil
		h.mu.Unlock()

		conn, err := c.Acquire(ctx, "k")
		require.NoError(t, err)
		require.NoError(t, conn.Get(ctx, "k").Err())
		require.NoError(t, conn.Do(ctx, "multi").Err())
		conn.Release() // which is undone
		begin := pingsAt(t, s)
		redistest.Eventually(t, "the heartbeat asks idle connections", soon, func() bool { return pingsAt(t, s) > begin+2 })
		h.mu.Lock()
		defer h.mu.Unlock()
		require.Equal(t, []string{"get", "multi"}, h.seen)
	}, &nodeHook{}, managed.WithValidateAfter(0), managed.WithHeartbeat(20*time.Millisecond))
}

// pingsAt counts the PINGs that a server has got.
func pingsAt(t testing.TB, s *redis.Client) (n int) {
	text, err := s.Info(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	if _, after, ok := strings.Cut(text, "cmdstat_ping:calls="); ok {
		_, err = fmt.Sscan(strings.SplitN(after, ",", 2)[0], &n)
		require.NoError(t, err)
	}
	return n
}

// redisotel's hook goes on with a ctx that has a span.
func TestAPipelineOnALeaseEndsWithItsCtxUnderAHookThatWrapsTheCtx(t *testing.T) {
	hooked(t, func(t *testing.T, c leasing, _ redis.UniversalClient, _, _ *nodeHook, _ *redis.Client) {
		conn, err := c.Acquire(t.Context(), "k")
		require.NoError(t, err)
		defer conn.Release()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err = conn.Pipelined(ctx, func(p redis.Pipeliner) error { p.BLPop(ctx, 2*time.Second, "none"); return nil })
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}, &nodeHook{continues: withValue})
}

func TestAHookThatNewClientAddsMaySendCommandsItself(t *testing.T) {
	type own struct{}
	send := func(ctx context.Context, c *redis.Client, cmds []redis.Cmder) {
		if n := cmds[0].Name(); ctx.Value(own{}) == nil && n != "hello" && n != "client" && n != "command" {
			_ = c.Incr(context.WithValue(context.Background(), own{}, 1), "count").Err()
		}
	}
	hooked(t, func(t *testing.T, c leasing, _ redis.UniversalClient, _, _ *nodeHook, s *redis.Client) {
		ctx := t.Context()
		within(t, "calls under a hook that sends commands", func() {
			require.NoError(t, c.Set(ctx, "k", "v", 0).Err())
			require.NoError(t, c.Watch(ctx, incr, "n"))
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
			require.NoError(t, err)
			conn, err := c.Acquire(ctx, "k")
			require.NoError(t, err)
			require.NoError(t, conn.Get(ctx, "k").Err())
			conn.Release()
		})
		n, err := s.Get(ctx, "count").Int()
		require.NoError(t, err)
		require.GreaterOrEqual(t, n, 5)
	}, &nodeHook{before: send})
}

func TestAHookOfANodeMayLoseTheCtx(t *testing.T) {
	lose := func(ctx context.Context) context.Context { return context.Background() }
	hooked(t, func(t *testing.T, c leasing, _ redis.UniversalClient, h, _ *nodeHook, s *redis.Client) {
		ctx := t.Context()
		require.NoError(t, c.Set(ctx, "k", "v", 0).Err())
		_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); p.Incr(ctx, "n"); return nil })
		require.NoError(t, err)
		require.Equal(t, "v2", s.Get(ctx, "k").Val()+s.Get(ctx, "n").Val())
		require.Equal(t, []string{"set", "incr incr"}, h.seen)
	}, &nodeHook{continues: lose})
}

func TestTheUsersNewClientMayUseTheClientThatItMakes(t *testing.T) {
	s := redistest.Start(t)
	slots := []redis.ClusterSlot{{End: 16383, Nodes: []redis.ClusterNode{{Addr: s.Addr()}}}}
	var pinged error
	c := clusterClient(t, &redis.ClusterOptions{RouteByLatency: true,
		ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) { return slots, nil },
		NewClient: func(o *redis.Options) *redis.Client {
			rdb := redis.NewClient(o)
			pinged = rdb.Ping(context.Background()).Err()
			return rdb
		}})
	require.NoError(t, c.Set(deadline(t, soon), "k", "v", 0).Err())
	require.NoError(t, pinged)
}
