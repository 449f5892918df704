package managed_test

import (
	"bytes"
	"context"
	"errors"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/redis/go-redis/v9"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// Libraries close the client that they were given.
func TestClosingTheClientInsideLeavesNoGoroutine(t *testing.T) {
	opt := redistest.Options(t)
	before := goleak.IgnoreCurrent()
	c, err := managed.New(opt, managed.WithLogger(quiet))
	require.NoError(t, err)
	require.NoError(t, c.Ping(t.Context()).Err())
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	conn.Release()
	require.NoError(t, c.Client.Close())
	goleak.VerifyNone(t, before)
}

func TestAClientThatIsNeverClosedHoldsNoGoroutineWhenIdle(t *testing.T) {
	opt := redistest.Options(t)
	opt.PoolSize = 2
	before := goleak.IgnoreCurrent()
	c, err := managed.New(opt, managed.WithLogger(quiet))
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.Ping(t.Context()).Err())
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	conn.Release()
	goleak.VerifyNone(t, before)
}

// What else of ours runs then: a Monitor, stand-ins, a pool for blocking commands.
func TestClosingTheClientInsideEndsAMonitorAndWhatElseRuns(t *testing.T) {
	s, cluster := redistest.Start(t), redistest.StartCluster(t, "redis-server", 3, 0)
	own := []managed.Option{managed.WithLogger(quiet), managed.WithMonitor(monitor.WithInterval(monitor.MinInterval)), managed.WithBlockingPool(2),
		managed.WithHeartbeat(50 * time.Millisecond)}
	type inside struct {
		redis.UniversalClient
		close func() error
	}
	clients := map[string]func() inside{
		"client": func() inside {
			c := managed.NewClient(s.Options(), own...)
			require.NoError(t, c.Instrument(func(*redis.Client) error { return nil }))
			return inside{c, c.Client.Close}
		},
		"clone": func() inside {
			c := managed.NewClient(s.Options(), own...)
			return inside{c, c.WithTimeout(time.Second).Client.Close}
		},
		"cluster": func() inside {
			c := managed.NewClusterClient(cluster.Options(), own...)
			require.NoError(t, c.Instrument(func(*redis.ClusterClient) error { return nil }))
			return inside{c, c.ClusterClient.Close}
		},
		"ring": func() inside {
			r := managed.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": s.Addr()}}, own...)
			require.NoError(t, r.Instrument(func(*redis.Ring) error { return nil }))
			return inside{r, r.Ring.Close}
		},
		"ring without a monitor": func() inside {
			r := managed.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": s.Addr()}}, managed.WithLogger(quiet))
			require.NoError(t, r.Instrument(func(*redis.Ring) error { return nil }))
			return inside{r, r.Ring.Close}
		},
	}
	for name, open := range clients {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			s.NumClients(t) // the judge has dialed
			before, had := goleak.IgnoreCurrent(), s.NumClients(t)
			c := open()
			require.NoError(t, c.Set(ctx, "k", "v", 0).Err())
			require.NoError(t, c.RPush(ctx, "list", "v").Err())
			require.NoError(t, c.BLPop(ctx, time.Second, "list").Err())
			require.NoError(t, c.close())
			require.ErrorIs(t, c.Set(ctx, "k", "v", 0).Err(), redis.ErrClosed)
			redistest.Eventually(t, "all connections are closed", soon, func() bool { return s.NumClients(t) == had })
			redistest.Eventually(t, "no goroutine is left", soon, func() bool { return goleak.Find(before) == nil })
			_ = c.Close()
		})
	}
}

// A cluster whose nodes have all been replaced, or a ring that has none, is not closed.
func TestARingWithoutShardsIsNotTakenForClosed(t *testing.T) {
	r := managed.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": redistest.Start(t).Addr()}}, managed.WithLogger(quiet))
	defer r.Close()
	require.NoError(t, r.Ping(t.Context()).Err())
	r.SetAddrs(nil)
	_ = r.Stats()
	r.SetAddrs(map[string]string{"b": redistest.Start(t).Addr()})
	require.NoError(t, r.Set(t.Context(), "k", "v", 0).Err())
}

// What is done with go-redis's own clone is go-redis's: nothing is repeated there, and its
// errors are those of a bare client without repetitions.
func TestACloneOfTheClientInsideGivesTheErrorsOfABareOne(t *testing.T) {
	s := redistest.Start(t)
	for name, lost := range map[string]redistest.Action{"lost": redistest.CutBefore, "late": redistest.Drop} {
		for how, incr := range map[string]func(*redis.Client) error{
			"command": func(c *redis.Client) error { return c.Incr(t.Context(), "n").Err() },
			"pipeline": func(c *redis.Client) error {
				cmds, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Incr(t.Context(), "n"); return nil })
				require.Equal(t, err, cmds[0].Err())
				return err
			},
			"transaction": func(c *redis.Client) error {
				_, err := c.TxPipelined(t.Context(), func(p redis.Pipeliner) error { p.Incr(t.Context(), "n"); return nil })
				return err
			},
			"conn": func(c *redis.Client) error {
				conn := c.Conn()
				defer conn.Close()
				return conn.Incr(t.Context(), "n").Err()
			},
		} {
			t.Run(how+" "+name, func(t *testing.T) {
				t.Parallel()
				p := redistest.NewProxy(t, s.Addr())
				opt := s.Options()
				opt.Addr, opt.MaxRetries = p.Addr(), -1
				bare := redis.NewClient(opt)
				defer bare.Close()
				var errs []error
				for _, c := range []*redis.Client{bare, client(t, opt).Client} {
					clone := c.WithTimeout(50 * time.Millisecond)
					require.NoError(t, incr(clone))
					var sent atomic.Int64
					p.OnRequest(func(_ int, b []byte) redistest.Action {
						if bytes.Contains(b, []byte("incr")) {
							sent.Add(1)
						}
						return redistest.Forward
					})
					p.OnReply(func(int, []byte) redistest.Action {
						if sent.Load() > 0 {
							return lost
						}
						return redistest.Forward
					})
					errs = append(errs, incr(clone))
					p.OnReply(nil)
					require.EqualValues(t, 1, sent.Load(), "an INCR was repeated")
				}
				for _, is := range []error{io.EOF, os.ErrDeadlineExceeded} {
					require.Equal(t, errors.Is(errs[0], is), errors.Is(errs[1], is), "%v: %v", is, errs)
				}
				bare1, ok := errs[0].(net.Error)
				if ours, too := errs[1].(net.Error); ok {
					require.True(t, too, "%T", errs[1])
					require.Equal(t, bare1.Timeout(), ours.Timeout())
				}
			})
		}
	}
}
