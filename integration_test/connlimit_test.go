package integration_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
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

// census counts the connections that servers see at one moment at least: those
// that are there in two looks at all of them were there between the looks.
func census(t testing.TB, servers []*redistest.Server) int {
	look := func() map[string]bool {
		seen := map[string]bool{}
		for _, s := range servers {
			for _, c := range s.ClientList(t) {
				if !strings.ContainsAny(c.Flags, "MS") {
					seen[fmt.Sprint(s.Addr(), c.ID)] = true
				}
			}
		}
		return seen
	}
	first, n := look(), 0
	for id := range look() {
		if first[id] {
			n++
		}
	}
	return n
}

// openSockets counts what a dialer has open, and the most there ever were.
type openSockets struct{ now, most atomic.Int64 }

func (o *openSockets) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := redis.NewDialer(&redis.Options{DialTimeout: 5 * time.Second})(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	n := o.now.Add(1)
	for old := o.most.Load(); n > old && !o.most.CompareAndSwap(old, n); old = o.most.Load() {
	}
	return &countedSocket{TCPConn: c.(*net.TCPConn), o: o}, nil
}

type countedSocket struct {
	*net.TCPConn
	o    *openSockets
	once sync.Once
}

func (c *countedSocket) Close() error {
	err := c.TCPConn.Close()
	c.once.Do(func() { c.o.now.Add(-1) })
	return err
}

// With one place for each pool and a few more, all callers of all nodes, pipelines
// too, are served without an error, and no server ever sees more.
func TestNoMoreConnectionsThanWithConnLimitAreEverOpen(t *testing.T) {
	eachProgram(t, func(t *testing.T, program string) {
		const limit = 8
		c := redistest.StartCluster(t, program, 3, 0)
		var sockets openSockets
		opt := c.Options()
		opt.Dialer = sockets.dial
		rdb := guardedCluster(t, opt, managed.WithConnLimit(limit))
		ctx := upTo(t, 30*time.Second)
		until := time.Now().Add(lasting(3*time.Second, 10*time.Second))
		var safe few
		var calls [3]atomic.Int64
		var slowest atomic.Int64
		var wg sync.WaitGroup
		for shard := range 3 {
			key := c.Key(shard, "k")
			for g := range 10 {
				wg.Go(func() {
					for time.Now().Before(until) {
						start := time.Now()
						if g%3 == 0 {
							_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
								p.Set(ctx, key, g, 0)
								p.Get(ctx, key)
								return nil
							})
							safe.add(err)
						} else {
							safe.add(rdb.Set(ctx, key, g, 0).Err())
						}
						calls[shard].Add(1)
						if took := int64(time.Since(start)); took > slowest.Load() {
							slowest.Store(took)
						}
					}
				})
			}
		}
		most, over, worst := 0, 0, 0 // a server may need a moment to notice that one was closed
		everyTick(10*time.Millisecond, time.Until(until), &wg, func() {
			n := census(t, c.Nodes())
			if most = max(most, n); n > limit {
				over++
			} else {
				over = 0
			}
			worst = max(worst, over)
		})
		safe.none(t, "SET and pipelines", calls[0].Load()+calls[1].Load()+calls[2].Load())
		t.Logf("limit %d: servers saw at most %d, sockets open at most %d; calls of the shards %d, %d, %d, the slowest took %v; ends %v",
			limit, most, sockets.most.Load(), calls[0].Load(), calls[1].Load(), calls[2].Load(), time.Duration(slowest.Load()).Round(time.Millisecond), rdb.CloseReasons())
		if worst > 3 || sockets.most.Load() > limit {
			t.Error("more than the limit")
		}
		if most < limit-3 {
			t.Errorf("only %d connections were open: nothing was limited", most)
		}
	})
}

// Sentinels are no part of the budget, so that a full one cannot keep the client
// from finding its master.
func TestTheConnLimitCountsNoSentinel(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinel(t, "redis-server")
	for kind, make := range sentinelClients {
		opt := set.Options()
		opt.ClientName = kind
		rdb := make(t, opt, managed.WithConnLimit(2))
		ctx := upTo(t, 10*time.Second)
		var safe few
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				for range 50 {
					safe.add(rdb.Set(ctx, kind, "v", 0).Err())
				}
			})
		}
		wg.Wait()
		safe.none(t, kind, 300)
		if n := named(t, set.Master(), kind); n > 2 {
			t.Errorf("%s: %d connections to the master", kind, n)
		}
		_ = rdb.Close()
	}
}

func TestPoolsThatDoNotFitAreWarnedOfOnce(t *testing.T) {
	eachProgram(t, func(t *testing.T, program string) {
		c := redistest.StartCluster(t, program, 3, 0)
		var log redistest.Log
		handler := slog.New(slog.NewTextHandler(&log, nil))
		warned := func(what string) int { return strings.Count(log.String(), what) }

		rdb := guardedCluster(t, c.Options(), managed.WithConnLimit(20), managed.WithLogger(handler))
		for shard := range 3 {
			if err := rdb.Set(t.Context(), c.Key(shard, "k"), "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if warned("do not fit into WithConnLimit") != 1 {
			t.Errorf("the limit is too small, and the log says: %s", log.String())
		}
		_ = rdb.Close()

		// maxclients of the servers, which they may be asked for.
		for _, n := range c.Nodes() {
			if err := n.Admin().ConfigSet(t.Context(), "maxclients", "25").Err(); err != nil {
				t.Fatal(err)
			}
		}
		opt := c.Options()
		opt.PoolSize = 30
		rdb = guardedCluster(t, opt, managed.WithLogger(handler))
		redistest.Eventually(t, "the log warns of maxclients", 5*time.Second, func() bool {
			for shard := range 3 {
				if err := rdb.Set(t.Context(), c.Key(shard, "k"), "v", 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			return warned("maxclients") > 0
		})
		_ = rdb.Close()

		opt.PoolSize = 5
		opt.PipelinePoolSize = 5
		before := log.String()
		rdb = guardedCluster(t, opt, managed.WithLogger(handler), managed.WithConnLimit(100))
		for range 20 {
			rdb.Set(t.Context(), c.Key(0, "k"), "v", 0)
			time.Sleep(10 * time.Millisecond)
		}
		_ = rdb.Close()
		if log.String() != before {
			t.Errorf("everything fits, and the log says: %s", strings.TrimPrefix(log.String(), before))
		}

		single := managed.NewClient(&redis.Options{Addr: c.Nodes()[0].Addr(), PoolSize: 10}, managed.WithConnLimit(12), managed.WithLogger(handler))
		defer single.Close()
		if n := warned("do not fit into WithConnLimit"); n != 2 {
			t.Errorf("a single client whose pools do not fit: %d warnings in all: %s", n, log.String())
		}
	})
}

// The limit holds while the pools of a server that was down and came back are
// filled again, and the witness of half-open connections is under it, too.
func TestTheConnLimitHoldsThroughAnOutage(t *testing.T) {
	t.Parallel()
	const limit = 4
	s := redistest.Start(t)
	var sockets openSockets
	opt := s.Options()
	opt.Dialer = sockets.dial
	rdb := guarded(t, opt, managed.WithConnLimit(limit))
	ctx := upTo(t, 30*time.Second)
	var safe few
	var calls atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for g := range 12 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				safe.add(rdb.Set(ctx, fmt.Sprint("k", g), "v", 0).Err())
				calls.Add(1)
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	s.Pause()
	time.Sleep(1500 * time.Millisecond)
	s.Resume()
	time.Sleep(200 * time.Millisecond)
	s.Kill()
	time.Sleep(300 * time.Millisecond)
	s.Restart()
	time.Sleep(300 * time.Millisecond)
	close(stop)
	wg.Wait()
	safe.none(t, "SET", calls.Load())
	if n := sockets.most.Load(); n > limit {
		t.Errorf("%d sockets were open, the limit is %d", n, limit)
	}
	t.Logf("%d calls, at most %d sockets, ends %v", calls.Load(), sockets.most.Load(), rdb.CloseReasons()[hooks.ReasonSuspected])
}

// What was dialed ahead and never used holds a place like any other, and gives
// it up like any other, in both pools.
func TestConnectionsThatWereNeverUsedGiveTheirPlaceUp(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.MinIdleConns = 3
	rdb := guarded(t, opt, managed.WithConnLimit(4))
	ctx := upTo(t, 30*time.Second)
	for end := time.Now().Add(10 * time.Second); len(rdb.Conns()) < 3 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	start := time.Now()
	if _, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error { return p.Set(ctx, "k", "v", 0).Err() }); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 2*time.Second { // DialTimeout is 5s
		t.Errorf("the pipeline waited %v for a place", took)
	}
}
