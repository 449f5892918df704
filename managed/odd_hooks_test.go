package managed_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// oddHook does something unusual with each call of INCR.
type oddHook struct {
	do func(cmds []redis.Cmder, next func() error) error
}

func (h *oddHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (h *oddHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "incr" {
			return next(ctx, cmd)
		}
		return h.do([]redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
	}
}

func (h *oddHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		var own []redis.Cmder
		for _, cmd := range cmds {
			if cmd.Name() == "incr" {
				own = append(own, cmd)
			}
		}
		if own == nil {
			return next(ctx, cmds)
		}
		return h.do(own, func() error { return next(ctx, cmds) })
	}
}

var errOdd = errors.New("odd")

var oddHooks = map[string]func(cmds []redis.Cmder, next func() error) error{
	"changes the key": func(cmds []redis.Cmder, next func() error) error {
		for _, cmd := range cmds {
			cmd.Args()[1] = "{n}other"
		}
		return next()
	},
	"changes the result": func(cmds []redis.Cmder, next func() error) error {
		err := next()
		for _, cmd := range cmds {
			cmd.(*redis.IntCmd).SetVal(77)
		}
		return err
	},
	"answers itself": func(cmds []redis.Cmder, _ func() error) error {
		for _, cmd := range cmds {
			cmd.(*redis.IntCmd).SetVal(42)
		}
		return nil
	},
	"refuses": func([]redis.Cmder, func() error) error { return errOdd },
	"refuses with an error of the network": func([]redis.Cmder, func() error) error {
		return &net.OpError{Op: "read", Net: "tcp", Err: errOdd}
	},
	"calls twice":       func(_ []redis.Cmder, next func() error) error { _ = next(); return next() },
	"replaces an error": func(_ []redis.Cmder, next func() error) error { _ = next(); return errOdd },
	"marks each command": func(cmds []redis.Cmder, next func() error) error {
		err := next()
		for _, cmd := range cmds {
			cmd.SetErr(errOdd)
		}
		return err
	},
	"calls from another goroutine": func(_ []redis.Cmder, next func() error) error {
		done := make(chan error)
		go func() { done <- next() }()
		return <-done
	},
	"calls three times": func(_ []redis.Cmder, next func() error) (err error) {
		for range 3 {
			err = next()
		}
		return err
	},
	"panics before": func([]redis.Cmder, func() error) error { panic("before") },
	"panics after":  func(_ []redis.Cmder, next func() error) error { _ = next(); panic("after") },
}

// oddCalls are two INCR of n, or one, and what comes of them.
var oddCalls = map[string]func(context.Context, redis.UniversalClient) ([]*redis.IntCmd, error){
	"command": func(ctx context.Context, c redis.UniversalClient) ([]*redis.IntCmd, error) {
		cmd := c.Incr(ctx, "{n}")
		return []*redis.IntCmd{cmd}, cmd.Err()
	},
	"process": func(ctx context.Context, c redis.UniversalClient) ([]*redis.IntCmd, error) {
		cmd := redis.NewIntCmd(ctx, "incr", "{n}")
		return []*redis.IntCmd{cmd}, c.Process(ctx, cmd)
	},
	"pipeline": func(ctx context.Context, c redis.UniversalClient) ([]*redis.IntCmd, error) {
		p := c.Pipeline()
		cmds := []*redis.IntCmd{p.Incr(ctx, "{n}"), p.Incr(ctx, "{n}")}
		_, err := p.Exec(ctx)
		return cmds, err
	},
	"transaction": func(ctx context.Context, c redis.UniversalClient) ([]*redis.IntCmd, error) {
		p := c.TxPipeline()
		cmds := []*redis.IntCmd{p.Incr(ctx, "{n}"), p.Incr(ctx, "{n}")}
		_, err := p.Exec(ctx)
		return cmds, err
	},
	"watch": func(ctx context.Context, c redis.UniversalClient) (cmds []*redis.IntCmd, err error) {
		err = c.Watch(ctx, func(tx *redis.Tx) error {
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { cmds = append(cmds, p.Incr(ctx, "{n}")); return nil })
			return err
		}, "{n}k")
		return cmds, err
	},
	"watch without a transaction": func(ctx context.Context, c redis.UniversalClient) (cmds []*redis.IntCmd, err error) {
		err = c.Watch(ctx, func(tx *redis.Tx) error {
			cmds = append(cmds, tx.Incr(ctx, "{n}"))
			return cmds[0].Err()
		}, "{n}k")
		return cmds, err
	},
}

// outcome describes all that a caller and the server see of a call.
func outcome(ctx context.Context, c redis.UniversalClient, server *redis.Client, call func(context.Context, redis.UniversalClient) ([]*redis.IntCmd, error)) (said string) {
	server.FlushAll(ctx)
	defer func() {
		if p := recover(); p != nil {
			said = fmt.Sprintf("panic: %v", p)
		}
		said += fmt.Sprintf("; at the server %q %q", server.Get(ctx, "{n}").Val(), server.Get(ctx, "{n}other").Val())
	}()
	cmds, err := call(ctx, c)
	said = fmt.Sprintf("%T %v", err, err)
	for _, cmd := range cmds {
		said += fmt.Sprintf("; %d %T %v", cmd.Val(), cmd.Err(), cmd.Err())
	}
	return said
}

// pair is a way to make a client, bare and managed, and the server that both use.
type pair struct {
	server        *redis.Client
	bare, managed func() redis.UniversalClient
}

func oddClients(t *testing.T) map[string]pair {
	s := redistest.Start(t)
	one := redistest.StartOneNodeCluster(t)
	shards := map[string]string{"a": s.Addr()}
	slots := func(context.Context) ([]redis.ClusterSlot, error) {
		return []redis.ClusterSlot{{End: 16383, Nodes: []redis.ClusterNode{{Addr: one.Addr()}}}}, nil
	}
	return map[string]pair{
		"client": {s.Admin(), func() redis.UniversalClient { return redis.NewClient(s.Options()) },
			func() redis.UniversalClient { return managed.NewClient(s.Options(), managed.WithLogger(quiet)) }},
		"clone": {s.Admin(), func() redis.UniversalClient { return redis.NewClient(s.Options()).WithTimeout(time.Minute) },
			func() redis.UniversalClient {
				return managed.NewClient(s.Options(), managed.WithLogger(quiet)).WithTimeout(time.Minute)
			}},
		"ring": {s.Admin(), func() redis.UniversalClient { return redis.NewRing(&redis.RingOptions{Addrs: shards}) },
			func() redis.UniversalClient {
				return managed.NewRing(&redis.RingOptions{Addrs: shards}, managed.WithLogger(quiet))
			}},
		"cluster": {one.Admin(), func() redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{ClusterSlots: slots})
		}, func() redis.UniversalClient {
			return managed.NewClusterClient(&redis.ClusterOptions{ClusterSlots: slots}, managed.WithLogger(quiet))
		}},
	}
}

func TestHooksThatDoOddThingsDoTheSameAsOnABareClient(t *testing.T) {
	for kind, k := range oddClients(t) {
		for odd, do := range oddHooks {
			bare, c := k.bare(), k.managed()
			bare.AddHook(&oddHook{do})
			c.AddHook(&oddHook{do})
			for name, call := range oddCalls {
				want := outcome(t.Context(), bare, k.server, call)
				got := outcome(t.Context(), c, k.server, call)
				if want != got {
					t.Errorf("%s, %s, %s:\nbare    %s\nmanaged %s", kind, odd, name, want, got)
				}
			}
			stats := c.PoolStats()
			require.EqualValues(t, stats.TotalConns, stats.IdleConns, "%s, %s: no connection is lost", kind, odd)
			require.NoError(t, bare.Close())
			require.NoError(t, c.Close())
		}
	}
}

func TestAHookMayUseItsClientAndAddHooksAsOnABareClient(t *testing.T) {
	for kind, k := range oddClients(t) {
		bare, c := k.bare(), k.managed()
		defer bare.Close()
		defer c.Close()
		for name, call := range oddCalls {
			seen := func(c redis.UniversalClient) string {
				var once sync.Once
				var added atomic.Int64 // calls that the added hook sees
				c.AddHook(&oddHook{func(_ []redis.Cmder, next func() error) error {
					once.Do(func() {
						_ = c.Set(t.Context(), "{n}other", "own", 0).Err()
						c.AddHook(&oddHook{func(_ []redis.Cmder, next func() error) error { added.Add(1); return next() }})
					})
					return next()
				}})
				first := outcome(t.Context(), c, k.server, call)
				again := outcome(t.Context(), c, k.server, call)
				return fmt.Sprintf("%s\n%s\ncalls in the hook that it added: %d", first, again, added.Load())
			}
			require.Equal(t, seen(bare), seen(c), "%s, %s", kind, name)
		}
	}
}
