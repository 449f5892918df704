package managed_test

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// The error of a command of OnConnect is one that go-redis would repeat the outer command
// for, and that one was not sent.
func TestACommandWhoseOnConnectLosesAReplyIsExecutedOnce(t *testing.T) {
	s := redistest.Start(t)
	cluster := redistest.StartOneNodeCluster(t)
	type set struct {
		rdb redis.UniversalClient
		p   *redistest.Proxy
		s   *redistest.Server
	}
	var seen atomic.Pointer[error]
	onConnect := func(ctx context.Context, conn *redis.Conn) error {
		err := conn.Do(ctx, "echo", "mine").Err()
		if err != nil {
			seen.Store(&err)
		}
		return err
	}
	for name, open := range map[string]func(t *testing.T) set{
		"client": func(t *testing.T) set {
			p := redistest.NewProxy(t, s.Addr())
			return set{client(t, &redis.Options{Addr: p.Addr(), OnConnect: onConnect}), p, s}
		},
		"cluster": func(t *testing.T) set {
			p := redistest.NewProxy(t, cluster.Addr())
			c := managed.NewClusterClient(&redis.ClusterOptions{Addrs: []string{p.Addr()}, OnConnect: onConnect,
				ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
					return []redis.ClusterSlot{{Start: 0, End: 16383, Nodes: []redis.ClusterNode{{Addr: p.Addr()}}}}, nil
				}}, managed.WithLogger(quiet))
			return set{c, p, cluster}
		},
		"ring": func(t *testing.T) set {
			p := redistest.NewProxy(t, s.Addr())
			return set{managed.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": p.Addr()}, OnConnect: onConnect,
				HeartbeatFrequency: time.Hour}, managed.WithLogger(quiet)), p, s}
		},
	} {
		for how, incr := range map[string]func(context.Context, redis.UniversalClient, string) error{
			"command": func(ctx context.Context, c redis.UniversalClient, key string) error { return c.Incr(ctx, key).Err() },
			"pipeline": func(ctx context.Context, c redis.UniversalClient, key string) error {
				_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, key); return nil })
				return err
			},
			"transaction": func(ctx context.Context, c redis.UniversalClient, key string) error {
				_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, key); return nil })
				return err
			},
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				c := open(t)
				defer c.rdb.Close()
				key := redistest.UniqueKey(t, "n")
				seen.Store(nil)
				var sent, lost atomic.Int64
				c.p.OnRequest(func(_ int, b []byte) redistest.Action {
					if bytes.Contains(b, []byte("incr")) {
						sent.Add(1)
					}
					if bytes.Contains(b, []byte("echo")) && lost.Add(1) <= 2 {
						return redistest.CutAfter
					}
					return redistest.Forward
				})
				require.NoError(t, incr(t.Context(), c.rdb, key))
				require.EqualValues(t, 1, sent.Load())
				require.Equal(t, "1", c.s.Admin().Get(t.Context(), key).Val())
				require.GreaterOrEqual(t, lost.Load(), int64(3), "no reply was lost")
				require.ErrorIs(t, *seen.Load(), io.EOF, "what OnConnect sees is the error of its command")
			})
		}
	}
}

// go-redis does not close a connection whose OnConnect panics.
func TestAPanicInTheFirstOnConnectBlocksNoLaterHandshake(t *testing.T) {
	for how, leave := range map[string]func(){"panic": func() { panic("ouch") }, "Goexit": runtime.Goexit} {
		t.Run(how, func(t *testing.T) {
			s := redistest.Start(t)
			var calls atomic.Int32
			c := client(t, &redis.Options{Addr: s.Addr(), OnConnect: func(context.Context, *redis.Conn) error {
				if calls.Add(1) == 1 {
					leave()
				}
				return nil
			}})
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { _ = recover() }()
				_ = c.Ping(t.Context()).Err()
			}()
			<-done
			require.NoError(t, c.Ping(deadline(t, time.Second)).Err())
			redistest.Eventually(t, "the connection of the first one is closed", soon, func() bool {
				return c.Node().Len() == 1 && s.NumClients(t) == 1
			})
		})
	}
}
