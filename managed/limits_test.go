//go:build unix

package managed_test

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// files makes room for n open files; it skips the test where that is not allowed.
func files(t testing.TB, n uint64) {
	t.Helper()
	var lim syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim))
	if lim.Cur >= n {
		return
	}
	old := lim
	lim.Cur, lim.Max = n, max(lim.Max, n)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		redistest.Missing(t, fmt.Sprintf("%d open files are needed, %d allowed: %v", n, old.Max, err))
	}
	t.Cleanup(func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old) })
}

// cpu is the processor time this process has used.
func cpu(t testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The bounds are wide, for machines that do other things too. The numbers that
// count are logged.
func TestTenThousandIdleConnectionsCostLittle(t *testing.T) {
	n := 10000
	if raced {
		n = 1000
	}
	files(t, 12000)
	s := redistest.Start(t, "--maxclients", "11000")
	opt := s.Options()
	opt.PoolSize, opt.PoolTimeout = n, time.Minute
	opt.ReadBufferSize, opt.WriteBufferSize = 512, 512
	c := client(t, opt, managed.WithMaxIdle(0), managed.WithHeartbeat(0), managed.WithFailureDetection(managed.FailureDetection{Off: true}))
	c.Unattended()
	began := time.Now()
	burst(t, c, n)
	t.Logf("%d connections in %v", n, time.Since(began))
	c.Round()

	used := cpu(t)
	for range n {
		_, removed, err := c.Node().Visit(hooks.PoolMain, 0)
		require.NoError(t, err)
		require.False(t, removed)
	}
	used = cpu(t) - used
	t.Logf("a visit to each of %d: %v of CPU", n, used)
	require.Less(t, used, time.Second)

	var looks []time.Duration
	for range 20 {
		took, _ := c.Round()
		looks = append(looks, took)
	}
	slices.Sort(looks)
	t.Logf("a look at %d with nothing to do: median %v, most %v", n, looks[10], looks[19])

	// All get a PING, in ticks.
	pings := calls(t, s, "ping")
	c.Node().Tracker().Range(func(conn *conntrack.Conn) bool { conn.Validate(); return true })
	used = cpu(t)
	began = time.Now()
	var ticks []time.Duration
	for calls(t, s, "ping") < pings+n && time.Since(began) < 30*time.Second {
		took, next := c.Round()
		ticks = append(ticks, took)
		time.Sleep(min(next, 2*time.Millisecond))
	}
	used = cpu(t) - used
	slices.Sort(ticks)
	t.Logf("a PING to each of %d: %v of CPU, %d ticks within %v: median %v, 99 %% within %v, most %v", n, used, len(ticks), time.Since(began),
		ticks[len(ticks)/2], ticks[len(ticks)*99/100], ticks[len(ticks)-1])
	require.Less(t, ticks[len(ticks)/2], 20*time.Millisecond)

	began = time.Now()
	require.Equal(t, n, c.Reset(t.Context()))
	t.Logf("Reset took %v", time.Since(began))
	require.Empty(t, c.Conns())
}

// With the defaults nothing is due while nobody calls: the clock of the process
// says what that takes.
func TestTenThousandIdleConnectionsRest(t *testing.T) {
	n, d := 10000, 2*time.Second
	if raced {
		n = 1000
	}
	files(t, 12000)
	s := redistest.Start(t, "--maxclients", "11000")
	opt := s.Options()
	opt.PoolSize, opt.PoolTimeout = n, time.Minute
	opt.ReadBufferSize, opt.WriteBufferSize = 512, 512
	c := client(t, opt)
	burst(t, c, n)
	time.Sleep(time.Second) // what is learned of the server
	began, used := time.Now(), cpu(t)
	time.Sleep(d)
	used = cpu(t) - used
	share := float64(used) / float64(time.Since(began))
	t.Logf("%d idle connections with the defaults: %v of CPU in %v, %.2f %% of a core", n, used, d, 100*share)
	require.Less(t, share, 0.2)
}

// BenchmarkARingOfManyShards is the CPU time that a ring of 200 shards with ten connections each
// takes at 200 calls a second, its upkeep included.
//
//	go test -run - -bench ManyShards -benchtime 2000x -count 3 ./managed
func BenchmarkARingOfManyShards(b *testing.B) {
	const shards, conns = 200, 10
	files(b, 3*shards*conns)
	s := redistest.Start(b, "--maxclients", "11000")
	for _, who := range []string{"bare", "managed"} {
		b.Run(who, func(b *testing.B) {
			opt := &redis.RingOptions{Addrs: map[string]string{}, PoolSize: conns, MinIdleConns: conns, PipelinePoolSize: -1}
			for i := range shards {
				opt.Addrs[fmt.Sprint("shard ", i)] = s.Addr()
			}
			var rdb redis.UniversalClient
			var open func() uint32
			if who == "bare" {
				c := redis.NewRing(opt)
				rdb, open = c, func() uint32 { return c.PoolStats().TotalConns }
			} else {
				c := managed.NewRing(opt, managed.WithLogger(quiet))
				rdb, open = c, func() uint32 { return c.PoolStats().TotalConns }
			}
			defer rdb.Close()
			for i := range 20 * shards {
				require.NoError(b, rdb.Set(b.Context(), fmt.Sprint("key ", i), i, 0).Err())
			}
			redistest.Eventually(b, "all connections are open", soon, func() bool { return open() >= shards*conns })
			pace := time.NewTicker(5 * time.Millisecond)
			defer pace.Stop()
			used, i := cpu(b), 0
			for b.Loop() {
				<-pace.C
				_ = rdb.Set(b.Context(), fmt.Sprint("key ", i), i, 0).Err()
				i++
			}
			b.ReportMetric(float64((cpu(b)-used).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// BenchmarkAFailingTryAcquire is a TryAcquire on a pool whose 500 connections are all leased. The
// holders are named only when the text of the error is asked for.
func BenchmarkAFailingTryAcquire(b *testing.B) {
	const leases = 500
	opt := redistest.Start(b).Options()
	opt.PoolSize = leases
	c := managed.NewClient(opt, managed.WithLogger(quiet))
	defer c.Close()
	for range leases {
		conn, err := c.Acquire(b.Context())
		require.NoError(b, err)
		defer conn.Release()
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.TryAcquire(b.Context()); err == nil {
			b.Fatal("it was given a connection")
		}
	}
}
