package retry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// clusterOf starts a cluster of two masters, each behind a proxy that can lose
// replies. track makes its connections keep their errors from go-redis.
func clusterOf(t *testing.T) (c *redistest.Cluster, fs []*faults, client func(track bool, p retry.Policy) (*redis.ClusterClient, *retry.Hook)) {
	c = redistest.StartCluster(t, "redis-server", 2, 0)
	via := map[string]*faults{}
	for _, n := range c.Nodes() {
		f := newFaults(t, n.Addr())
		via[n.Addr()], fs = f, append(fs, f)
	}
	return c, fs, func(track bool, p retry.Policy) (*redis.ClusterClient, *retry.Hook) {
		opt := c.Options()
		opt.MaxRetries = -1
		opt.DialerRetries = 1
		opt.ReadTimeout = 500 * time.Millisecond
		opt.MinRetryBackoff, opt.MaxRetryBackoff = time.Millisecond, 5*time.Millisecond
		opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if f := via[addr]; f != nil {
				addr = f.proxy.Addr()
			}
			if track {
				return trackedDialer(ctx, network, addr)
			}
			return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, addr)
		}
		rdb := redis.NewClusterClient(opt)
		t.Cleanup(func() { rdb.Close() })
		h, err := retry.Attach(rdb, p)
		if err != nil {
			t.Fatal(err)
		}
		return rdb, h
	}
}

func TestOnAClusterNothingIsSentTwice(t *testing.T) {
	c, fs, client := clusterOf(t)
	ctx := within(t, 60*time.Second)
	rdb, h := client(true, quick())
	a, b := c.Key(0, "a"), c.Key(1, "b")
	counter := func(shard int, key string) string { return c.Master(shard).Admin().Get(ctx, key).Val() }

	t.Run("single", func(t *testing.T) {
		fs[0].reply("incr", 2, redistest.CutBefore)
		err := rdb.Incr(ctx, a).Err()
		if !errors.Is(err, retry.ErrUnknownOutcome) || !errors.Is(err, io.EOF) || fs[0].sent() != 1 || counter(0, a) != "1" {
			t.Errorf("%v, sent %d, counter %s", err, fs[0].sent(), counter(0, a))
		}
		fs[0].reply("get", 2, redistest.CutBefore)
		if v, err := rdb.Get(ctx, a).Result(); err != nil || v != "1" || fs[0].sent() != 3 {
			t.Errorf("%q, %v, sent %d", v, err, fs[0].sent())
		}
		fs[1].reply("set", 1, redistest.Drop)
		if err := rdb.Set(ctx, b, 7, 0).Err(); err != nil {
			t.Error(err)
		}
	})
	for _, track := range []bool{true, false} { // a node's hook is enough for pipelines
		t.Run(fmt.Sprint("pipeline, tracked ", track), func(t *testing.T) {
			rdb, _ := client(track, quick())
			key := c.Key(0, fmt.Sprint("p", track))
			fs[0].reply("incr", 2, redistest.CutBefore)
			var incr *redis.IntCmd
			var get, other *redis.StringCmd
			_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, b, 8, 0)
				get, incr, other = p.Get(ctx, a), p.Incr(ctx, key), p.Get(ctx, b)
				return nil
			})
			if err == nil || !errors.Is(incr.Err(), retry.ErrUnknownOutcome) || !errors.Is(incr.Err(), io.EOF) || fs[0].sent() != 1 || counter(0, key) != "1" {
				t.Errorf("%v, %v, sent %d, counter %s", err, incr.Err(), fs[0].sent(), counter(0, key))
			}
			if get.Err() != io.EOF || other.Val() != "8" {
				t.Errorf("%v, %v", get, other)
			}
			fs[0].reply("get", 2, redistest.CutBefore)
			cmds, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Incr(ctx, b) // answered, so the rest may go on
				p.Get(ctx, a)
				p.Get(ctx, key)
				return nil
			})
			if err != nil || cmds[2].(*redis.StringCmd).Val() != "1" || counter(1, b) != "9" {
				t.Errorf("%v, %v, b is %s", err, cmds, counter(1, b))
			}
		})
	}
	t.Run("transaction", func(t *testing.T) {
		key := c.Key(0, "tx")
		fs[0].reply("incr", 2, redistest.CutBefore)
		cmds, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, key); return nil })
		if !errors.Is(err, retry.ErrUnknownOutcome) || !errors.Is(cmds[0].Err(), io.EOF) || counter(0, key) != "1" {
			t.Errorf("%v, counter %s", err, counter(0, key))
		}
		fs[0].reply("set", 2, redistest.CutBefore)
		if _, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, key, 5, 0); return nil }); err != nil {
			t.Error(err)
		}
	})
	t.Run("watch", func(t *testing.T) {
		key := c.Key(0, "watched")
		fs[0].reply("incr", 2, redistest.CutBefore)
		runs := 0
		err := rdb.Watch(ctx, func(tx *redis.Tx) error { runs++; return tx.Incr(ctx, key).Err() }, key)
		if !errors.Is(err, retry.ErrUnknownOutcome) || runs != 1 || counter(0, key) != "1" {
			t.Errorf("%v after %d, counter %s", err, runs, counter(0, key))
		}
	})
	t.Run("errors that a method leaves in the command", func(t *testing.T) {
		fs[1].reply("dbsize", 2, redistest.CutBefore)
		if n, err := rdb.DBSize(ctx).Result(); err != nil || n == 0 {
			t.Errorf("%d, %v", n, err)
		}
		for _, f := range fs {
			f.reply("flushall", 1, redistest.CutBefore)
		}
		err := rdb.FlushAll(ctx).Err() // to one node or to all: that is go-redis's business
		if !errors.Is(err, retry.ErrUnknownOutcome) || fs[0].sent() > 1 || fs[1].sent() > 1 {
			t.Errorf("FLUSHALL: %v, sent %d and %d", err, fs[0].sent(), fs[1].sent())
		}
	})
	t.Logf("%+v", h.Stats())
}

// A ClusterClient makes the clients of its nodes, and they get their hooks, while
// its first call is under way.
func TestTheFirstPipelineOfAClusterIsUnderstood(t *testing.T) {
	s := redistest.Start(t)
	f := newFaults(t, s.Addr())
	ctx := within(t, 30*time.Second)
	rdb := redis.NewClusterClient(&redis.ClusterOptions{MaxRetries: -1, ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
		return []redis.ClusterSlot{{Start: 0, End: 16383, Nodes: []redis.ClusterNode{{Addr: f.proxy.Addr()}}}}, nil
	}})
	t.Cleanup(func() { rdb.Close() })
	h := retry.NewHook(quick())
	rdb.OnNewNode(func(node *redis.Client) { node.AddHook(h.Node(node.Options().Addr)) })
	rdb.AddHook(h)
	f.request("incr", 1, redistest.CutBefore)
	var incr *redis.IntCmd
	_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, "k", 1, 0)
		incr = p.Incr(ctx, "n")
		p.Get(ctx, "k")
		return nil
	})
	if !errors.Is(incr.Err(), retry.ErrUnknownOutcome) || f.sent() != 1 {
		t.Errorf("INCR whose connection was cut: %v, sent %d", incr, f.sent())
	}
}

// go-redis sends a node's whole pipeline again if the first reply says TRYAGAIN,
// those commands included that were executed.
func TestAClusterPipelineIsNotSentAgainForItsFirstReply(t *testing.T) {
	c, _, client := clusterOf(t)
	ctx := within(t, 30*time.Second)
	src, dst := c.Master(0).Admin(), c.Master(1).Admin()
	here, tag := c.Key(0, "here"), ""
	var slot int64
	for i := 0; tag == ""; i++ {
		k := fmt.Sprintf("{moving%d}", i)
		slot = src.ClusterKeySlot(ctx, k).Val()
		if c.Shard(int(slot)) == 0 && slot != src.ClusterKeySlot(ctx, here).Val() {
			tag = k
		}
	}
	src.Set(ctx, tag+"1", "v", 0)
	for _, e := range []error{
		src.Do(ctx, "cluster", "setslot", slot, "migrating", dst.Do(ctx, "cluster", "myid").Val()).Err(),
		dst.Do(ctx, "cluster", "setslot", slot, "importing", src.Do(ctx, "cluster", "myid").Val()).Err(),
	} {
		if e != nil {
			t.Fatal(e)
		}
	}
	p := quick()
	p.MaxAttempts = 3
	rdb, _ := client(true, p)
	run := func(rdb *redis.ClusterClient) (string, []redis.Cmder) {
		src.Del(ctx, here)
		cmds, _ := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.MGet(ctx, tag+"1", tag+"2") // one is here, one is not
			p.Incr(ctx, here)
			return nil
		})
		return src.Get(ctx, here).Val(), cmds
	}
	n, cmds := run(rdb)
	if n != "1" || cmds[1].Err() != nil || cmds[1].(*redis.IntCmd).Val() != 1 {
		t.Errorf("counter %s, %v", n, cmds[1])
	}
	if err := cmds[0].Err(); err == nil || !strings.HasPrefix(err.Error(), "TRYAGAIN") {
		t.Errorf("MGET: %v", err)
	}
	opt := c.Options()
	opt.MaxRetries = -1
	plain := redis.NewClusterClient(opt)
	defer plain.Close()
	if n, _ := run(plain); n == "1" {
		t.Error("without the hook the counter is 1, too: go-redis has changed, the PING of Hook.Node may go")
	}
}

func TestEachNodeOfAClusterHasItsBreaker(t *testing.T) {
	c, _, client := clusterOf(t)
	ctx := within(t, 30*time.Second)
	p := quick()
	p.Breaker = retry.BreakerPolicy{After: 300 * time.Millisecond, Probe: 100 * time.Millisecond}
	rdb, h := client(true, p)
	a, b := c.Key(0, "a"), c.Key(1, "b")
	for _, k := range []string{a, b} {
		if err := rdb.Set(ctx, k, 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	lost := c.Master(0)
	// A node that does not respond; a cluster without it would not serve the rest.
	for _, n := range c.Nodes() {
		n.Admin().ConfigSet(ctx, "cluster-require-full-coverage", "no")
	}
	lost.Kill()
	redistest.Eventually(t, "its breaker opens", 10*time.Second, func() bool {
		return errors.Is(rdb.Get(ctx, a).Err(), retry.ErrBreakerOpen)
	})
	var open *retry.BreakerOpenError
	start := time.Now()
	err := rdb.Get(ctx, a).Err()
	if !errors.As(err, &open) || open.Node != lost.Addr() {
		t.Errorf("%v", err)
	}
	if d := time.Since(start); d > 300*time.Millisecond {
		t.Logf("took %v: it was the probe", d)
	}
	if v, err := rdb.Get(ctx, b).Result(); err != nil || v != "1" {
		t.Errorf("the other node: %q, %v", v, err)
	}
	_, err = rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, a); p.Get(ctx, b); return nil })
	if !errors.Is(err, retry.ErrBreakerOpen) {
		t.Errorf("pipeline: %v", err)
	}
	node, err := rdb.MasterForKey(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range []func(context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error){node.Pipelined, node.TxPipelined} {
		cmds, err := run(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, a); p.Get(ctx, a); return nil })
		for _, err := range []error{err, cmds[0].Err(), cmds[1].Err()} { // no hook around the cluster sets them
			if open = nil; !errors.As(err, &open) || open.Node != lost.Addr() {
				t.Errorf("pipeline of the node itself: %v", err)
			}
		}
	}
	lost.Restart()
	redistest.Eventually(t, "its breaker closes", 10*time.Second, func() bool { return rdb.Incr(ctx, a).Err() == nil })
	if st := h.Stats(); st.BreakerClosed != 1 || st.BreakerRefusals == 0 {
		t.Errorf("%+v", st)
	}
}

func TestOnARingNothingIsSentTwice(t *testing.T) {
	s1, s2 := redistest.Start(t), redistest.Start(t)
	f1, f2 := newFaults(t, s1.Addr()), newFaults(t, s2.Addr())
	ctx := within(t, 30*time.Second)
	ring := redis.NewRing(&redis.RingOptions{
		Addrs: map[string]string{"1": f1.proxy.Addr(), "2": f2.proxy.Addr()}, MaxRetries: -1, Dialer: trackedDialer,
		ReadTimeout: 500 * time.Millisecond, DialerRetries: 1,
	})
	defer ring.Close()
	h, err := retry.Attach(ring, quick())
	if err != nil {
		t.Fatal(err)
	}
	// Keys by shard.
	keys := map[*redistest.Server][]string{}
	for i := 0; len(keys[s1]) < 9 || len(keys[s2]) < 9; i++ {
		k := fmt.Sprint("key", i)
		if err := ring.Set(ctx, k, 0, 0).Err(); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*redistest.Server{s1, s2} {
			if s.Admin().Exists(ctx, k).Val() == 1 {
				keys[s] = append(keys[s], k)
			}
		}
	}
	a, b := keys[s1], keys[s2]
	f1.reply("incr", 2, redistest.CutBefore)
	if err := ring.Incr(ctx, a[0]).Err(); !errors.Is(err, retry.ErrUnknownOutcome) || !errors.Is(err, io.EOF) || f1.sent() != 1 {
		t.Errorf("single: %v, sent %d", err, f1.sent())
	}
	f1.reply("get", 2, redistest.HalfThenCut)
	f2.reply("incr", 0, redistest.Forward)
	cmds, err := ring.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Incr(ctx, b[1])
		for i := range 20 {
			p.Get(ctx, a[i%9])
		}
		p.Incr(ctx, b[1])
		return nil
	})
	if err != nil || f2.sent() != 1 || s2.Admin().Get(ctx, b[1]).Val() != "2" || cmds[1].(*redis.StringCmd).Val() != "1" {
		t.Errorf("pipeline: %v, sent %d, %v", err, f2.sent(), cmds)
	}
	f1.reply("incr", 1, redistest.CutBefore)
	cmds, err = ring.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Incr(ctx, a[2])
		p.Incr(ctx, b[2])
		return nil
	})
	if !errors.Is(err, retry.ErrUnknownOutcome) || !errors.Is(cmds[0].Err(), retry.ErrUnknownOutcome) || cmds[1].Err() != nil ||
		s1.Admin().Get(ctx, a[2]).Val() != "1" || s2.Admin().Get(ctx, b[2]).Val() != "1" {
		t.Errorf("transaction: %v, %v", err, cmds)
	}
	f1.reply("exec", 1, redistest.CutBefore)
	f2.reply("incr", 0, redistest.Forward)
	_, err = ring.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, a[3], 5, 0)
		p.Incr(ctx, b[3])
		return nil
	})
	if err != nil || f2.sent() != 1 || s2.Admin().Get(ctx, b[3]).Val() != "1" || s1.Admin().Get(ctx, a[3]).Val() != "5" {
		t.Errorf("half of a transaction: %v, sent %d", err, f2.sent())
	}
	t.Logf("%+v", h.Stats())
}

func TestAttachRefusesClientsItCannotKeepFromRepeating(t *testing.T) {
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, MaxRetries: 2})
	defer cluster.Close()
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"1": "127.0.0.1:1"}})
	defer ring.Close()
	type own struct{ *redis.Client }
	one := redis.NewClient(&redis.Options{MaxRetries: -1})
	defer one.Close()
	for _, c := range []struct {
		rdb  redis.UniversalClient
		want string
	}{{cluster, "is 2"}, {ring, "is 3"}, {own{one}, "retry_test.own"}} {
		if _, err := retry.Attach(c.rdb, retry.Default()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%T: %v", c.rdb, err)
		}
	}
}
