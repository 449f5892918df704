package managed_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// Its idle connection is closed at the checkout, so the batch needs a handshake after all, and the
// server does not answer.
func TestABatchThatWaitsForAHandshakeEndsWithItsCallerAndIsNotSent(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.ReadTimeout = p.Addr(), 30*time.Second
	c := client(t, opt, managed.WithFailureDetection(managed.FailureDetection{Patience: time.Hour}))
	a := c.Adaptive(managed.AlwaysBatch)
	require.NoError(t, a.Incr(t.Context(), "n").Err())
	p.Stall(true)
	c.Node().Range(func(conn *conntrack.Conn) bool { conn.Evict(hooks.ReasonReset); return true })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var all, others sync.WaitGroup
	for range 5 {
		all.Go(func() {
			err := a.Incr(ctx, "n").Err()
			if !errors.Is(err, context.DeadlineExceeded) || retry.OutcomeOf(err) != retry.NotSent {
				t.Errorf("%v: %v", retry.OutcomeOf(err), err)
			}
		})
		others.Go(func() { assert.NoError(t, a.Incr(t.Context(), "others").Err(), "one who has patience") })
	}
	within(t, "the calls return", all.Wait)
	p.Stall(false)
	within(t, "the others are served", others.Wait)
	require.Equal(t, "1", s.Admin().Get(t.Context(), "n").Val())
	require.Equal(t, "5", s.Admin().Get(t.Context(), "others").Val())
}

// However a call's wait for a connection ends, it is counted once.
func TestCallsOfAdaptiveThatGetNoConnectionAreCountedAsThoseOfDirectCalls(t *testing.T) {
	s := redistest.Start(t)
	for how, limits := range map[string]struct{ pool, ctx time.Duration }{
		"PoolTimeout": {100 * time.Millisecond, soon},
		"ctx":         {soon, 100 * time.Millisecond},
	} {
		for kind, of := range map[string]func(*managed.Client) redis.UniversalClient{
			"direct":   func(c *managed.Client) redis.UniversalClient { return c },
			"adaptive": func(c *managed.Client) redis.UniversalClient { return c.Adaptive(managed.AlwaysBatch) },
		} {
			t.Run(how+" "+kind, func(t *testing.T) {
				opt := sized(s, 1, limits.pool)
				opt.PipelinePoolSize = -1
				c := client(t, opt)
				held := must(c.Acquire(t.Context()))
				defer held.Release()
				before, calls := c.Stats(), of(c)
				var wg sync.WaitGroup
				for range 5 {
					wg.Go(func() { assert.ErrorIs(t, calls.Incr(deadline(t, limits.ctx), "n").Err(), redis.ErrPoolTimeout) })
				}
				wg.Wait()
				after, byCtx := c.Stats(), 0
				if how == "ctx" {
					byCtx = 5
				}
				assert.EqualValues(t, 5, after.PoolTimeouts-before.PoolTimeouts)
				assert.EqualValues(t, 5, after.Waits-before.Waits)
				assert.EqualValues(t, byCtx, after.PoolTimeoutsCtx)
				assert.GreaterOrEqual(t, after.WaitTime-before.WaitTime, 400*time.Millisecond)
				assert.EqualValues(t, 5, after.Wait.Count-before.Wait.Count)
			})
		}
	}
}
