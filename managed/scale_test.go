package managed_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// rejected returns how many connections the server has rejected for maxclients.
func rejected(t testing.TB, s *redistest.Server) int {
	t.Helper()
	text, err := s.Admin().Info(t.Context(), "stats").Result()
	require.NoError(t, err)
	_, text, _ = strings.Cut(text, "rejected_connections:")
	text, _, _ = strings.Cut(text, "\r\n")
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// While a server rejects all connections, one dial at a time probes whether it still does,
// however many callers wait.
func TestARefusingServerSeesNoMoreRejectedDialsThanFromABareClient(t *testing.T) {
	t.Parallel()
	count := func(connect func(*redis.Options) redis.UniversalClient) int {
		s := redistest.Start(t, "--maxclients", "8")
		require.NoError(t, s.Admin().Ping(t.Context()).Err())
		full := redis.NewClient(s.Options())
		defer full.Close()
		for range 8 { // the last one finds no room, as the admin has a connection
			if conn := full.Conn(); conn.Ping(t.Context()).Err() == nil {
				defer conn.Close()
			}
		}
		c := connect(s.Options())
		defer c.Close()
		before := rejected(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				for ctx.Err() == nil {
					_ = c.Get(ctx, "k").Err()
				}
			})
		}
		all.Wait()
		once, end := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer end()
		err := c.Incr(once, "k").Err()
		if _, ours := c.(*managed.Client); ours {
			require.True(t, redis.IsMaxClientsError(err), "%v", err)
			require.Equal(t, retry.NotSent, retry.OutcomeOf(err))
		}
		return rejected(t, s) - before
	}
	ours := count(func(o *redis.Options) redis.UniversalClient { return client(t, o) })
	bare := count(func(o *redis.Options) redis.UniversalClient { return redis.NewClient(o) })
	t.Logf("rejected dials in 3 s: %d, from a bare client %d", ours, bare)
	require.LessOrEqual(t, ours, bare)
}

// BenchmarkWaiting is what many callers that wait for one of ten connections cost. In cold, the
// connections are still to be opened.
//
//	go test -run - -bench Waiting -benchtime 1x -count 5 ./managed
func BenchmarkWaiting(b *testing.B) {
	const callers = 30_000
	s := redistest.Start(b)
	opt := s.Options()
	opt.PoolSize, opt.PoolTimeout = 10, time.Minute
	ready := opt.PoolSize
	run := func(b *testing.B, c interface{ Conn() *redis.Conn }, use func(context.Context) error) {
		var open []*redis.Conn
		for range ready {
			conn := c.Conn()
			if err := conn.Ping(b.Context()).Err(); err != nil {
				b.Fatal(err)
			}
			open = append(open, conn)
		}
		for _, conn := range open {
			_ = conn.Close()
		}
		b.ReportAllocs()
		for b.Loop() {
			var all sync.WaitGroup
			for range callers {
				all.Go(func() {
					if err := use(b.Context()); err != nil {
						b.Error(err)
					}
				})
			}
			all.Wait()
		}
	}
	bare := func(b *testing.B) {
		c := redis.NewClient(opt)
		defer c.Close()
		run(b, c, func(ctx context.Context) error {
			conn := c.Conn()
			defer conn.Close()
			return conn.Ping(ctx).Err()
		})
	}
	ours := func(b *testing.B) {
		c := managed.NewClient(opt)
		defer c.Close()
		run(b, c, func(ctx context.Context) error {
			conn, err := c.Acquire(ctx)
			if err != nil {
				return err
			}
			defer conn.Release()
			return conn.Ping(ctx).Err()
		})
	}
	b.Run("bare", bare)
	b.Run("managed", ours)
	ready = 0
	b.Run("cold/bare", bare)
	b.Run("cold/managed", ours)
}
