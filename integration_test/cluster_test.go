package integration_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// One cluster for all that disturbs nobody.
func TestLeasesAndMaintenanceKeepTheirPromisesOnACluster(t *testing.T) {
	eachProgram(t, func(t *testing.T, program string) {
		c := redistest.StartCluster(t, program, 3, 1)
		for _, part := range []struct {
			name string
			f    func(*testing.T, *redistest.Cluster)
		}{
			{"a lease is one of the key's master, and names it", leaseOfAKey},
			{"an exhausted node says who holds its connections", exhaustedNode},
			{"a lease's command ends with its ctx", interruptedLease},
			{"a lease that is forgotten is reported and its connection given up", forgottenLease},
			{"Warm, SetMaxAge, Reset and EvictIdle work on all nodes", upkeepOnAllNodes},
			{"pools shrink in silence, and idle connections are kept awake", shrinkOnAllNodes},
			{"CloseGracefully waits for leases and commands, and leaves nothing", closeGracefully},
			{"replicas are managed too", replicasAreManaged},
			{"a slow replica is left alone", slowReplica},
			{"options are cloned, and hooks, dialers and clients of the user's own are used", clusterOptionsKept},
			{"pipelines and transactions over several nodes", manyNodePipelines},
		} {
			t.Run(part.name, func(t *testing.T) { part.f(t, c) })
			redistest.Eventually(t, "no connection is left by "+part.name, 5*time.Second, func() bool { return normals(t, c.Nodes()...) == 0 })
		}
	})
}

func leaseOfAKey(t *testing.T, c *redistest.Cluster) {
	rdb := guardedCluster(t, c.Options())
	defer rdb.Close()
	ctx := t.Context()
	for shard := range 3 {
		key := c.Key(shard, "k")
		conn, err := rdb.Acquire(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Set(ctx, key, "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		leases := rdb.Leases()
		if len(leases) != 1 || leases[0].Conn.Node != c.Nodes()[shard].Addr() || !strings.Contains(leases[0].Site(), "cluster_test.go") {
			t.Errorf("leases of shard %d: %v", shard, leases)
		}
		conn.Release()
		again, err := rdb.TryAcquire(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		again.Release()
		if err := rdb.AcquireFunc(ctx, key, func(conn *managed.Conn) error { return conn.Get(ctx, key).Err() }); err != nil {
			t.Fatal(err)
		}
		node, err := rdb.AcquireNode(ctx, c.Nodes()[shard].Addr())
		if err != nil {
			t.Fatal(err)
		}
		if v, err := node.Get(ctx, key).Result(); v != "v" || err != nil {
			t.Errorf("AcquireNode: GET gave %q, %v", v, err)
		}
		node.Release()
	}
	if _, err := rdb.AcquireNode(ctx, "127.0.0.1:1"); err == nil {
		t.Error("a node that nobody knows gave a lease")
	}
	byNode := map[string]int{}
	for _, i := range rdb.Conns() {
		byNode[i.Node]++
	}
	for shard := range 3 {
		if byNode[c.Nodes()[shard].Addr()] == 0 {
			t.Errorf("no connection names the master of shard %d: %v", shard, byNode)
		}
	}
}

func exhaustedNode(t *testing.T, c *redistest.Cluster) {
	opt := c.Options()
	opt.PoolSize, opt.PoolTimeout = 2, 100*time.Millisecond
	rdb := guardedCluster(t, opt)
	defer rdb.Close()
	ctx := t.Context()
	for range 2 {
		conn, err := rdb.Acquire(managed.WithLabel(ctx, "held"), c.Key(0, ""))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Release()
	}
	start := time.Now()
	err := rdb.Get(ctx, c.Key(0, "k")).Err()
	took := time.Since(start)
	var full *managed.ExhaustedError
	if !errors.As(err, &full) || !errors.Is(err, redis.ErrPoolTimeout) || !strings.Contains(err.Error(), c.Nodes()[0].Addr()) || !strings.Contains(err.Error(), "held") {
		t.Errorf("a GET on a node whose connections are leased: %v", err)
	}
	if took > 2*time.Second {
		t.Errorf("it waited %v", took)
	}
	if _, err := rdb.TryAcquire(ctx, c.Key(0, "")); !errors.As(err, &full) {
		t.Errorf("TryAcquire: %v", err)
	}
	if err := rdb.Get(ctx, c.Key(1, "k")).Err(); err != nil && err != redis.Nil {
		t.Errorf("another node: %v", err)
	}
	t.Logf("after %v: %v", took, err)
}

func interruptedLease(t *testing.T, c *redistest.Cluster) {
	rdb := guardedCluster(t, c.Options())
	defer rdb.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	conn, err := rdb.Acquire(ctx, c.Key(2, ""))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	err = conn.BLPop(t.Context(), 5*time.Second, c.Key(2, "list")).Err()
	if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took > 2*time.Second {
		t.Errorf("BLPOP ended after %v with %v", took, err)
	}
	conn.Release()
}

func forgottenLease(t *testing.T, c *redistest.Cluster) {
	found := make(chan hooks.Event, 16)
	rdb := guardedCluster(t, c.Options(), managed.WithEventHandler(func(e hooks.Event) {
		if e.Kind == hooks.Reclaimed {
			found <- e
		}
	}))
	defer rdb.Close()
	func() {
		if _, err := rdb.Acquire(context.Background(), c.Key(1, "")); err != nil {
			t.Fatal(err)
		}
	}()
	collected := false
	redistest.Eventually(t, "the collector finds the lease", 10*time.Second, func() bool {
		collect()
		select {
		case e := <-found:
			collected = e.Node == c.Nodes()[1].Addr()
		default:
		}
		return collected
	})
	redistest.Eventually(t, "its connection is gone", 5*time.Second, func() bool { return len(rdb.Leases()) == 0 })
}

func upkeepOnAllNodes(t *testing.T, c *redistest.Cluster) {
	rdb := guardedCluster(t, c.Options())
	defer rdb.Close()
	ctx := upTo(t, 20*time.Second)
	n, err := rdb.Warm(ctx, 4)
	if n != 12 || err != nil {
		t.Fatalf("Warm(4) on 3 masters gave %d, %v", n, err)
	}
	if _, err := rdb.Warm(ctx, 100_000); err == nil {
		t.Error("Warm beyond PoolSize gave no error")
	}
	onAll := func() (counts [3]int) {
		for i := range counts {
			counts[i] = normals(t, c.Nodes()[i])
		}
		return counts
	}
	if got := onAll(); min(got[0], got[1], got[2]) < 4 {
		t.Errorf("after Warm(4) the servers see %v", got)
	}
	if ended := rdb.EvictIdle(ctx); ended < 12 {
		t.Errorf("EvictIdle ended %d of 12", ended)
	}
	redistest.Eventually(t, "the servers see that EvictIdle ended all", 3*time.Second, func() bool {
		got := onAll()
		return max(got[0], got[1], got[2]) <= 1
	})
	if _, err := rdb.Warm(ctx, 3); err != nil {
		t.Fatal(err)
	}
	if ended := rdb.Reset(ctx); ended < 9 {
		t.Errorf("Reset ended %d of 9", ended)
	}
	redistest.Eventually(t, "all are gone after Reset", 3*time.Second, func() bool { return max(onAll()[0], onAll()[1], onAll()[2]) == 0 })
	if _, err := rdb.Warm(ctx, 3); err != nil {
		t.Fatal(err)
	}
	rdb.SetMaxAge(200 * time.Millisecond)
	redistest.Eventually(t, "all are gone by age, on all nodes", 3*time.Second, func() bool { return max(onAll()[0], onAll()[1], onAll()[2]) == 0 })
	if ends := rdb.CloseReasons(); ends[hooks.ReasonAge] < 9 {
		t.Errorf("ends by reason: %v", ends)
	}
}

func shrinkOnAllNodes(t *testing.T, c *redistest.Cluster) {
	rdb := guardedCluster(t, c.Options(), managed.WithMaxIdle(2*time.Second), managed.WithHeartbeat(100*time.Millisecond))
	defer rdb.Close()
	if _, err := rdb.Warm(upTo(t, 20*time.Second), 5); err != nil {
		t.Fatal(err)
	}
	sent := func() map[string]uint64 {
		n := map[string]uint64{}
		for _, i := range rdb.Conns() {
			n[i.Node] += i.BytesOut
		}
		return n
	}
	before := sent()
	redistest.Eventually(t, "each node gets PINGs", 1800*time.Millisecond, func() bool {
		after := sent()
		for shard := range 3 {
			if addr := c.Nodes()[shard].Addr(); after[addr] < before[addr]+5*uint64(len("*1\r\n$4\r\nPING\r\n")) {
				return false
			}
		}
		return true
	})
	redistest.Eventually(t, "the pools of all nodes shrink", 8*time.Second, func() bool { return len(rdb.Conns()) == 0 })
	if ends := rdb.CloseReasons(); ends[hooks.ReasonIdle] < 15 {
		t.Errorf("ends by reason: %v", ends)
	}
}

func closeGracefully(t *testing.T, c *redistest.Cluster) {
	rdb := guardedCluster(t, c.Options())
	ctx := t.Context()
	conn, err := rdb.Acquire(ctx, c.Key(0, ""))
	if err != nil {
		t.Fatal(err)
	}
	popped := make(chan error, 1)
	go func() { popped <- rdb.BLPop(context.Background(), time.Second, c.Key(1, "nothing")).Err() }()
	redistest.Eventually(t, "the BLPOP waits", 5*time.Second, func() bool {
		for _, i := range rdb.Conns() {
			if i.LastCommand == "blpop" {
				return true
			}
		}
		return false
	})
	closed := make(chan error, 1)
	go func() { closed <- rdb.CloseGracefully(upTo(t, 10*time.Second)) }()
	redistest.Eventually(t, "new commands are refused", 5*time.Second, func() bool {
		return errors.Is(rdb.Get(ctx, c.Key(2, "k")).Err(), managed.ErrShutdown)
	})
	if _, err := rdb.Acquire(ctx, c.Key(2, "")); !errors.Is(err, managed.ErrShutdown) {
		t.Errorf("Acquire while closing: %v", err)
	}
	if err := conn.Set(ctx, c.Key(0, "k"), "v", 0).Err(); err != nil {
		t.Errorf("a command on a lease while closing: %v", err)
	}
	conn.Release()
	if err := <-popped; err != redis.Nil {
		t.Errorf("the BLPOP under way: %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("CloseGracefully: %v", err)
	}
	if err := rdb.Close(); err != nil {
		t.Errorf("a second Close, which gives no error in go-redis: %v", err)
	}
	if n := len(rdb.Conns()); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

func replicasAreManaged(t *testing.T, c *redistest.Cluster) {
	key := c.Key(0, "k")
	for name, change := range map[string]func(*redis.ClusterOptions){
		"ReadOnly":       func(o *redis.ClusterOptions) { o.ReadOnly = true },
		"RouteByLatency": func(o *redis.ClusterOptions) { o.RouteByLatency = true },
		"RouteRandomly":  func(o *redis.ClusterOptions) { o.RouteRandomly = true },
	} {
		opt := c.Options()
		change(opt)
		rdb := guardedCluster(t, opt)
		if err := rdb.Set(t.Context(), key, "v", 0).Err(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		replica := c.Replicas(0)[0].Addr()
		onReplica := func() (list []hooks.ConnInfo) {
			for _, i := range rdb.Conns() {
				if i.Node == replica && i.Pool == hooks.PoolMain && i.LastCommand == "get" {
					list = append(list, i)
				}
			}
			return list
		}
		deadline := time.Now().Add(3 * time.Second)
		for time.Now().Before(deadline) && len(onReplica()) == 0 {
			for range 20 {
				if err := rdb.Get(t.Context(), key).Err(); err != nil && err != redis.Nil {
					t.Fatalf("%s: GET: %v", name, err)
				}
			}
		}
		if len(onReplica()) == 0 && name != "RouteByLatency" { // which may like the master best
			t.Errorf("%s: nothing was read from the replica at %s: %v", name, replica, rdb.Conns())
		}
		conn, err := rdb.AcquireNode(t.Context(), replica)
		if err != nil {
			t.Errorf("%s: a lease on the replica: %v", name, err)
		} else {
			if err := conn.Get(t.Context(), key).Err(); err != nil && err != redis.Nil {
				t.Errorf("%s: a read on it: %v", name, err)
			}
			conn.Release()
		}
		rdb.SetMaxAge(100 * time.Millisecond)
		redistest.Eventually(t, name+": those of replicas end by age too", 5*time.Second, func() bool { return len(rdb.Conns()) == 0 })
		_ = rdb.Close()
	}
}

// A replica that is slow goes on with the reads that it has, although it is no master.
func slowReplica(t *testing.T, c *redistest.Cluster) {
	slow := c.Replicas(0)[0]
	rdb := guardedCluster(t, c.Options(), managed.WithFailureDetection(managed.FailureDetection{After: 50 * time.Millisecond, Patience: 50 * time.Millisecond}))
	if err := rdb.Set(t.Context(), c.Key(0, "k"), "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	conn, err := rdb.AcquireNode(t.Context(), slow.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	before := rdb.CloseReasons()
	if err := slow.Admin().Do(t.Context(), "CLIENT", "PAUSE", 700).Err(); err != nil { // the cluster does not notice
		t.Fatal(err)
	}
	if err := conn.Ping(t.Context()).Err(); err != nil {
		t.Errorf("a slow replica: %v", err)
	}
	if after := rdb.CloseReasons(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("connections to a slow replica were closed: %v, before %v", after, before)
	}
}

func clusterOptionsKept(t *testing.T, c *redistest.Cluster) {
	var made, greeted, dialed, seen counter
	opt := c.Options()
	opt.MaxRetries = 2
	opt.NewClient = func(o *redis.Options) *redis.Client { made.add(); return redis.NewClient(o) }
	opt.OnConnect = func(ctx context.Context, conn *redis.Conn) error { greeted.add(); return conn.Ping(ctx).Err() }
	base := redis.NewDialer(&redis.Options{})
	opt.Dialer = dialCounter(&dialed, base)
	before := fmt.Sprintf("%+v", *opt)
	rdb := guardedCluster(t, opt)
	defer rdb.Close()
	rdb.AddHook(countingHook{&seen})
	for shard := range 3 {
		if err := rdb.Set(t.Context(), c.Key(shard, "k"), "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if after := fmt.Sprintf("%+v", *opt); after != before {
		t.Errorf("the options were changed:\n%s\n%s", before, after)
	}
	if made.n() < 3 || greeted.n() < 3 || dialed.n() < 3 || seen.n() < 3 {
		t.Errorf("NewClient %d, OnConnect %d, Dialer %d, hook %d calls", made.n(), greeted.n(), dialed.n(), seen.n())
	}
	if n := len(rdb.Conns()); n == 0 {
		t.Error("connections of the user's own client are not tracked")
	}
}

func manyNodePipelines(t *testing.T, c *redistest.Cluster) {
	rdb := guardedCluster(t, c.Options())
	defer rdb.Close()
	ctx := t.Context()
	cmds, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 30 {
			p.Set(ctx, c.Key(i%3, fmt.Sprint("p", i)), i, 0)
		}
		return nil
	})
	if err != nil || len(cmds) != 30 {
		t.Fatalf("%d commands, %v", len(cmds), err)
	}
	tag := c.Key(1, "")
	if _, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Incr(ctx, tag+"a")
		p.Incr(ctx, tag+"b")
		return nil
	}); err != nil {
		t.Errorf("a transaction on one slot: %v", err)
	}
	if err := rdb.Watch(ctx, func(tx *redis.Tx) error {
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, tag+"a"); return nil })
		return err
	}, tag+"a"); err != nil {
		t.Errorf("Watch: %v", err)
	}
	if n, err := rdb.Get(ctx, tag+"a").Int(); n != 2 || err != nil {
		t.Errorf("it is %d, %v", n, err)
	}
	rdb.Del(ctx, tag+"a", tag+"b")
}
