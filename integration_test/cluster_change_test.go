package integration_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// All connections of all nodes are killed 50 times a second.
func TestChaosOnAClusterDoublesNothingAndCostsNoSafeCommand(t *testing.T) {
	eachProgram(t, func(t *testing.T, program string) {
		c := redistest.StartCluster(t, program, 3, 0)
		rdb := guardedCluster(t, c.Options())
		work := startLoad(t, rdb, false, 5, tags(c, 0, 1, 2)...)
		tag := c.Key(2, "")
		var wg sync.WaitGroup
		var halves few
		var rounds atomic.Int64
		stop := make(chan struct{})
		wg.Go(func() { // transactions on one slot happen as a whole, and pipelines over all nodes once
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				a, b := fmt.Sprintf("%stx:a:%d", tag, i), fmt.Sprintf("%stx:b:%d", tag, i)
				_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
					p.Incr(ctx, a)
					p.Incr(ctx, b)
					return nil
				})
				work.book.note(a, err)
				work.book.note(b, err)
				var cmds []*redis.IntCmd
				var keys []string
				_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
					for n := range 9 {
						keys = append(keys, fmt.Sprintf("%sover:%d:%d", tags(c, n%3)[0], i, n))
						cmds = append(cmds, p.Incr(ctx, keys[n]))
					}
					return nil
				})
				for n, cmd := range cmds {
					work.book.note(keys[n], cmd.Err())
				}
				va, vb := rdb.Get(ctx, a).Val(), rdb.Get(ctx, b).Val()
				if va != vb {
					halves.add(fmt.Errorf("half a transaction: %q, %q", va, vb))
				}
				cancel()
				rounds.Add(1)
			}
		})
		kills := 0
		for end := time.Now().Add(lasting(3*time.Second, 15*time.Second)); time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
			for _, n := range c.Nodes() {
				kills += n.KillClients(t)
			}
		}
		close(stop)
		wg.Wait()
		work.end()
		halves.none(t, "transactions", rounds.Load())
		work.safe.none(t, "SET and GET", work.calls.Load())
		if kills == 0 {
			t.Error("nothing was killed")
		}
		t.Logf("%d connections killed; %d transactions; %s; %+v", kills, rounds.Load(), work.twice(rdb), rdb.RetryStats())
	})
}

// Every node is restarted, one after the other: a master first gives its place to
// its replica, as an operator does it.
func TestARollingRestartOfAllNodesCostsNothing(t *testing.T) {
	eachProgram(t, func(t *testing.T, program string) {
		c := redistest.StartCluster(t, program, 3, 1)
		rdb := guardedCluster(t, c.Options())
		work := startLoad(t, rdb, false, 4, tags(c, 0, 1, 2)...)
		time.Sleep(200 * time.Millisecond)
		begin := time.Now()
		for shard := range 3 {
			for _, r := range c.Replicas(shard) {
				r.Kill()
				r.Restart()
			}
			c.Settle()
			old := c.Master(shard)
			c.Failover(shard)
			old.Kill()
			old.Restart()
			c.Settle()
		}
		took := time.Since(begin)
		time.Sleep(200 * time.Millisecond)
		work.end()
		work.safe.none(t, "SET and GET", work.calls.Load())
		t.Logf("6 nodes in %v; %s", took.Round(time.Millisecond), work.twice(rdb))
	})
}

// do runs a command on a server that must work.
func do(t testing.TB, s *redistest.Server, args ...any) any {
	t.Helper()
	v, err := s.Admin().Do(context.Background(), args...).Result()
	if err != nil {
		t.Fatalf("%v on %s: %v", args, s.Addr(), err)
	}
	return v
}

// join adds an empty node to a cluster.
func join(t testing.TB, program string, c *redistest.Cluster) *redistest.Server {
	t.Helper()
	args := []string{"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "1000",
		"--cluster-allow-replica-migration", "no"}
	var s *redistest.Server
	if program == "valkey-server" {
		s = redistest.StartValkey(t, args...)
	} else {
		s = redistest.Start(t, args...)
	}
	do(t, s, "CLUSTER", "SET-CONFIG-EPOCH", 99)
	first := c.Nodes()[0]
	self := strings.Fields(do(t, first, "CLUSTER", "NODES").(string))
	for i, f := range self {
		if strings.HasPrefix(f, "myself") {
			addr, _, _ := strings.Cut(self[i-1], ",")
			addr, bus, _ := strings.Cut(addr, "@")
			host, port, _ := strings.Cut(addr, ":")
			do(t, s, "CLUSTER", "MEET", host, port, bus)
		}
	}
	all := append(c.Nodes(), s)
	redistest.Eventually(t, "all know the new node", 20*time.Second, func() bool {
		for _, n := range all {
			text := do(t, n, "CLUSTER", "NODES").(string)
			if strings.Count(text, "\n") != len(all) || strings.Contains(text, "handshake") || !strings.Contains(do(t, n, "CLUSTER", "INFO").(string), "cluster_state:ok") {
				return false
			}
		}
		return true
	})
	return s
}

// move moves a slot with all its keys.
func move(t testing.TB, slot int, from, to *redistest.Server, all []*redistest.Server) {
	t.Helper()
	fromID, toID := do(t, from, "CLUSTER", "MYID"), do(t, to, "CLUSTER", "MYID")
	do(t, to, "CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	do(t, from, "CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	host, port, _ := strings.Cut(to.Addr(), ":")
	for {
		keys := do(t, from, "CLUSTER", "GETKEYSINSLOT", slot, 50).([]any)
		if len(keys) == 0 {
			break
		}
		do(t, from, append([]any{"MIGRATE", host, port, "", 0, 5000, "KEYS"}, keys...)...)
	}
	do(t, to, "CLUSTER", "SETSLOT", slot, "NODE", toID)
	do(t, from, "CLUSTER", "SETSLOT", slot, "NODE", toID)
	for _, n := range all {
		if n != to && n != from {
			do(t, n, "CLUSTER", "SETSLOT", slot, "NODE", toID)
		}
	}
}

// A node joins, takes a slot under load, gives it back, and leaves.
func TestSlotsMoveUnderLoadAndNodesComeAndGo(t *testing.T) {
	eachProgram(t, func(t *testing.T, program string) {
		c := redistest.StartCluster(t, program, 3, 0)
		rdb := guardedCluster(t, c.Options(), managed.WithBlockingPool(2))
		prefixes := tags(c, 0, 1, 2)
		work := startLoad(t, rdb, false, 4, prefixes...)
		time.Sleep(300 * time.Millisecond)
		extra := join(t, program, c)
		all := append(c.Nodes(), extra)
		tag := prefixes[0]
		slot := int(do(t, extra, "CLUSTER", "KEYSLOT", tag).(int64))
		begin := time.Now()
		move(t, slot, c.Nodes()[0], extra, all)
		t.Logf("the slot moved in %v, with %d keys", time.Since(begin).Round(time.Millisecond), do(t, extra, "CLUSTER", "COUNTKEYSINSLOT", slot))
		onExtra := func() (n int) {
			for _, i := range rdb.Conns() {
				if i.Node == extra.Addr() {
					n++
				}
			}
			return n
		}
		redistest.Eventually(t, "the new node is used, by connections that are tracked", 5*time.Second, func() bool { return onExtra() > 0 })
		// What is being opened is seen by the server first, and so are the short-lived ones of maintenance.
		redistest.Eventually(t, "all connections that the new node sees are tracked", 5*time.Second, func() bool {
			return normals(t, extra) <= onExtra()+1 // the node that moved the slot keeps one for a while
		})
		redistest.Eventually(t, "a lease of a key that moved is on the new node", 3*time.Second, func() bool {
			conn, err := rdb.Acquire(t.Context(), tag)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Release()
			return rdb.Leases()[0].Conn.Node == extra.Addr()
		})
		if err := rdb.BLPop(t.Context(), 10*time.Millisecond, tag+"none").Err(); err != redis.Nil {
			t.Errorf("BLPOP on the new node: %v", err)
		}
		before := rdb.CloseReasons()[hooks.ReasonAge]
		rdb.SetMaxAge(300 * time.Millisecond)
		redistest.Eventually(t, "its connections end by age, as all others", 5*time.Second, func() bool { return rdb.CloseReasons()[hooks.ReasonAge] > before+8 })
		rdb.SetMaxAge(0)
		time.Sleep(200 * time.Millisecond)
		move(t, slot, extra, c.Nodes()[0], all)
		time.Sleep(300 * time.Millisecond)
		id := do(t, extra, "CLUSTER", "MYID")
		for _, n := range c.Nodes() {
			do(t, n, "CLUSTER", "FORGET", id)
		}
		if os.Getenv("CI") == "true" || *chaosFlag > 0 {
			// go-redis closes the client of a node a minute after it saw it last.
			rdb.ReloadState(t.Context())
			redistest.Eventually(t, "the node that left has taken its connections with it", 80*time.Second, func() bool {
				time.Sleep(100 * time.Millisecond)
				return onExtra() == 0 && normals(t, extra) == 0
			})
			redistest.Eventually(t, "and is known no more", 10*time.Second, func() bool {
				_, err := rdb.AcquireNode(t.Context(), extra.Addr())
				return err != nil && strings.Contains(err.Error(), "no node at")
			})
		}
		work.end()
		work.safe.none(t, "SET and GET", work.calls.Load())
		t.Log(work.twice(rdb))
	})
}

// An Acquire looks for the new master, as commands do.
func TestAnAcquireWaitsForAFailover(t *testing.T) {
	eachProgram(t, func(t *testing.T, program string) {
		c := redistest.StartCluster(t, program, 3, 1)
		rdb := guardedCluster(t, c.Options())
		key := c.Key(0, "k")
		if err := rdb.Set(t.Context(), key, "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		lost := c.Master(0)
		replicas := c.Replicas(0)
		lost.Kill()
		rdb.EvictIdle(t.Context())
		begin := time.Now()
		conn, err := rdb.Acquire(upTo(t, 20*time.Second), key)
		if err != nil {
			t.Fatal(err)
		}
		if node := rdb.Leases()[0].Conn.Node; node != replicas[0].Addr() {
			t.Errorf("the lease is on %s", node)
		}
		took := time.Since(begin)
		conn.Release()
		t.Logf("an Acquire during a failover took %v", took.Round(time.Millisecond))
		rdb.AcquireFunc(t.Context(), key, func(conn *managed.Conn) error {
			if err := conn.Set(t.Context(), key, "v", 0).Err(); err != nil {
				t.Error(err)
			}
			return nil
		})
	})
}

// While one of three masters is stopped, callers of the others notice nothing.
func TestAStoppedMasterDoesNotSlowCallsToTheOthers(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, "redis-server", 3, 0)
	for _, n := range c.Nodes() { // else all of them stop serving with it
		do(t, n, "CONFIG", "SET", "cluster-require-full-coverage", "no")
	}
	rdb := guardedCluster(t, c.Options())
	keys := []string{c.Key(0, "k"), c.Key(1, "k")}
	down := c.Key(2, "k")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 { // callers of the node that will be stopped
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				_ = rdb.Set(ctx, down, "v", 0).Err()
				cancel()
			}
		})
	}
	measure := func(d time.Duration) (p50, p99 time.Duration) {
		var mu sync.Mutex
		var took []time.Duration
		var ws sync.WaitGroup
		until := time.Now().Add(d)
		for g := range 4 {
			ws.Go(func() {
				var mine []time.Duration
				for time.Now().Before(until) {
					start := time.Now()
					if err := rdb.Get(context.Background(), keys[g%2]).Err(); err != nil && err != redis.Nil {
						t.Error(err)
					}
					mine = append(mine, time.Since(start))
					time.Sleep(500 * time.Microsecond)
				}
				mu.Lock()
				took = append(took, mine...)
				mu.Unlock()
			})
		}
		ws.Wait()
		slices.Sort(took)
		return took[len(took)/2], took[len(took)*99/100]
	}
	measure(300 * time.Millisecond)
	var ratios []float64
	for range 3 {
		c.Nodes()[2].Resume()
		time.Sleep(700 * time.Millisecond)
		up50, up99 := measure(time.Second)
		c.Nodes()[2].Pause()
		time.Sleep(100 * time.Millisecond)
		down50, down99 := measure(1500 * time.Millisecond)
		ratios = append(ratios, float64(down99)/float64(up99))
		t.Logf("all up: median %v, p99 %v; one stopped: median %v, p99 %v", up50, up99, down50, down99)
	}
	c.Nodes()[2].Resume()
	close(stop)
	wg.Wait()
	slices.Sort(ratios)
	t.Logf("p99 with one of three masters stopped / with all up: %.2f", ratios)
	if ratios[1] > 3 {
		t.Errorf("calls to the other masters are slower: p99 %.2f times", ratios)
	}
}
