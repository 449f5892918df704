package managed_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

type watcher interface {
	Watch(ctx context.Context, fn func(*redis.Tx) error, keys ...string) error
	Close() error
}

// watchers are one of each kind of client of one server.
func watchers(t *testing.T, addr string, f func(t *testing.T, c watcher)) {
	t.Helper()
	t.Run("client", func(t *testing.T) {
		f(t, client(t, &redis.Options{Addr: addr}))
	})
	t.Run("ring", func(t *testing.T) {
		r := managed.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": addr}, HeartbeatFrequency: time.Hour})
		defer r.Close()
		f(t, r)
	})
}

func incr(tx *redis.Tx) error {
	_, err := tx.TxPipelined(context.Background(), func(p redis.Pipeliner) error { p.Incr(context.Background(), "n"); return nil })
	return err
}

func TestAWatchIsTriedAgainUntilItsFunctionIsEntered(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	watchers(t, p.Addr(), func(t *testing.T, c watcher) {
		require.NoError(t, c.Watch(t.Context(), incr, "n"))
		var lost atomic.Int32
		p.OnRequest(func(_ int, b []byte) redistest.Action {
			if bytes.Contains(b, []byte("watch")) && lost.Add(1) <= 3 {
				return redistest.CutAfter
			}
			return redistest.Forward
		})
		defer p.OnRequest(nil)
		entered := 0
		require.NoError(t, c.Watch(t.Context(), func(tx *redis.Tx) error { entered++; return incr(tx) }, "n"))
		require.Equal(t, 1, entered)
		require.GreaterOrEqual(t, lost.Load(), int32(4))
	})
}

func TestAWatchWaitsForAnUnreachableServer(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	d := newDoor(t, s.Addr())
	watchers(t, d.addr, func(t *testing.T, c watcher) {
		require.NoError(t, c.Watch(t.Context(), incr, "n"))
		d.shut()
		back := time.AfterFunc(300*time.Millisecond, func() { d.open() })
		defer back.Stop()
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		defer cancel()
		require.NoError(t, c.Watch(ctx, incr, "n"))
	})
}

func TestWhatTheFunctionOfAWatchReturnsIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	watchers(t, s.Addr(), func(t *testing.T, c watcher) {
		mine := errors.New("mine")
		entered := 0
		require.Same(t, mine, c.Watch(t.Context(), func(*redis.Tx) error { entered++; return mine }, "n"))
		require.Equal(t, 1, entered)
		err := c.Watch(t.Context(), func(tx *redis.Tx) error {
			entered++
			if err := s.Admin().Incr(t.Context(), "n").Err(); err != nil {
				return err
			}
			return incr(tx)
		}, "n")
		require.Equal(t, redis.TxFailedErr, err)
		require.Equal(t, 2, entered)
	})
}

func TestAnExecWithoutAReplyInAWatchIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	watchers(t, p.Addr(), func(t *testing.T, c watcher) {
		require.NoError(t, c.Watch(t.Context(), incr, "n"))
		p.OnRequest(func(_ int, b []byte) redistest.Action {
			if bytes.Contains(b, []byte("exec")) {
				return redistest.CutAfter
			}
			return redistest.Forward
		})
		defer p.OnRequest(nil)
		var inside, of error
		err := c.Watch(t.Context(), func(tx *redis.Tx) error {
			cmds, err := tx.TxPipelined(t.Context(), func(p redis.Pipeliner) error { p.Incr(t.Context(), "n"); return nil })
			inside, of = err, cmds[0].Err()
			return err
		}, "n")
		for _, err := range []error{err, inside, of} {
			require.ErrorIs(t, err, retry.ErrUnknownOutcome)
			require.Equal(t, retry.Unknown, retry.OutcomeOf(err))
			var lost *hooks.ConnError
			require.ErrorAs(t, err, &lost)
		}
		require.Error(t, c.Watch(t.Context(), func(tx *redis.Tx) error {
			_, err := tx.TxPipelined(t.Context(), func(p redis.Pipeliner) error { p.Get(t.Context(), "n"); return nil })
			require.NotErrorIs(t, err, retry.ErrUnknownOutcome, "nothing was written")
			return err
		}, "n"))
	})
}

func TestDemandCountsAWatchOnce(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 20
	c := client(t, opt)
	var open, all sync.WaitGroup
	leave := make(chan struct{})
	for i := range 6 {
		open.Add(1)
		keys := []string{"n"}
		if i%2 == 0 {
			keys = nil
		}
		all.Go(func() {
			err := c.Watch(t.Context(), func(tx *redis.Tx) error {
				_ = tx.Get(t.Context(), "k").Err()
				_, _ = tx.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Get(t.Context(), "k"); return nil })
				open.Done()
				<-leave
				return nil
			}, keys...)
			if err != nil {
				t.Error(err)
			}
		})
	}
	open.Wait()
	require.Equal(t, 6, c.Node().TakeSeenPeak(hooks.PoolMain))
	require.Zero(t, c.Node().TakeSeenPeak(hooks.PoolPipeline))
	close(leave)
	all.Wait()
}

func TestAnOpenWatchOrLeaseCausesNoVisit(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 10
	c := client(t, opt)
	burst(t, c, 5)
	lease, err := c.Acquire(t.Context())
	require.NoError(t, err)
	defer lease.Release()
	require.NoError(t, c.Watch(t.Context(), func(*redis.Tx) error {
		time.Sleep(time.Second) // the looks that follow use
		hits := c.PoolStats().Hits
		time.Sleep(time.Second)
		require.Equal(t, hits, c.PoolStats().Hits)
		return nil
	}, "n"))
}
