package managed_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// A caller whose time is shorter than a handshake says nothing about the server.
func TestCallersWhoseTimeIsShorterThanAHandshakeOpenNoBreaker(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	p.OnReply(func(int, []byte) redistest.Action { time.Sleep(60 * time.Millisecond); return redistest.Forward })
	policy := retry.Default()
	policy.Breaker = retry.BreakerPolicy{After: 50 * time.Millisecond, Probe: time.Hour}
	opt := s.Options()
	opt.Addr, opt.ContextTimeoutEnabled = p.Addr(), true
	c := client(t, opt, managed.WithRetry(policy))
	for range 6 {
		require.Error(t, c.Incr(deadline(t, 20*time.Millisecond), "n").Err())
		_, err := c.Pipelined(deadline(t, 20*time.Millisecond), func(p redis.Pipeliner) error { return p.Incr(t.Context(), "n").Err() })
		require.Error(t, err)
	}
	require.NoError(t, c.Incr(deadline(t, soon), "n").Err())
	require.Zero(t, c.RetryStats().BreakerOpened)
}

// A ring leaves the commands of a shard whose hook returns an error without one of their own.
func TestABreakerThatOpensLeavesNoCommandOfARingsPipelineWithoutAnError(t *testing.T) {
	for name, exec := range map[string]func(redis.UniversalClient, context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error){
		"pipeline": redis.UniversalClient.Pipelined, "transaction": redis.UniversalClient.TxPipelined,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, "")
			d.shut()
			c, err := managed.NewRingClient(&redis.RingOptions{Addrs: map[string]string{"a": d.addr}, HeartbeatFrequency: time.Hour},
				managed.WithLogger(quiet), managed.WithRetry(retry.Policy{Breaker: retry.BreakerPolicy{After: 100 * time.Millisecond}}))
			require.NoError(t, err)
			defer c.Close()
			for _, when := range []string{"opens", "is open"} {
				cmds, err := exec(c, t.Context(), func(p redis.Pipeliner) error { p.Incr(t.Context(), "k"); p.Incr(t.Context(), "k"); return nil })
				require.ErrorIs(t, err, retry.ErrBreakerOpen, when)
				for _, cmd := range cmds {
					require.ErrorIs(t, cmd.Err(), retry.ErrBreakerOpen, when)
					require.Equal(t, retry.NotSent, retry.OutcomeOf(cmd.Err()))
				}
			}
		})
	}
}

// A ring without shards, and a Sentinel that nobody reaches, have no node whose breaker could open.
func TestWithoutADeadlineNobodyWaitsLongerThanTheBreakersTimeForNodesThatAreNotKnown(t *testing.T) {
	d := newDoor(t, "")
	d.shut()
	policy := managed.WithRetry(retry.Policy{Breaker: retry.BreakerPolicy{After: 200 * time.Millisecond}})
	ring, err := managed.NewRingClient(&redis.RingOptions{Addrs: map[string]string{"a": d.addr}, HeartbeatFrequency: 5 * time.Millisecond}, managed.WithLogger(quiet), policy)
	require.NoError(t, err)
	defer ring.Close()
	redistest.Eventually(t, "the ring has no shard left", soon, func() bool { return ring.Len() == 0 })
	for name, c := range map[string]redis.UniversalClient{
		"ring":     ring,
		"failover": managed.NewFailoverClusterClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{d.addr}}, managed.WithLogger(quiet), policy),
	} {
		defer c.Close()
		for call, do := range map[string]func() error{
			"command":     func() error { return c.Incr(t.Context(), "n").Err() },
			"pipeline":    func() error { return inPipe(t.Context(), c.Pipeline()) },
			"transaction": func() error { return inPipe(t.Context(), c.TxPipeline()) },
		} {
			began := time.Now()
			err := do()
			require.Errorf(t, err, "%s %s", name, call)
			require.Equal(t, retry.NotSent, retry.OutcomeOf(err), "%v", err)
			require.Less(t, redistest.Took(began), 20*time.Second, "%s %s: it is UnreachableLimit that ended it", name, call)
		}
	}
}
