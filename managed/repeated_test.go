package managed_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// repeater is a client of a ring, or of what Sentinels name, whose server is reached
// through a proxy, and go-redis's own beside it.
type repeater struct {
	rdb, bare redis.UniversalClient
	retries   func() retry.Stats
	server    *redistest.Server
	proxy     *redistest.Proxy
}

func noBudget() managed.Option {
	p := retry.Default()
	p.Backoff = retry.FullJitter(20*time.Millisecond, 100*time.Millisecond)
	p.Budget = retry.NewBudget(0, 0)
	return managed.WithRetry(p)
}

func ringRepeater(t *testing.T, opts ...managed.Option) repeater {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := &redis.RingOptions{Addrs: map[string]string{"a": p.Addr()}, MinRetryBackoff: time.Millisecond, MaxRetryBackoff: time.Millisecond}
	r := managed.NewRing(opt, append(opts, managed.WithLogger(quiet))...)
	return repeater{r, redis.NewRing(opt), r.RetryStats, s, p}
}

func sentinelRepeater(t *testing.T, opts ...managed.Option) repeater {
	set := redistest.StartSentinel(t, "redis-server")
	master := set.Master()
	p := redistest.NewProxy(t, master.Addr())
	opt := set.Options()
	opt.MinRetryBackoff, opt.MaxRetryBackoff = time.Millisecond, time.Millisecond
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr == master.Addr() {
			addr = p.Addr()
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	c := managed.NewFailoverClient(opt, append(opts, managed.WithLogger(quiet))...)
	return repeater{c, redis.NewFailoverClient(opt), c.RetryStats, master, p}
}

// What holds for one server holds for those of a ring and for the master of Sentinels.
func TestOnARingAndBySentinelsARepetitionChangesNoAnswerAndARefusalIsFree(t *testing.T) {
	for name, start := range map[string]func(*testing.T, ...managed.Option) repeater{"ring": ringRepeater, "sentinels": sentinelRepeater} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			defer r.rdb.Close()
			defer r.bare.Close()
			t.Run("reply", func(t *testing.T) { losesTheReply(t, r) })
			t.Run("script", func(t *testing.T) { runsOnce(t, r) })
			t.Run("transaction", func(t *testing.T) { losesTheReplyOfExec(t, r) })
		})
		t.Run(name+" without budget", func(t *testing.T) {
			t.Parallel()
			r := start(t, noBudget())
			defer r.rdb.Close()
			defer r.bare.Close()
			refusesForAWhile(t, r)
		})
	}
}

func losesTheReply(t *testing.T, r repeater) {
	ctx, admin := t.Context(), r.server.Admin()
	add := func() { require.NoError(t, admin.ZAdd(ctx, "jobs", redis.Z{Member: "job"}).Err()) }
	add()
	require.NoError(t, r.bare.ZCard(ctx, "jobs").Err())
	loseReply(r.proxy, "zrem")
	n, err := r.bare.ZRem(ctx, "jobs", "job").Result()
	require.NoError(t, err)
	require.Zero(t, n, "bare go-redis now tells the first reply")

	add()
	require.NoError(t, r.rdb.ZCard(ctx, "jobs").Err())
	sent := loseReply(r.proxy, "zrem")
	n, err = r.rdb.ZRem(ctx, "jobs", "job").Result()
	require.True(t, retry.Applied(err), "%d, %v", n, err)
	require.ErrorIs(t, err, retry.ErrUnknownOutcome)
	require.EqualValues(t, 2, sent.Load())
	require.Zero(t, admin.ZCard(ctx, "jobs").Val())

	sent = loseReply(r.proxy, "zrem")
	cmds, err := r.rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.ZRem(ctx, "jobs", "nobody"); return nil })
	require.True(t, retry.Applied(err), "%v", err)
	require.True(t, retry.Applied(cmds[0].Err()), "%v", cmds[0].Err())
	require.EqualValues(t, 2, sent.Load())

	sent = loseReply(r.proxy, "incr")
	require.ErrorIs(t, r.rdb.Incr(ctx, "n").Err(), retry.ErrUnknownOutcome)
	require.EqualValues(t, 1, sent.Load())
	require.Equal(t, "1", admin.Get(ctx, "n").Val())
}

func losesTheReplyOfExec(t *testing.T, r repeater) {
	ctx, admin := t.Context(), r.server.Admin()
	require.NoError(t, admin.SAdd(ctx, "set", "member").Err())
	sent := loseReply(r.proxy, "exec")
	cmds, err := r.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { p.SRem(ctx, "set", "member"); return nil })
	require.True(t, retry.Applied(cmds[0].Err()), "%v, %v", cmds[0].Err(), err)
	require.EqualValues(t, 2, sent.Load())
	require.Zero(t, admin.SCard(ctx, "set").Val())
}

func runsOnce(t *testing.T, r repeater) {
	ctx, admin := t.Context(), r.server.Admin()
	r.proxy.OnRequest(nil)
	r.proxy.OnReply(nil)
	for _, text := range []string{"TRYAGAIN x", "READONLY x", "LOADING x", "CLUSTERDOWN x", "MASTERDOWN x", "ERR max number of clients reached"} {
		script := "redis.call('incr', KEYS[1]) return redis.error_reply('" + text + "')"
		require.EqualError(t, r.rdb.Eval(ctx, script, []string{"runs"}).Err(), text)
		require.Equal(t, "1", admin.GetDel(ctx, "runs").Val(), text)
		_, err := r.rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.Eval(ctx, script, []string{"runs"}); return nil })
		require.EqualError(t, err, text)
		require.Equal(t, "1", admin.GetDel(ctx, "runs").Val(), text)
		require.EqualError(t, r.bare.Eval(ctx, script, []string{"runs"}).Err(), text)
		require.NotEqual(t, "1", admin.GetDel(ctx, "runs").Val(), "bare go-redis now runs a script once that replies %s", text)
	}
}

// refusesForAWhile: the server says NOREPLICAS.
func refusesForAWhile(t *testing.T, r repeater) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, r.rdb.Incr(ctx, "n").Err())
	admin := r.server.Admin()
	require.NoError(t, admin.ConfigSet(ctx, "min-replicas-to-write", "9").Err())
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			assert.NoError(t, r.rdb.Incr(ctx, "n").Err())
			_, err := r.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
			assert.NoError(t, err)
		})
	}
	redistest.Eventually(t, "all are refused", soon, func() bool { return r.retries().RetriesByReason[retry.ReasonNoReplicas] >= 10 })
	require.NoError(t, admin.ConfigSet(ctx, "min-replicas-to-write", "0").Err())
	wg.Wait()
	require.Zero(t, r.retries().BudgetRefusals)
	require.Equal(t, "21", admin.Get(ctx, "n").Val(), "each was carried out once")
}
