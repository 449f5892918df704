package managed_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// keyed is a hook that keeps the errors with which it saw the INCR of each key.
type keyed struct {
	mu   sync.Mutex
	errs map[string][]error
}

func (h *keyed) note(cmds []redis.Cmder, err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, cmd := range cmds {
		if cmd.Name() == "incr" {
			key := cmd.Args()[1].(string)
			h.errs[key] = append(h.errs[key], err)
		}
	}
	return err
}

func (h *keyed) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (h *keyed) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return h.note([]redis.Cmder{cmd}, next(ctx, cmd)) }
}

func (h *keyed) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return h.note(cmds, next(ctx, cmds)) }
}

// underCuts sends INCR of many keys, each once, while the connections through p are cut again and
// again. It returns the error of each key's call.
func underCuts(c redis.UniversalClient, p *redistest.Proxy) map[string]error {
	const callers, each, between = 8, 100, 20 // a cut after so many calls
	var mu sync.Mutex
	var wg sync.WaitGroup
	var calls atomic.Int64
	errs := map[string]error{}
	for caller := range callers {
		wg.Go(func() {
			for i := range each {
				ctx, key := context.Background(), fmt.Sprintf("{n}%d-%d", caller, i)
				incr := func(p redis.Pipeliner) error { p.Incr(ctx, key); return nil }
				var err error
				switch i % 4 {
				case 0, 1:
					err = c.Incr(ctx, key).Err()
				case 2:
					_, err = c.Pipelined(ctx, incr)
				case 3:
					_, err = c.TxPipelined(ctx, incr)
				}
				mu.Lock()
				errs[key] = err
				mu.Unlock()
				if calls.Add(1)%between == 0 {
					p.CutAll()
				}
			}
		})
	}
	wg.Wait()
	return errs
}

func TestWhileConnectionsAreKilledEachHookSeesEachCallOnceWithTheErrorOfTheCaller(t *testing.T) {
	s, one := redistest.Start(t), redistest.StartOneNodeCluster(t)
	p, toCluster := redistest.NewProxy(t, s.Addr()), redistest.NewProxy(t, one.Addr())
	slots := []redis.ClusterSlot{{End: 16383, Nodes: []redis.ClusterNode{{Addr: toCluster.Addr()}}}}
	slotsOf := func(context.Context) ([]redis.ClusterSlot, error) { return slots, nil }
	with := func(h redis.Hook) func(*redis.Options) *redis.Client {
		return func(o *redis.Options) *redis.Client {
			c := redis.NewClient(o)
			c.AddHook(h)
			return c
		}
	}
	log := managed.WithLogger(quiet)
	for kind, k := range map[string]struct {
		proxy  *redistest.Proxy
		server *redis.Client
		make   func(node redis.Hook) redis.UniversalClient
	}{
		"client": {p, s.Admin(), func(redis.Hook) redis.UniversalClient {
			return managed.NewClient(&redis.Options{Addr: p.Addr()}, log)
		}},
		"ring": {p, s.Admin(), func(node redis.Hook) redis.UniversalClient {
			return managed.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": p.Addr()}, NewClient: with(node), HeartbeatFrequency: time.Hour}, log)
		}},
		"cluster": {toCluster, one.Admin(), func(node redis.Hook) redis.UniversalClient {
			return managed.NewClusterClient(&redis.ClusterOptions{ClusterSlots: slotsOf, NewClient: with(node)}, log)
		}},
	} {
		require.NoError(t, k.server.FlushAll(t.Context()).Err())
		added, instrumented, node := &keyed{errs: map[string][]error{}}, &keyed{errs: map[string][]error{}}, &keyed{errs: map[string][]error{}}
		c := k.make(node)
		c.AddHook(added)
		require.NoError(t, instrument(c, instrumented))
		failed := 0
		for key, err := range underCuts(c, k.proxy) {
			require.Equal(t, []error{err}, added.errs[key], "%s, AddHook", kind)
			require.Equal(t, []error{err}, instrumented.errs[key], "%s, Instrument", kind)
			times, _ := k.server.Get(t.Context(), key).Int()
			require.LessOrEqual(t, times, 1, "%s: nothing is executed twice", kind)
			if err != nil {
				failed++
			} else {
				require.Equal(t, 1, times, kind)
			}
			if kind == "client" {
				continue
			}
			answered := 0 // attempts that the hook of the node saw
			for _, e := range node.errs[key] {
				if e == nil {
					answered++
				}
			}
			require.Equal(t, err == nil, answered == 1, "%s, NewClient: %v, %v", kind, err, node.errs[key])
		}
		t.Logf("%s: %d calls failed", kind, failed)
		stats := c.PoolStats()
		require.EqualValues(t, stats.TotalConns, stats.IdleConns, "%s: no connection is lost", kind)
		require.NoError(t, c.Close())
	}
}
