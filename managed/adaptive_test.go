package managed_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

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
