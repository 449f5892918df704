package managed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// loseReply makes a proxy cut the connection before the reply to the next request
// that has word in it, and counts the requests.
func loseReply(p *redistest.Proxy, word string) (sent *atomic.Int32) {
	sent = new(atomic.Int32)
	var doomed atomic.Int64
	p.OnRequest(func(n int, b []byte) redistest.Action {
		if bytes.Contains(bytes.ToLower(b), []byte("\r\n"+word+"\r\n")) && sent.Add(1) == 1 {
			doomed.Store(int64(n))
		}
		return redistest.Forward
	})
	p.OnReply(func(n int, _ []byte) redistest.Action {
		if doomed.CompareAndSwap(int64(n), 0) {
			return redistest.CutBefore
		}
		return redistest.Forward
	})
	return sent
}

func TestHoweverItIsSentAReplyThatTellsLessIsNotPassedOff(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr = proxy.Addr()
	c := client(t, opt)
	batched, err := c.Batched()
	require.NoError(t, err)
	ctx := t.Context()
	for name, rdb := range map[string]redis.Cmdable{"client": c, "Adaptive": c.Adaptive(managed.AlwaysBatch), "Batched": batched} {
		t.Run(name, func(t *testing.T) {
			s.Admin().ZAdd(ctx, "jobs", redis.Z{Member: "job"})
			sent := loseReply(proxy, "zrem")
			n, err := rdb.ZRem(ctx, "jobs", "job").Result()
			require.True(t, retry.Applied(err), "%d, %v", n, err)
			require.ErrorIs(t, err, retry.ErrUnknownOutcome)
			require.EqualValues(t, 2, sent.Load())
			require.Zero(t, s.Admin().ZCard(ctx, "jobs").Val())
		})
	}
}

func TestOnALeaseNoPipelineIsRepeated(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr = proxy.Addr()
	c := client(t, opt)
	for name, exec := range map[string]func(*managed.Conn, func(redis.Pipeliner) error) ([]redis.Cmder, error){
		"pipeline": func(l *managed.Conn, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
			return l.Pipelined(t.Context(), fn)
		},
		"transaction": func(l *managed.Conn, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
			return l.TxPipelined(t.Context(), fn)
		},
	} {
		lease, err := c.Acquire(t.Context())
		require.NoError(t, err)
		require.NoError(t, lease.Ping(t.Context()).Err())
		sent := loseReply(proxy, "get")
		_, err = exec(lease, func(p redis.Pipeliner) error { p.Get(t.Context(), "k"); return nil })
		require.Error(t, err)
		require.NotErrorIs(t, err, redis.Nil)
		require.EqualValues(t, 1, sent.Load(), name)
		lease.Release()

		// What the server refuses is not repeated either.
		lease, err = c.Acquire(t.Context())
		require.NoError(t, err)
		before := c.RetryStats().Retries
		s.Admin().ConfigSet(t.Context(), "min-replicas-to-write", "1")
		_, err = exec(lease, func(p redis.Pipeliner) error { p.Set(t.Context(), "k", 1, 0); return nil })
		require.Error(t, err, name)
		require.Equal(t, before, c.RetryStats().Retries)
		s.Admin().ConfigSet(t.Context(), "min-replicas-to-write", "0")
		lease.Release()
	}
}

func TestATransactionThatTheServerRefusedIsSentAgainWhole(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, s.Options())
	ctx := t.Context()
	plain := redis.NewClient(s.Options())
	defer plain.Close()
	tx := func(c interface {
		TxPipelined(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error)
	}) ([]redis.Cmder, error) {
		return c.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Get(ctx, "other")
			p.Incr(ctx, "n")
			p.Eval(ctx, "return redis.call('incr', KEYS[1])", []string{"m"})
			return nil
		})
	}
	for name, f := range map[string]struct{ on, off []any }{
		"READONLY":   {[]any{"replicaof", "127.0.0.1", "1"}, []any{"replicaof", "no", "one"}},
		"NOREPLICAS": {[]any{"config", "set", "min-replicas-to-write", "1"}, []any{"config", "set", "min-replicas-to-write", "0"}},
	} {
		t.Run(name, func(t *testing.T) {
			s.Admin().FlushAll(ctx)
			require.NoError(t, s.Admin().Do(ctx, f.on...).Err())
			cmds, err := tx(plain)
			require.True(t, redis.IsExecAbortError(err), "%v", err)
			require.ErrorContains(t, cmds[1].Err(), name)
			require.NoError(t, c.Watch(ctx, func(t2 *redis.Tx) error { // EXEC has undone the WATCH
				before := c.RetryStats().Retries
				_, err := tx(t2)
				require.Error(t, err)
				require.Equal(t, before, c.RetryStats().Retries)
				return nil
			}, "w"))
			over := time.AfterFunc(60*time.Millisecond, func() { s.Admin().Do(ctx, f.off...) })
			defer over.Stop()
			cmds, err = tx(c)
			require.True(t, err == nil || errors.Is(err, redis.Nil), "%v", err)
			require.EqualValues(t, 1, cmds[1].(*redis.IntCmd).Val())
			require.Equal(t, "1", s.Admin().Get(ctx, "n").Val())
			require.Equal(t, "1", s.Admin().Get(ctx, "m").Val())
		})
	}
	t.Run("a refusal of a script in it is its reply", func(t *testing.T) {
		s.Admin().FlushAll(ctx)
		_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Eval(ctx, "redis.call('incr', KEYS[1]) return redis.error_reply('READONLY x')", []string{"n"})
			return nil
		})
		require.EqualError(t, err, "READONLY x")
		require.Equal(t, "1", s.Admin().Get(ctx, "n").Val())
	})
	t.Run("another error keeps it from being sent again", func(t *testing.T) {
		s.Admin().ConfigSet(ctx, "min-replicas-to-write", "1")
		defer s.Admin().ConfigSet(ctx, "min-replicas-to-write", "0")
		before := c.RetryStats().Retries
		_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, "k", "v", 0)
			p.Do(ctx, "get")
			return nil
		})
		require.Error(t, err)
		require.Equal(t, before, c.RetryStats().Retries)
	})
}

// A name that leads to another server after a failover: the connections to the old
// one, which is a replica now, have to go.
func TestAReadOnlySeenByATransactionAPipelineOrAScriptRetiresTheConnections(t *testing.T) {
	ctx := t.Context()
	for name, write := range map[string]func(*managed.Client) error{
		"transaction": func(c *managed.Client) error {
			_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "k"); return nil })
			return err
		},
		"pipeline": func(c *managed.Client) error {
			_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "absent"); p.Incr(ctx, "k"); return nil })
			if errors.Is(err, redis.Nil) {
				return nil
			}
			return err
		},
		"script": func(c *managed.Client) error {
			return c.Eval(ctx, "return redis.call('incr', KEYS[1])", []string{"k"}).Err()
		},
		"lease": func(c *managed.Client) error {
			l, err := c.Acquire(ctx)
			if err != nil {
				return err
			}
			defer l.Release()
			_, err = l.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "k"); return nil })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			old, now := redistest.Start(t), redistest.Start(t)
			var leads atomic.Pointer[redistest.Server]
			leads.Store(old)
			opt := old.Options()
			opt.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, network, leads.Load().Addr())
			}
			opt.PoolSize = 20
			c := client(t, opt)
			var wg sync.WaitGroup
			for range 15 {
				wg.Go(func() {
					for range 20 {
						_ = write(c)
					}
				})
			}
			wg.Wait()
			leads.Store(now)
			old.Admin().Do(ctx, "replicaof", "127.0.0.1", "1")
			require.Eventually(t, func() bool { return write(c) == nil }, 5*time.Second, time.Millisecond)
			for range 20 {
				require.NoError(t, write(c))
			}
			redistest.Eventually(t, "no connection to the old server is left", 5*time.Second, func() bool { return len(old.ClientList(t)) == 0 })
		})
	}
}

func TestAMovedReplyOnALeaseRenewsTheMap(t *testing.T) {
	cluster := redistest.StartCluster(t, "redis-server", 3, 1)
	c := clusterClient(t, cluster.Options())
	ctx := t.Context()
	key := cluster.Key(0, "k")
	incr := func() error {
		return c.AcquireFunc(ctx, key, func(l *managed.Conn) error { return l.Incr(ctx, key).Err() })
	}
	require.NoError(t, incr())
	cluster.Failover(0)
	failed := 0
	for range 50 {
		if err := incr(); err != nil {
			failed++
		}
	}
	require.LessOrEqual(t, failed, 1, "the Acquire after the first MOVED goes to the new master")
}

func TestASlotThatNobodyServedAndThatThenMovedFailsNoCaller(t *testing.T) {
	cluster := redistest.StartCluster(t, "redis-server", 3, 0)
	c := clusterClient(t, cluster.Options())
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	key := cluster.Key(0, "k")
	slot := int(must(cluster.Master(0).Admin().ClusterKeySlot(ctx, key).Result()))
	for _, n := range cluster.Nodes() {
		n.Admin().ConfigSet(ctx, "cluster-require-full-coverage", "no")
	}
	require.NoError(t, c.Set(ctx, key, "v", 0).Err())
	for _, n := range cluster.Nodes() {
		n.Admin().ClusterDelSlots(ctx, slot)
	}
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			for ctx.Err() == nil && t.Context().Err() == nil {
				if err := c.Set(ctx, key, "v", 0).Err(); err == nil {
					return
				} else if !assert.NoError(t, err) {
					return
				}
			}
		})
	}
	time.Sleep(500 * time.Millisecond)
	require.NoError(t, cluster.Master(1).Admin().ClusterAddSlots(ctx, slot).Err())
	wg.Wait()
}

func TestAnAbortThatNamesItsReasonIsUnderstood(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, s.Options(), managed.WithRetry(retry.Policy{MaxAttempts: 1}))
	s.Admin().Do(t.Context(), "replicaof", "127.0.0.1", "1")
	err := c.Watch(t.Context(), func(tx *redis.Tx) error {
		_, err := tx.TxPipelined(t.Context(), func(p redis.Pipeliner) error { p.Set(t.Context(), "k", 1, 0); return nil })
		return err
	}, "k")
	require.Error(t, err)
	require.False(t, strings.Contains(err.Error(), "outcome unknown"), "%v", err)
	require.Equal(t, retry.Answered, retry.OutcomeOf(attempt.Reveal(err)))
}

func TestAnAbortedTransactionHasTheErrorsOfABareClient(t *testing.T) {
	s := redistest.Start(t)
	ctx := t.Context()
	plain := redis.NewClient(s.Options())
	defer plain.Close()
	c := client(t, s.Options(), managed.WithRetry(retry.Policy{MaxAttempts: 2}))
	require.NoError(t, s.Admin().Do(ctx, "replicaof", "127.0.0.1", "1").Err())
	type pipeliner interface {
		TxPipelined(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error)
	}
	tx := func(c pipeliner) string {
		cmds, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); p.Set(ctx, "k", 1, 0); return nil })
		require.True(t, redis.IsExecAbortError(err), "%v", err)
		return fmt.Sprintf("%T %v, %T %v, %T %v", err, err, cmds[0].Err(), cmds[0].Err(), cmds[1].Err(), cmds[1].Err())
	}
	require.Equal(t, tx(plain), tx(c))
	require.NotZero(t, c.RetryStats().Retries)
	require.NoError(t, c.Watch(ctx, func(inside *redis.Tx) error {
		require.Equal(t, tx(plain), tx(inside))
		return nil
	}, "w"))
	lease, err := c.Acquire(ctx)
	require.NoError(t, err)
	defer lease.Release()
	require.Equal(t, tx(plain), tx(lease))
}

// go-redis leaves the commands of such a transaction without an error.
func TestWhereAHandshakeIsRefusedNoCommandOfATransactionSeemsDone(t *testing.T) {
	s, one := redistest.Start(t), redistest.StartOneNodeCluster(t)
	ctx := t.Context()
	opt, slots := s.Options(), slotsOf(one)
	opt.ClientName, slots.Username, slots.Password = "with a space", "nobody", "x"
	ring := &redis.RingOptions{Addrs: map[string]string{"a": s.Addr()}, Username: "nobody", Password: "x"}
	log := managed.WithLogger(quiet)
	for name, c := range map[string]redis.UniversalClient{
		"client": managed.NewClient(opt, log), "cluster": managed.NewClusterClient(slots, log), "ring": managed.NewRing(ring, log),
	} {
		defer c.Close()
		cmds, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "{n}"); p.Incr(ctx, "{n}"); return nil })
		require.Error(t, err, name)
		for _, cmd := range cmds {
			require.Error(t, cmd.Err(), name)
			require.Equal(t, retry.NotSent, retry.OutcomeOf(cmd.Err()), "%s: %v", name, cmd.Err())
			require.EqualError(t, cmd.Err(), err.Error(), name)
		}
	}
}
