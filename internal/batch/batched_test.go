package batch_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

func TestBatchedIsManaged(t *testing.T) {
	s := redistest.Start(t)
	policy := retry.Default()
	policy.Budget = retry.NewBudget(1, 1000)
	c := client(t, s.Options(), managed.WithRetry(policy))
	ap, err := c.Batched()
	require.NoError(t, err)
	require.False(t, ap.Config().FullDuplex)
	outcome := incrUnderKills(t, 500*time.Millisecond, 5*time.Millisecond, func(int) redis.Cmdable { return ap }, s)
	unknown := checkOutcomes(t, s.Admin(), outcome)
	t.Logf("%d INCRs, %d unknown outcomes", len(outcome), unknown)
	require.NotZero(t, unknown, "kills met batches")
	require.NotZero(t, c.RetryStats().UnknownOutcomes)
}

func TestThereIsOneAutoPipelinerForEachClient(t *testing.T) {
	c := client(t, redistest.Start(t).Options())
	one, err := c.Batched(managed.WithBatchSize(100))
	require.NoError(t, err)
	two, err := c.Batched(managed.WithBatchSize(100))
	require.NoError(t, err)
	require.Same(t, one, two)
	_, err = c.Batched(managed.WithBatchSize(200))
	require.ErrorContains(t, err, "other options (at most 100 commands")
	require.NoError(t, one.Close())
	_, err = c.Batched(managed.WithBatchSize(200), managed.WithBatchConcurrency(2), managed.WithBatchDelay(time.Millisecond))
	require.NoError(t, err)

	duplex := client(t, redistest.Start(t).Options())
	opt := redis.DefaultBlockingAutoPipelineOptions()
	opt.FullDuplex, opt.MaxBatchSize = true, 512
	_, err = duplex.AutoPipelineWithOptions(opt)
	require.NoError(t, err)
	_, err = duplex.Batched()
	require.ErrorContains(t, err, "full duplex true")
}

func TestClosingEndsABatcher(t *testing.T) {
	s := redistest.Start(t)
	for name, end := range map[string]func(*managed.Client) error{
		"Close": (*managed.Client).Close, "CloseGracefully": func(c *managed.Client) error { return c.CloseGracefully(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, s.Options())
			ap, err := c.Batched()
			require.NoError(t, err)
			var wg sync.WaitGroup
			var done atomic.Int64
			for range 16 {
				wg.Go(func() {
					for {
						if err := ap.Incr(t.Context(), "n").Err(); err != nil {
							assert.ErrorIs(t, err, redis.ErrClosed)
							return
						}
						done.Add(1)
					}
				})
			}
			redistest.Eventually(t, "they run", soon, func() bool { return done.Load() > 100 })
			require.NoError(t, end(c))
			within(t, "callers end", wg.Wait)
			_, err = c.Batched()
			require.ErrorIs(t, err, redis.ErrClosed)
		})
	}
}

func TestABatcherTakesNothingMoreWhenShutdownBegins(t *testing.T) {
	c := client(t, redistest.Start(t).Options())
	ap, err := c.Batched()
	require.NoError(t, err)
	require.NoError(t, ap.Incr(t.Context(), "n").Err())
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	down := make(chan error, 1)
	go func() { down <- c.CloseGracefully(t.Context()) }()
	redistest.Eventually(t, "it is closed while the lease is held", soon, func() bool { return ap.Incr(t.Context(), "n").Err() != nil })
	require.ErrorIs(t, ap.Incr(t.Context(), "n").Err(), redis.ErrClosed)
	_, err = c.Batched()
	require.ErrorIs(t, err, managed.ErrShutdown)
	conn.Release()
	require.NoError(t, <-down)
}
