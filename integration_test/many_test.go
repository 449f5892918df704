package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// programs are the servers that clusters, rings and Sentinel sets are made of.
var programs = []string{"redis-server", "valkey-server"}

// eachProgram runs a test with each of them, side by side.
func eachProgram(t *testing.T, f func(t *testing.T, program string)) {
	t.Parallel()
	for _, program := range programs {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			f(t, program)
		})
	}
}

// guardedCluster is a managed cluster client that is closed with the test.
func guardedCluster(t testing.TB, opt *redis.ClusterOptions, opts ...managed.Option) *managed.ClusterClient {
	t.Helper()
	c, err := managed.NewCluster(opt, append([]managed.Option{managed.WithLogger(discard)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// load is steady work on a client: writes that must not happen twice, and safe
// commands that must not fail.
type load struct {
	t      testing.TB
	book   *ledger
	safe   few
	calls  atomic.Int64
	slow   atomic.Int64 // ns, the slowest safe command
	stop   chan struct{}
	lossy  bool // the servers may lose writes
	wg     sync.WaitGroup
	marked atomic.Int64 // UnixNano of a mark, see after

	mu     sync.Mutex
	firsts []time.Duration // each worker's first success after the mark
}

// startLoad has n workers for each of the prefixes, all of whose keys a worker
// makes of its prefix: "{tag}".
func startLoad(t testing.TB, rdb redis.UniversalClient, lossy bool, n int, prefixes ...string) *load {
	l := &load{t: t, lossy: lossy, book: newLedger(), stop: make(chan struct{})}
	for _, prefix := range prefixes {
		for g := range n {
			l.wg.Go(func() { l.work(rdb, prefix, g) })
		}
	}
	return l
}

func (l *load) work(rdb redis.UniversalClient, prefix string, g int) {
	own := fmt.Sprintf("%sown:%d", prefix, g)
	seen := int64(0)
	for i := 0; ; i++ {
		select {
		case <-l.stop:
			return
		case <-time.After(time.Millisecond):
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		key := fmt.Sprintf("%sn:%d:%d", prefix, g, i)
		if i%4 == 0 { // a pipeline with a write that must not happen twice
			var incr *redis.IntCmd
			_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, own+":p", key, 0)
				incr = p.Incr(ctx, key)
				p.Get(ctx, own+":p")
				return nil
			})
			l.book.note(key, incr.Err())
		} else {
			l.book.note(key, rdb.Incr(ctx, key).Err())
		}
		start := time.Now()
		err := rdb.Set(ctx, own, key, 0).Err()
		l.safe.add(err)
		v, gerr := rdb.Get(ctx, own).Result()
		if l.lossy && gerr == redis.Nil {
			gerr = nil
		}
		if l.safe.add(gerr); gerr == nil && err == nil && v != key && !l.lossy {
			l.safe.add(fmt.Errorf("GET after SET is %q, not %q", v, key))
		}
		cancel()
		l.calls.Add(2)
		if took := int64(redistest.Took(start)); took > l.slow.Load() {
			l.slow.Store(took)
		}
		if at := l.marked.Load(); at > 0 && seen != at && err == nil {
			seen = at
			l.mu.Lock()
			l.firsts = append(l.firsts, time.Since(time.Unix(0, at)))
			l.mu.Unlock()
		}
	}
}

// mark starts the clock of the next recovery.
func (l *load) mark(at time.Time) {
	l.mu.Lock()
	l.firsts = nil
	l.mu.Unlock()
	l.marked.Store(at.UnixNano())
}

// recovered waits until n workers have had a success since the mark, and returns
// how long that took the median one and the last, without the time in which this
// process stood still.
func (l *load) recovered(n int, limit time.Duration) (median, last time.Duration) {
	l.t.Helper()
	redistest.Eventually(l.t, fmt.Sprintf("%d workers are served again", n), limit, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.firsts) >= n
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.firsts)
	stalled := redistest.Stalled(time.Unix(0, l.marked.Load()))
	return max(0, l.firsts[len(l.firsts)/2]-stalled), max(0, l.firsts[len(l.firsts)-1]-stalled)
}

// end stops the workers. No safe command may have taken longer than an outage.
func (l *load) end() {
	l.t.Helper()
	close(l.stop)
	l.wg.Wait()
	if slow := time.Duration(l.slow.Load()); slow > 10*time.Second {
		l.t.Errorf("a SET and a GET took %v", slow)
	}
}

// twice looks for writes that happened twice. A failover may lose writes that
// were acknowledged, which is told here but is no fault of the client's.
func (l *load) twice(ask redis.UniversalClient) string {
	l.t.Helper()
	l.book.mu.Lock()
	defer l.book.mu.Unlock()
	lost, happened, wrong := 0, 0, 0
	count := func(keys map[string]bool, sure bool) {
		var list []string
		for k := range keys {
			list = append(list, k)
		}
		for part := range slices.Chunk(list, 500) {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			cmds, _ := ask.Pipelined(ctx, func(p redis.Pipeliner) error {
				for _, k := range part {
					p.Get(ctx, k)
				}
				return nil
			})
			cancel()
			for i, cmd := range cmds {
				switch v, err := cmd.(*redis.StringCmd).Result(); {
				case errors.Is(err, redis.Nil) && sure:
					if lost++; lost <= 5 && !l.lossy {
						l.t.Errorf("%s was acknowledged, and is lost", part[i])
					}
				case errors.Is(err, redis.Nil):
				case err != nil:
					l.t.Fatalf("GET %s: %v", part[i], err)
				case v != "1":
					if wrong++; wrong <= 5 {
						l.t.Errorf("%s happened %s times", part[i], v)
					}
				case !sure:
					happened++
				}
			}
		}
	}
	count(l.book.certain, true)
	count(l.book.maybe, false)
	never := map[string]bool{}
	for k := range l.book.never {
		never[k] = true
	}
	before := happened
	count(never, false)
	if happened > before {
		l.t.Errorf("%d writes happened although their errors say that they did not", happened-before)
	}
	if wrong > 5 {
		l.t.Errorf("and %d more", wrong-5)
	}
	if lost > 5 && !l.lossy {
		l.t.Errorf("and %d more", lost-5)
	}
	for k, err := range l.book.never {
		l.t.Errorf("%s: neither success nor an unknown outcome: %v", k, err)
		break
	}
	return fmt.Sprintf("%d writes, %d unknown outcomes of which %d had happened, %d acknowledged ones lost by the servers, %d safe commands, slowest pair %v",
		l.book.len(), len(l.book.maybe), happened, lost, l.calls.Load(), time.Duration(l.slow.Load()).Round(time.Millisecond))
}

// normals counts the connections of a client on servers that answer, as they
// say; replication links and Sentinels are none.
func normals(t testing.TB, servers ...*redistest.Server) int {
	t.Helper()
	n := 0
	for _, s := range servers {
		if !s.Running() {
			continue
		}
		for _, c := range s.ClientList(t) {
			if !strings.ContainsAny(c.Flags, "MS") {
				n++
			}
		}
	}
	return n
}

// tags are prefixes of keys, one for each shard.
func tags(c *redistest.Cluster, shards ...int) []string {
	var out []string
	for _, s := range shards {
		out = append(out, c.Key(s, ""))
	}
	return out
}

// nextTakesWrites returns when a replica of the shard takes writes, which is the
// servers' own failover, asking it all the time.
func nextTakesWrites(t testing.TB, replicas []*redistest.Server, key string) time.Time {
	t.Helper()
	var at time.Time
	redistest.Eventually(t, "a replica has taken over", 30*time.Second, func() bool {
		for _, r := range replicas {
			if r.Running() && r.Admin().Do(context.Background(), "SET", key, "x").Err() == nil {
				at = time.Now()
				return true
			}
		}
		return false
	})
	return at
}

// counter counts from any goroutine.
type counter struct{ v atomic.Int64 }

func (c *counter) add()     { c.v.Add(1) }
func (c *counter) n() int64 { return c.v.Load() }

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

func dialCounter(n *counter, next dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		n.add()
		return next(ctx, network, addr)
	}
}

// countingHook is a user's own hook.
type countingHook struct{ n *counter }

func (h countingHook) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h countingHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { h.n.add(); return next(ctx, cmd) }
}
func (h countingHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { h.n.add(); return next(ctx, cmds) }
}

// collect runs the collector, and lets finalizers run.
func collect() {
	runtime.GC()
	time.Sleep(time.Millisecond)
}

// failures is how many safe commands have failed so far.
func (l *load) failures() int {
	l.safe.mu.Lock()
	defer l.safe.mu.Unlock()
	return l.safe.n
}
