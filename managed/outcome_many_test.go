package managed_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// ofMany is a client of several nodes.
type ofMany interface {
	redis.UniversalClient
	Acquire(ctx context.Context, key string) (*managed.Conn, error)
	Stats() monitor.Stats
}

// callsOf are the ways to use key. Each returns its error and those of its commands.
func callsOf(c ofMany, key string) map[string]func(context.Context) []error {
	all := func(cmds []redis.Cmder, err error) []error {
		errs := []error{err}
		for _, cmd := range cmds {
			errs = append(errs, cmd.Err())
		}
		return errs
	}
	three := func(p redis.Pipeliner) error {
		p.Incr(context.Background(), key)
		p.Get(context.Background(), key)
		p.Eval(context.Background(), "return 1", []string{key})
		return nil
	}
	one := func(p redis.Pipeliner) error { return p.Incr(context.Background(), key).Err() }
	calls := map[string]func(context.Context) []error{
		"command":            func(ctx context.Context) []error { return []error{c.Incr(ctx, key).Err()} },
		"script":             func(ctx context.Context) []error { return []error{c.Eval(ctx, "return 1", []string{key}).Err()} },
		"pipeline":           func(ctx context.Context) []error { return all(c.Pipelined(ctx, three)) },
		"pipeline of one":    func(ctx context.Context) []error { return all(c.Pipelined(ctx, one)) },
		"transaction":        func(ctx context.Context) []error { return all(c.TxPipelined(ctx, three)) },
		"transaction of one": func(ctx context.Context) []error { return all(c.TxPipelined(ctx, one)) },
		"watch": func(ctx context.Context) []error {
			return []error{c.Watch(ctx, func(*redis.Tx) error { return nil }, key)}
		},
		"acquire": func(ctx context.Context) []error { _, err := c.Acquire(ctx, key); return []error{err} },
	}
	if c, ok := c.(*managed.ClusterClient); ok {
		batch := c.Adaptive(managed.AlwaysBatch)
		calls["adaptive"] = func(ctx context.Context) []error { return []error{c.Adaptive().Incr(ctx, key).Err()} }
		calls["batch"] = func(ctx context.Context) []error { return []error{batch.Incr(ctx, key).Err()} }
	}
	return calls
}

func TestAFullPoolOfANodeIsNamedByEachKindOfCallAndWaitedForOnce(t *testing.T) {
	const wait = 300 * time.Millisecond
	servers := redistest.StartCluster(t, "redis-server", 2, 0)
	shards := map[string]string{"a": redistest.Start(t).Addr(), "b": redistest.Start(t).Addr()}
	for kind, x := range map[string]struct {
		client func() (ofMany, error)
		key    string
	}{
		"cluster": {func() (ofMany, error) {
			opt := servers.Options()
			opt.PoolSize, opt.PipelinePoolSize, opt.PoolTimeout = 1, -1, wait
			return managed.NewCluster(opt, managed.WithLogger(quiet))
		}, servers.Key(0, "k")},
		"ring": {func() (ofMany, error) {
			return managed.NewRingClient(&redis.RingOptions{Addrs: shards, PoolSize: 1, PipelinePoolSize: -1, PoolTimeout: wait}, managed.WithLogger(quiet))
		}, "k"},
	} {
		c, err := x.client()
		require.NoError(t, err)
		defer c.Close()
		lease, err := c.Acquire(t.Context(), x.key)
		require.NoError(t, err)
		defer lease.Release()
		check := func(t *testing.T, errs []error, cause error) {
			for _, err := range errs {
				var e *managed.ExhaustedError
				assert.ErrorIs(t, err, redis.ErrPoolTimeout)
				if assert.ErrorAs(t, err, &e) {
					assert.Equal(t, 1, e.Leased)
				}
				assert.Equal(t, retry.NotSent, retry.OutcomeOf(err))
				assert.True(t, cause == nil || errors.Is(err, cause), "%v", err)
			}
		}
		var each sync.WaitGroup
		for name, call := range callsOf(c, x.key) {
			t.Run(kind+" "+name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				defer cancel()
				check(t, call(ctx), context.DeadlineExceeded)
			})
			each.Go(func() {
				began := time.Now()
				check(t, call(context.Background()), nil)
				assert.Less(t, redistest.Took(began), 2*wait, "%s %s", kind, name)
			})
		}
		each.Wait()
		assert.Zero(t, c.Stats().UnknownOutcomes)
	}
}

func TestACallThatGivesUpInTheQueueOfANodeIsCountedOnce(t *testing.T) {
	one := redistest.StartOneNodeCluster(t)
	slots := slotsOf(one)
	slots.PoolSize, slots.PipelinePoolSize = 1, -1
	ring := &redis.RingOptions{Addrs: map[string]string{"a": redistest.Start(t).Addr()}, PoolSize: 1, PipelinePoolSize: -1}
	for kind, c := range map[string]ofMany{
		"cluster": clusterClient(t, slots), "ring": managed.NewRing(ring, managed.WithLogger(quiet)),
	} {
		defer c.Close()
		lease, err := c.Acquire(t.Context(), "k")
		require.NoError(t, err)
		defer lease.Release()
		for name, call := range callsOf(c, "k") {
			before := c.Stats()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			require.ErrorIs(t, call(ctx)[0], redis.ErrPoolTimeout, "%s %s", kind, name)
			cancel()
			after := c.Stats()
			assert.Equal(t, before.PoolTimeouts+1, after.PoolTimeouts, "%s %s", kind, name)
			assert.Equal(t, before.Waits+1, after.Waits, "%s %s", kind, name)
		}
	}
}

func TestAnErrorOfCredentialsForABlockingCommandIsTheUsersAlthoughAnotherConnectionIsCut(t *testing.T) {
	cluster := redistest.StartCluster(t, "redis-server", 2, 0)
	server := cluster.Master(0).Admin()
	var armed atomic.Bool
	cut := make(chan struct{})
	opt := cluster.Options()
	opt.CredentialsProviderContext = func(ctx context.Context) (string, string, error) {
		if !armed.Load() {
			return "", "", nil
		}
		server.ClientKillByFilter(ctx, "TYPE", "normal", "SKIPME", "yes")
		select {
		case <-cut:
		case <-time.After(soon):
		}
		return "", "", errMine
	}
	c := clusterClient(t, opt, managed.WithBlockingPool(2))
	key := cluster.Key(0, "none")
	go func() {
		defer close(cut)
		assert.ErrorIs(t, c.BLPop(context.Background(), soon, key).Err(), retry.ErrUnknownOutcome)
	}()
	redistest.Eventually(t, "a command waits", soon, func() bool {
		return strings.Contains(server.Info(t.Context(), "clients").Val(), "blocked_clients:1")
	})
	armed.Store(true)
	err := c.BLPop(t.Context(), time.Second, key).Err()
	require.True(t, err == errMine, "%T %v", err, err)
}
