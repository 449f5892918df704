package managed_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// given is the highest age at which a connection that has ended was used.
func given(ends []hooks.Event) (oldest time.Duration) {
	for _, e := range ends {
		oldest = max(oldest, e.Age-e.Idle)
	}
	return oldest
}

func TestAConnectionIsNeverGivenOutPastItsAgeUnderLoad(t *testing.T) {
	transports(t, func(t *testing.T, s *redistest.Server, opt *redis.Options) {
		const age = 250 * time.Millisecond
		var ev events
		opt.PoolSize = 8
		c := client(t, opt, ev.option(), managed.WithMaxAge(age))
		var n, failed atomic.Int64
		var first atomic.Pointer[error]
		var wg sync.WaitGroup
		began := time.Now()
		end := began.Add(1200 * time.Millisecond)
		for i := range 24 { // more than the pool has: no connection is ever idle for long
			wg.Go(func() {
				for time.Now().Before(end) {
					var err error
					if i%8 == 0 {
						_, err = c.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Ping(t.Context()); return nil })
					} else {
						err = c.Set(t.Context(), "key", "value", 0).Err()
					}
					n.Add(1)
					if err != nil {
						failed.Add(1)
						first.Store(&err)
					}
				}
			})
		}
		wg.Wait()
		require.NoError(t, c.Close())
		ends := ev.wait(t, hooks.Closed, len(ev.of(hooks.Dialed)))
		t.Logf("%d commands, %d connections, the oldest was used at the age of %v", n.Load(), len(ends), given(ends))
		require.Zerof(t, failed.Load(), "%v", first.Load())
		require.Greater(t, len(ends), 8*3)
		require.Less(t, given(ends)-redistest.Stalled(began), age+150*time.Millisecond, "between the check and the write there may be a pause")
	})
}

// Without any retries the caller must not notice the end of a connection either.
func TestTheEndsOfConnectionsAreNotMetByCallersWithoutRetries(t *testing.T) {
	transports(t, func(t *testing.T, s *redistest.Server, opt *redis.Options) {
		opt.PoolSize, opt.MaxRetries = 8, -1
		c := client(t, opt, managed.WithMaxAge(60*time.Millisecond), managed.WithHeartbeat(5*time.Millisecond))
		var n, failed atomic.Int64
		var first atomic.Pointer[error]
		var wg sync.WaitGroup
		end := time.Now().Add(500 * time.Millisecond)
		for range 6 {
			wg.Go(func() {
				for time.Now().Before(end) {
					n.Add(1)
					if err := c.Ping(t.Context()).Err(); err != nil {
						failed.Add(1)
						first.Store(&err)
					}
				}
			})
		}
		wg.Wait()
		t.Logf("%d commands, %v", n.Load(), c.CloseReasons())
		if failed.Load() > 0 {
			t.Errorf("%d failed: %v", failed.Load(), *first.Load())
		}
	})
}

func TestUnderSilenceNoConnectionIsOpenPastItsAge(t *testing.T) {
	transports(t, func(t *testing.T, s *redistest.Server, opt *redis.Options) {
		var ev events
		n := 120
		if opt.TLSConfig != nil {
			n = 40 // handshakes take their time
		}
		opt.PoolSize = n
		c := client(t, opt, ev.option(), managed.WithMaxAgeJitter(0.5), managed.WithMaxIdle(0))
		began := time.Now()
		_, err := c.Warm(t.Context(), n)
		require.NoError(t, err)
		c.SetMaxAge(2*time.Since(began) + 1500*time.Millisecond)
		limits := c.Limits()
		redistest.Eventually(t, "no connection is open", soon+5*time.Second, func() bool { return s.NumClients(t) == 0 })
		var late []time.Duration
		for _, e := range ev.wait(t, hooks.Closed, n) {
			require.Equal(t, hooks.ReasonAge, e.Reason)
			late = append(late, e.Age-limits[e.ConnID])
		}
		slices.Sort(late)
		t.Logf("past its age: median %v, latest %v, earliest %v", late[len(late)/2], late[len(late)-1], late[0])
		require.Less(t, late[len(late)-1]-redistest.Stalled(began), 250*time.Millisecond)
		require.Greater(t, late[0], -80*time.Millisecond, "not long before it either")
	})
}

func TestTheEndsOfAThousandConnectionsAreSpreadOverTheJitter(t *testing.T) {
	n := 1000
	if raced { // each look at them takes several times as long
		n = 300
	}
	s := redistest.Start(t)
	var ev events
	opt := s.Options()
	opt.PoolSize, opt.PoolTimeout = n, soon
	const age, jitter = 5 * time.Second, 0.3
	c := client(t, opt, ev.option(), managed.WithMaxAge(age), managed.WithMaxAgeJitter(jitter), managed.WithMaxIdle(0))
	began := time.Now()
	burst(t, c, n)
	limits := c.Limits()
	t.Logf("%d connections in %v", n, time.Since(began))
	ends := ev.wait(t, hooks.Closed, n)
	var tenths [10]int
	var latest time.Duration
	for _, e := range ends {
		lived := float64(e.Age) / float64(age)
		i := int((lived - (1 - jitter)) / jitter * 10)
		tenths[min(max(i, 0), 9)]++
		latest = max(latest, e.Age-limits[e.ConnID])
	}
	t.Logf("ends in each tenth of the jitter: %v; latest %v past its age", tenths, latest)
	for i, ended := range tenths {
		require.Greaterf(t, ended, n*3/100, "tenth %d", i)
		require.Lessf(t, ended, n/4, "tenth %d", i)
	}
	require.Less(t, latest-redistest.Stalled(began), 250*time.Millisecond)
	agrees(t, s, c)
}

func TestSetMaxAgeHoldsAtOnceAndToTheMillisecond(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	var ev events
	opt := s.Options()
	opt.PoolSize = 10
	c := client(t, opt, ev.option(), managed.WithMaxAgeJitter(0))
	_, err := c.Warm(t.Context(), 10)
	require.NoError(t, err)
	pipelineBurst(t, c, 4)
	set := time.Now()
	c.SetMaxAge(437 * time.Millisecond)
	for id, limit := range c.Limits() {
		require.Equalf(t, 437*time.Millisecond, limit, "connection %d", id)
	}
	n := len(c.Conns())
	var lived []time.Duration
	for _, e := range ev.wait(t, hooks.Closed, n) {
		require.Equal(t, hooks.ReasonAge, e.Reason)
		lived = append(lived, e.Age)
	}
	slices.Sort(lived)
	t.Logf("%d connections, of both pools, lived %v to %v", n, lived[0], lived[len(lived)-1])
	require.GreaterOrEqual(t, lived[0], 437*time.Millisecond*85/100)
	require.Less(t, lived[n-1]-redistest.Stalled(set), 437*time.Millisecond+250*time.Millisecond)

	c.SetMaxAge(time.Hour)
	require.NoError(t, c.Ping(t.Context()).Err())
	time.Sleep(50 * time.Millisecond)
	require.Len(t, c.Conns(), 1)
	began := time.Now()
	c.SetMaxAge(10 * time.Millisecond)
	ev.wait(t, hooks.Closed, n+1)
	t.Logf("a maximum below the age ended it after %v", time.Since(began))
	require.Less(t, redistest.Took(began), 250*time.Millisecond)

	c.SetMaxAge(0)
	require.NoError(t, c.Ping(t.Context()).Err())
	time.Sleep(100 * time.Millisecond)
	require.Len(t, c.Conns(), 1, "no maximum any more")
}
