package managed_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func TestAfterABurstAndSilenceTheServerSeesMinIdleConns(t *testing.T) {
	for _, minIdle := range []int{0, 5} {
		t.Run(fmt.Sprintf("MinIdleConns %d", minIdle), func(t *testing.T) {
			t.Parallel()
			const maxIdle = 2 * time.Second
			s := redistest.Start(t)
			var ev events
			opt := s.Options()
			opt.PoolSize, opt.MinIdleConns = 200, minIdle
			c := client(t, opt, managed.WithMaxIdle(maxIdle), ev.option())
			s.NumClients(t)
			burst(t, c, 200)
			silent := time.Now()
			require.GreaterOrEqual(t, s.NumClients(t), 200)
			redistest.Eventually(t, "only MinIdleConns are left", maxIdle+time.Second, func() bool { return s.NumClients(t) == minIdle })
			t.Logf("after %v of silence", time.Since(silent))
			agrees(t, s, c)
			dials := len(ev.of(hooks.Dialed))
			time.Sleep(300 * time.Millisecond)
			require.Equal(t, minIdle, s.NumClients(t), "and it stays so")
			require.Len(t, ev.of(hooks.Dialed), dials)
			t.Log(c.CloseReasons()) // some are more than go-redis wants itself: MinIdleConns and the burst at once
			require.GreaterOrEqual(t, c.CloseReasons()[hooks.ReasonIdle], uint64(190))
		})
	}
}

func TestUnderATrickleThePoolShrinksAndThenRests(t *testing.T) {
	for _, minIdle := range []int{0, 5} {
		t.Run(fmt.Sprintf("MinIdleConns %d", minIdle), func(t *testing.T) {
			t.Parallel()
			const maxIdle = 600 * time.Millisecond // a look every 1/20 of it
			s := redistest.Start(t)
			var ev events
			opt := s.Options()
			opt.PoolSize, opt.MinIdleConns = 100, minIdle
			c := client(t, opt, managed.WithMaxIdle(maxIdle), ev.option())
			burst(t, c, 100)
			stop := make(chan struct{})
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					select {
					case <-stop:
						return
					case <-time.After(100 * time.Millisecond):
						if err := c.Ping(context.Background()).Err(); err != nil {
							t.Error(err)
						}
					}
				}
			}()
			redistest.Eventually(t, "at most MinIdleConns + 3 are left", maxIdle+2*time.Second, func() bool { return s.NumClients(t) <= minIdle+3 })
			time.Sleep(maxIdle / 2)
			dials, ends := len(ev.of(hooks.Dialed)), len(ev.of(hooks.Closed))
			time.Sleep(60 * maxIdle / 20) // 60 looks
			close(stop)
			<-done
			t.Logf("%d connections; in 60 looks %d dials and %d ends", s.NumClients(t), len(ev.of(hooks.Dialed))-dials, len(ev.of(hooks.Closed))-ends)
			require.LessOrEqual(t, s.NumClients(t), minIdle+3)
			require.Len(t, ev.of(hooks.Dialed), dials)
			require.Len(t, ev.of(hooks.Closed), ends)
			agrees(t, s, c)
		})
	}
}

// Each visit makes go-redis refill MinIdleConns: that must not go round in circles.
func TestMinIdleConnsWithAHeartbeatDoNotChurn(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	var ev events
	opt := s.Options()
	opt.PoolSize, opt.MinIdleConns = 20, 5
	c := client(t, opt, managed.WithMaxIdle(200*time.Millisecond), managed.WithHeartbeat(15*time.Millisecond), ev.option())
	burst(t, c, 20)
	redistest.Eventually(t, "the surplus is gone", soon, func() bool { return s.NumClients(t) <= 6 })
	time.Sleep(300 * time.Millisecond)
	dials, ends, hits := len(ev.of(hooks.Dialed)), len(ev.of(hooks.Closed)), c.PoolStats().Hits
	time.Sleep(900 * time.Millisecond) // 60 heartbeats of each
	visits := c.PoolStats().Hits - hits
	t.Logf("%d visits, %d dials, %d ends, %d open", visits, len(ev.of(hooks.Dialed))-dials, len(ev.of(hooks.Closed))-ends, s.NumClients(t))
	require.Greater(t, visits, uint32(60))
	require.Len(t, ev.of(hooks.Dialed), dials)
	require.Len(t, ev.of(hooks.Closed), ends)
}

func TestThePipelinePoolShrinksToo(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	c := client(t, opt, managed.WithMaxIdle(time.Second))
	pipelineBurst(t, c, 10)
	opened := inPool(c, hooks.PoolPipeline)
	require.Greater(t, opened, 1)
	redistest.Eventually(t, "the pipeline pool is empty", 2*time.Second, func() bool { return s.NumClients(t) == 0 })
	require.EqualValues(t, opened, c.CloseReasons()[hooks.ReasonIdle])
	require.Zero(t, c.Node().Pipeline().Total)
}

func TestSetMaxIdleHoldsAtOnce(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 10
	c := client(t, opt, managed.WithMaxIdle(0))
	burst(t, c, 10)
	time.Sleep(300 * time.Millisecond)
	require.Len(t, c.Conns(), 10, "0: they are kept")
	c.SetMaxIdle(time.Hour)
	time.Sleep(100 * time.Millisecond)
	require.Len(t, c.Conns(), 10)
	c.SetMaxIdle(50 * time.Millisecond)
	redistest.Eventually(t, "they are gone", time.Second, func() bool { return len(c.Conns()) == 0 })
	agrees(t, s, c)
}

// A pool that is busy in waves keeps what the waves need.
func TestWhatIsNeededWithinTheWindowIsKept(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	var ev events
	opt := s.Options()
	opt.PoolSize = 20
	c := client(t, opt, managed.WithMaxIdle(600*time.Millisecond), ev.option())
	for range 8 {
		burst(t, c, 20)
		time.Sleep(250 * time.Millisecond)
	}
	require.Len(t, ev.of(hooks.Dialed), 20)
	require.Empty(t, ev.of(hooks.Closed))
}
