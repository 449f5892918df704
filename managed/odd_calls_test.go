package managed_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// oddClient is a bare or a managed client, and what only one of them has, or has by another name.
type oddClient struct {
	redis.UniversalClient
	hooked     func(redis.Hook)                              // adds a hook for all that follows
	instrument func(redis.Hook) error                        // adds one by Instrument, if it is managed
	pinned     func(context.Context) (pinned, func(), error) // a Conn, or a lease
	batched    func() (*redis.AutoPipeliner, error)
	adaptive   func() redis.UniversalClient // of a bare client the client itself
}

// pinned is what a Conn and a lease have in common.
type pinned interface {
	Incr(context.Context, string) *redis.IntCmd
	Pipeline() redis.Pipeliner
	TxPipeline() redis.Pipeliner
}

// bareClient is a client of go-redis. one is a client of the server whose Conns it uses, because
// clients of several servers have none.
func bareClient(c redis.UniversalClient, one *redis.Client) oddClient {
	b := oddClient{UniversalClient: c, adaptive: func() redis.UniversalClient { return c }}
	b.hooked = func(h redis.Hook) {
		c.AddHook(h)
		if c != redis.UniversalClient(one) {
			one.AddHook(h)
		}
	}
	b.pinned = func(ctx context.Context) (pinned, func(), error) {
		conn := one.Conn()
		return conn, func() { _ = conn.Close() }, conn.Ping(ctx).Err() // which takes a connection
	}
	b.batched = func() (*redis.AutoPipeliner, error) {
		return c.AutoPipelineWithOptions(redis.DefaultBlockingAutoPipelineOptions())
	}
	return b
}

func managedClient(c redis.UniversalClient) oddClient {
	m := oddClient{UniversalClient: c, hooked: c.AddHook}
	m.instrument = func(h redis.Hook) error { return instrument(c, h) }
	acquire := func(ctx context.Context) (*managed.Conn, error) { return c.(leasing).Acquire(ctx, "{n}") }
	switch c := c.(type) {
	case *managed.Client:
		acquire = c.Acquire
		m.batched = func() (*redis.AutoPipeliner, error) { return c.Batched() }
		m.adaptive = func() redis.UniversalClient { return c.Adaptive(managed.AlwaysBatch) }
	case *managed.ClusterClient:
		m.batched = func() (*redis.AutoPipeliner, error) { return c.Batched() }
		m.adaptive = func() redis.UniversalClient { return c.Adaptive(managed.AlwaysBatch) }
	case *managed.Ring: // it has no batches of ours
		m.batched = func() (*redis.AutoPipeliner, error) {
			return c.AutoPipelineWithOptions(redis.DefaultBlockingAutoPipelineOptions())
		}
		m.adaptive = func() redis.UniversalClient { return c }
	}
	m.pinned = func(ctx context.Context) (pinned, func(), error) {
		conn, err := acquire(ctx)
		if err != nil {
			return nil, nil, err
		}
		return conn, conn.Release, nil
	}
	return m
}

// instrument adds a hook by Instrument.
func instrument(c redis.UniversalClient, h redis.Hook) error {
	switch c := c.(type) {
	case *managed.Client:
		return c.Instrument(func(target *redis.Client) error { target.AddHook(h); return nil })
	case *managed.ClusterClient:
		return c.Instrument(func(target *redis.ClusterClient) error { target.AddHook(h); return nil })
	case *managed.Ring:
		return c.Instrument(func(target *redis.Ring) error { target.AddHook(h); return nil })
	}
	return fmt.Errorf("%T has no Instrument", c)
}

// two sends two INCR of n, and returns them.
func two(ctx context.Context, p redis.Pipeliner) ([]*redis.IntCmd, error) {
	cmds := []*redis.IntCmd{p.Incr(ctx, "{n}"), p.Incr(ctx, "{n}")}
	_, err := p.Exec(ctx)
	return cmds, err
}

func onPinned(ctx context.Context, c oddClient, call func(pinned) ([]*redis.IntCmd, error)) ([]*redis.IntCmd, error) {
	conn, release, err := c.pinned(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return call(conn)
}

// oddCalls are two INCR of n, or one, and what comes of them.
var oddCalls = map[string]func(context.Context, oddClient) ([]*redis.IntCmd, error){
	"command": func(ctx context.Context, c oddClient) ([]*redis.IntCmd, error) {
		cmd := c.Incr(ctx, "{n}")
		return []*redis.IntCmd{cmd}, cmd.Err()
	},
	"process": func(ctx context.Context, c oddClient) ([]*redis.IntCmd, error) {
		cmd := redis.NewIntCmd(ctx, "incr", "{n}")
		return []*redis.IntCmd{cmd}, c.Process(ctx, cmd)
	},
	"pipeline":    func(ctx context.Context, c oddClient) ([]*redis.IntCmd, error) { return two(ctx, c.Pipeline()) },
	"transaction": func(ctx context.Context, c oddClient) ([]*redis.IntCmd, error) { return two(ctx, c.TxPipeline()) },
	"watch": func(ctx context.Context, c oddClient) (cmds []*redis.IntCmd, err error) {
		err = c.Watch(ctx, func(tx *redis.Tx) error {
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { cmds = append(cmds, p.Incr(ctx, "{n}")); return nil })
			return err
		}, "{n}k")
		return cmds, err
	},
	"watch without a transaction": func(ctx context.Context, c oddClient) (cmds []*redis.IntCmd, err error) {
		err = c.Watch(ctx, func(tx *redis.Tx) error {
			cmds = append(cmds, tx.Incr(ctx, "{n}"))
			return cmds[0].Err()
		}, "{n}k")
		return cmds, err
	},
	"lease": func(ctx context.Context, c oddClient) ([]*redis.IntCmd, error) {
		return onPinned(ctx, c, func(conn pinned) ([]*redis.IntCmd, error) {
			cmd := conn.Incr(ctx, "{n}")
			return []*redis.IntCmd{cmd}, cmd.Err()
		})
	},
	"pipeline on a lease": func(ctx context.Context, c oddClient) ([]*redis.IntCmd, error) {
		return onPinned(ctx, c, func(conn pinned) ([]*redis.IntCmd, error) { return two(ctx, conn.Pipeline()) })
	},
	"transaction on a lease": func(ctx context.Context, c oddClient) ([]*redis.IntCmd, error) {
		return onPinned(ctx, c, func(conn pinned) ([]*redis.IntCmd, error) { return two(ctx, conn.TxPipeline()) })
	},
	"batched": func(ctx context.Context, c oddClient) ([]*redis.IntCmd, error) {
		ap, err := c.batched()
		if err != nil {
			return nil, err
		}
		cmd := ap.Incr(ctx, "{n}")
		return []*redis.IntCmd{cmd}, cmd.Err()
	},
	"adaptive": func(ctx context.Context, c oddClient) ([]*redis.IntCmd, error) {
		cmd := c.adaptive().Incr(ctx, "{n}")
		return []*redis.IntCmd{cmd}, cmd.Err()
	},
	"pipeline of adaptive": func(ctx context.Context, c oddClient) ([]*redis.IntCmd, error) {
		return two(ctx, c.adaptive().Pipeline())
	},
}

// outcome describes all that a caller and the server see of a call.
func outcome(ctx context.Context, c oddClient, server *redis.Client, call func(context.Context, oddClient) ([]*redis.IntCmd, error)) (said string) {
	server.FlushAll(ctx)
	defer func() {
		if p := recover(); p != nil {
			said = fmt.Sprintf("panic: %v", p)
		}
		said += fmt.Sprintf("; at the server %q %q", server.Get(ctx, "{n}").Val(), server.Get(ctx, "{n}other").Val())
	}()
	cmds, err := call(ctx, c)
	said = describe(err)
	for _, cmd := range cmds {
		said += fmt.Sprintf("; %d %s", cmd.Val(), describe(cmd.Err()))
	}
	return said
}

// describe gives the type and the text of an error. Of the end of a ctx it says just that: a lease
// adds that the command was not sent, and a Sentinel client of go-redis what it was doing.
func describe(err error) string {
	for _, end := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, end) {
			return end.Error()
		}
	}
	return fmt.Sprintf("%T %v", err, err)
}

// pair is a way to make a client, bare and managed, and the server that both use.
type pair struct {
	server        *redis.Client
	bare, managed func() oddClient
}

// oddServers are the servers of the clients below.
type oddServers struct {
	single, cluster, master *redistest.Server
	sentinel                *redis.FailoverOptions
}

func startOddServers(t *testing.T) *oddServers {
	s := &oddServers{single: redistest.Start(t), cluster: redistest.StartOneNodeCluster(t)}
	s.master, s.sentinel = redistest.StartOneSentinel(t)
	return s
}

func (s *oddServers) ring() *redis.RingOptions {
	return &redis.RingOptions{Addrs: map[string]string{"a": s.single.Addr()}}
}

func slotsOf(s *redistest.Server) *redis.ClusterOptions {
	slots := []redis.ClusterSlot{{End: 16383, Nodes: []redis.ClusterNode{{Addr: s.Addr()}}}}
	return &redis.ClusterOptions{ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) { return slots, nil }}
}

func (s *oddServers) clients(t *testing.T) map[string]pair {
	single := func(c *redis.Client) oddClient { return bareClient(c, c) }
	several := func(c redis.UniversalClient, s *redistest.Server) oddClient {
		one := redis.NewClient(s.Options())
		t.Cleanup(func() { _ = one.Close() })
		return bareClient(c, one)
	}
	log := managed.WithLogger(quiet)
	return map[string]pair{
		"client": {s.single.Admin(), func() oddClient { return single(redis.NewClient(s.single.Options())) },
			func() oddClient { return managedClient(managed.NewClient(s.single.Options(), log)) }},
		"clone": {s.single.Admin(), func() oddClient { return single(redis.NewClient(s.single.Options()).WithTimeout(time.Minute)) },
			func() oddClient {
				return managedClient(managed.NewClient(s.single.Options(), log).WithTimeout(time.Minute))
			}},
		"ring": {s.single.Admin(), func() oddClient { return several(redis.NewRing(s.ring()), s.single) },
			func() oddClient { return managedClient(managed.NewRing(s.ring(), log)) }},
		"cluster": {s.cluster.Admin(), func() oddClient { return several(redis.NewClusterClient(slotsOf(s.cluster)), s.cluster) },
			func() oddClient { return managedClient(managed.NewClusterClient(slotsOf(s.cluster), log)) }},
		"failover": {s.master.Admin(), func() oddClient { return single(redis.NewFailoverClient(s.sentinel)) },
			func() oddClient { return managedClient(managed.NewFailoverClient(s.sentinel, log)) }},
		// A bare one of these leaves a subscription to a Sentinel open. go-redis makes it of such a cluster client.
		"failover cluster": {s.master.Admin(), func() oddClient { return several(redis.NewClusterClient(slotsOf(s.master)), s.master) },
			func() oddClient { return managedClient(managed.NewFailoverClusterClient(s.sentinel, log)) }},
	}
}

// nodes are clients of one node whose NewClient adds the hook.
func (s *oddServers) nodes(t *testing.T, bareHook, hook redis.Hook) map[string]pair {
	with := func(h redis.Hook) func(o *redis.Options) *redis.Client {
		return func(o *redis.Options) *redis.Client {
			c := redis.NewClient(o)
			c.AddHook(h)
			return c
		}
	}
	bare := func(c redis.UniversalClient, s *redistest.Server) oddClient {
		one := with(bareHook)(s.Options())
		t.Cleanup(func() { _ = one.Close() })
		return bareClient(c, one)
	}
	log := managed.WithLogger(quiet)
	ring := func(h redis.Hook) *redis.RingOptions { o := s.ring(); o.NewClient = with(h); return o }
	slots := func(h redis.Hook) *redis.ClusterOptions { o := slotsOf(s.cluster); o.NewClient = with(h); return o }
	return map[string]pair{
		"nodes of a ring": {s.single.Admin(), func() oddClient { return bare(redis.NewRing(ring(bareHook)), s.single) },
			func() oddClient { return managedClient(managed.NewRing(ring(hook), log)) }},
		"nodes of a cluster": {s.cluster.Admin(), func() oddClient { return bare(redis.NewClusterClient(slots(bareHook)), s.cluster) },
			func() oddClient { return managedClient(managed.NewClusterClient(slots(hook), log)) }},
	}
}
