package managed_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// blocking runs a blocking command on a lease in each of the ways there are.
var blocking = map[string]func(ctx context.Context, conn *managed.Conn) error{
	"a command": func(ctx context.Context, conn *managed.Conn) error { return conn.BLPop(ctx, 0, "list").Err() },
	"Do":        func(ctx context.Context, conn *managed.Conn) error { return conn.Do(ctx, "BLPOP", "list", 0).Err() },
	"a pipeline": func(ctx context.Context, conn *managed.Conn) error {
		_, err := conn.Pipelined(ctx, func(p redis.Pipeliner) error { p.BLPop(ctx, 0, "list"); return nil })
		return err
	},
}

func TestTheEndOfACtxInterruptsTheCommandInFlight(t *testing.T) {
	plain, secure := redistest.Start(t), redistest.StartTLS(t)
	for _, s := range []*redistest.Server{plain, secure} {
		for name, run := range blocking {
			for _, whose := range []string{"the command's ctx", "the ctx of the Acquire"} {
				for _, end := range []string{"canceled", "deadline"} {
					t.Run(fmt.Sprintf("%s, %s, %s, tls=%v", whose, name, end, s == secure), func(t *testing.T) {
						ev := &events{}
						opt := sized(s, 1, time.Second)
						opt.ReadTimeout = time.Minute // a pipeline knows of no blocking commands
						c := client(t, opt, ev.option())
						require.NoError(t, c.Ping(t.Context()).Err()) // so that the time is for the rest
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						want := context.Canceled
						if end == "deadline" {
							ctx, cancel = context.WithTimeout(t.Context(), 400*time.Millisecond)
							defer cancel()
							want = context.DeadlineExceeded
						}
						leaseCtx, cmdCtx := t.Context(), ctx
						if whose == "the ctx of the Acquire" {
							leaseCtx, cmdCtx = ctx, t.Context()
						}
						conn, err := c.Acquire(leaseCtx)
						require.NoError(t, err)
						id := own(t, s, conn).ID
						result := make(chan error, 1)
						go func() { result <- run(cmdCtx, conn) }()
						blocked(t, s, id)
						if end == "canceled" {
							cancel()
						}
						<-ctx.Done()
						start := time.Now()
						within(t, "the command has ended", func() { err = <-result })
						took := redistest.Took(start)
						t.Logf("interrupted after %v", took)
						require.Less(t, took, time.Second)
						require.ErrorIs(t, err, want)
						var ce *hooks.ConnError
						require.ErrorAs(t, err, &ce)
						require.True(t, ce.Self, "the ctx ended it, not the server")

						// What is pushed from now on must not be lost on a connection whose
						// reply nobody reads, even while the lease is held.
						redistest.Eventually(t, "the server has no such connection", soon, func() bool { return gone(t, s, id) })
						require.Error(t, conn.Ping(t.Context()).Err(), "the stream of replies is lost")
						conn.Release()
						e := ev.wait(t, hooks.Closed, 1)[0]
						require.Equal(t, hooks.ReasonInterrupted, e.Reason)
						full(t, c, 1)
					})
				}
			}
		}
	}
}

func TestNothingIsSentAfterACtxIsDone(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 1, time.Second))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	ctx, end := context.WithCancel(t.Context())
	conn, err := c.Acquire(ctx)
	require.NoError(t, err)
	id := own(t, s, conn).ID

	use := map[string]func(ctx context.Context) error{
		"a command": func(ctx context.Context) error { return conn.Set(ctx, "k", "v", 0).Err() },
		"Do":        func(ctx context.Context) error { return conn.Do(ctx, "SET", "k", "v").Err() },
		"a pipeline": func(ctx context.Context) error {
			p := conn.Pipeline()
			p.Set(ctx, "k", "v", 0)
			_, err := p.Exec(ctx)
			return err
		},
		"a transaction": func(ctx context.Context) error {
			_, err := conn.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "k", "v", 0); return nil })
			return err
		},
	}
	for name, f := range use {
		err := f(ended)
		require.ErrorIs(t, err, context.Canceled, name)
		require.ErrorContains(t, err, "not sent", name)
	}
	require.NoError(t, conn.Ping(ctx).Err(), "the lease and its connection are still good")
	end()
	for name, f := range use {
		err := f(t.Context())
		require.ErrorIs(t, err, context.Canceled, name)
		require.ErrorContains(t, err, "ctx of the lease", name)
	}
	require.Zero(t, s.Admin().Exists(t.Context(), "k").Val())
	conn.Release()
	require.Equal(t, id, own(t, s, c).ID, "nothing was in flight: the connection is kept")
}

func TestAValueOfTheCtxReachesTheServerSideOfHooks(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, s.Options())
	type key struct{}
	seen := make(chan any, 1)
	c.AddHook(ctxHook{func(ctx context.Context) { seen <- ctx.Value(key{}) }})
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	for len(seen) > 0 {
		<-seen
	}
	require.NoError(t, conn.Ping(context.WithValue(t.Context(), key{}, "x")).Err())
	require.Equal(t, "x", <-seen)
}

type ctxHook struct{ see func(context.Context) }

func (h ctxHook) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h ctxHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "ping" {
			h.see(ctx)
		}
		return next(ctx, cmd)
	}
}
func (h ctxHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A ctx that ends at the very moment at which its command does must not hit the
// next owner of the connection.
func TestALateInterruptionHitsNobodyElse(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 4, soon))
	stop := time.Now().Add(1500 * time.Millisecond)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { // leases whose ctxs end around the end of a command
			for i := 0; time.Now().Before(stop); i++ {
				conn, err := c.Acquire(t.Context())
				if !assert.NoError(t, err) {
					return
				}
				ctx, cancel := context.WithCancel(t.Context())
				go cancel()
				if err := conn.Echo(ctx, "a").Err(); err != nil && !errors.Is(err, context.Canceled) {
					assert.NoError(t, err)
				}
				conn.Release()
				cancel()
			}
		})
		wg.Go(func() { // others, who must not notice
			for i := 0; time.Now().Before(stop); i++ {
				want := fmt.Sprint(i)
				got, err := c.Echo(context.Background(), want).Result()
				if !assert.NoError(t, err) || !assert.Equal(t, want, got) {
					return
				}
				conn, err := c.Acquire(context.Background())
				if !assert.NoError(t, err) {
					return
				}
				got, err = conn.Echo(context.Background(), want).Result()
				conn.Release()
				if !assert.NoError(t, err) || !assert.Equal(t, want, got) {
					return
				}
			}
		})
	}
	wg.Wait()
	full(t, c, 4)
	agree(t, s, c)
}
