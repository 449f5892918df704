package managed_test

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// situations are those in which nothing answers, for longer than the test lasts. inFlight: a
// command waits for a reply, if only in the handshake of its connection.
var situations = []struct {
	name     string
	inFlight bool
	make     func(t *testing.T, obey bool) redis.UniversalClient
}{
	{"every connection in use", false, func(t *testing.T, obey bool) redis.UniversalClient {
		opt := patient(redistest.Start(t).Addr(), obey)
		opt.PoolSize, opt.PipelinePoolSize = 1, -1
		c := client(t, opt)
		conn, err := c.Acquire(t.Context())
		require.NoError(t, err)
		t.Cleanup(conn.Release)
		return c
	}},
	{"dialing a black hole", false, func(t *testing.T, obey bool) redis.UniversalClient {
		opt := patient("127.0.0.1:1", obey)
		opt.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return client(t, opt)
	}},
	{"TLS handshake", false, func(t *testing.T, obey bool) redis.UniversalClient {
		opt := patient(redistest.Mute(t), obey)
		opt.TLSConfig = &tls.Config{InsecureSkipVerify: true}
		return client(t, opt)
	}},
	{"handshake", true, func(t *testing.T, obey bool) redis.UniversalClient {
		return client(t, patient(redistest.Mute(t), obey))
	}},
	{"reply", true, func(t *testing.T, obey bool) redis.UniversalClient {
		p := redistest.NewProxy(t, redistest.Start(t).Addr())
		c := client(t, patient(p.Addr(), obey))
		burst(t, c, 4)
		p.Stall(true)
		return c
	}},
	{"silent Sentinel", false, func(t *testing.T, obey bool) redis.UniversalClient {
		return managed.NewFailoverClient(patientFailover(redistest.Mute(t), obey), managed.WithLogger(quiet))
	}},
	{"silent Sentinel, reads from replicas", false, func(t *testing.T, obey bool) redis.UniversalClient {
		return managed.NewFailoverClusterClient(patientFailover(redistest.Mute(t), obey), managed.WithLogger(quiet))
	}},
	{"slot map from silent nodes", false, func(t *testing.T, obey bool) redis.UniversalClient {
		return managed.NewClusterClient(&redis.ClusterOptions{Addrs: []string{redistest.Mute(t)}, ReadTimeout: time.Minute, WriteTimeout: time.Minute,
			ContextTimeoutEnabled: obey}, managed.WithLogger(quiet))
	}},
	{"silent shard", true, func(t *testing.T, obey bool) redis.UniversalClient {
		return managed.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": redistest.Mute(t)}, ReadTimeout: time.Minute, WriteTimeout: time.Minute,
			ContextTimeoutEnabled: obey}, managed.WithLogger(quiet))
	}},
}

func patient(addr string, obey bool) *redis.Options {
	return &redis.Options{Addr: addr, ReadTimeout: time.Minute, WriteTimeout: time.Minute, DialTimeout: time.Minute, PoolTimeout: time.Minute, ContextTimeoutEnabled: obey}
}

func patientFailover(addr string, obey bool) *redis.FailoverOptions {
	return &redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{addr}, ReadTimeout: time.Minute, WriteTimeout: time.Minute, DialTimeout: time.Minute,
		ContextTimeoutEnabled: obey}
}

// endingCalls are the calls whose ctx ends. plain ones wait in flight as go-redis does: they end
// with a deadline, if ContextTimeoutEnabled is set.
var endingCalls = []struct {
	name  string
	plain bool
	call  func(ctx context.Context, c redis.UniversalClient)
}{
	{"GET", true, func(ctx context.Context, c redis.UniversalClient) { c.Get(ctx, "k") }},
	{"pipeline", true, func(ctx context.Context, c redis.UniversalClient) {
		_, _ = c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); return nil })
	}},
	{"transaction", true, func(ctx context.Context, c redis.UniversalClient) {
		_, _ = c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); return nil })
	}},
	{"Watch", true, func(ctx context.Context, c redis.UniversalClient) {
		_ = c.Watch(ctx, func(*redis.Tx) error { return nil }, "k")
	}},
	{"Conn", true, func(ctx context.Context, c redis.UniversalClient) {
		if c, ok := c.(*managed.Client); ok {
			conn := c.Conn()
			conn.Get(ctx, "k")
			_ = conn.Close()
		}
	}},
	{"clone", true, func(ctx context.Context, c redis.UniversalClient) {
		if c, ok := c.(*managed.Client); ok {
			c.WithTimeout(2*time.Minute).Get(ctx, "k")
		}
	}},
	{"Adaptive", true, func(ctx context.Context, c redis.UniversalClient) {
		switch c := c.(type) {
		case *managed.Client:
			c.Adaptive().Get(ctx, "k")
		case *managed.ClusterClient:
			c.Adaptive().Get(ctx, "k")
		}
	}},
	{"Acquire", false, func(ctx context.Context, c redis.UniversalClient) {
		var conn *managed.Conn
		switch c := c.(type) {
		case *managed.Client:
			conn, _ = c.Acquire(ctx)
		case *managed.ClusterClient:
			conn, _ = c.Acquire(ctx, "k")
		case *managed.Ring:
			conn, _ = c.Acquire(ctx, "k")
		}
		if conn != nil {
			conn.Get(ctx, "k")
			conn.Release()
		}
	}},
	{"Warm, Reset, EvictIdle", false, func(ctx context.Context, c redis.UniversalClient) {
		m := c.(interface {
			Warm(context.Context, int) (int, error)
			Reset(context.Context) int
			EvictIdle(context.Context) int
		})
		_, _ = m.Warm(ctx, 2)
		m.Reset(ctx)
		m.EvictIdle(ctx)
	}},
}

func TestEachCallEndsWithItsCtxButThoseThatWaitForAReplyAsInGoRedis(t *testing.T) {
	t.Parallel()
	for _, s := range situations {
		for name, obey := range map[string]bool{"": false, ", ContextTimeoutEnabled": true} {
			t.Run(s.name+name, func(t *testing.T) {
				t.Parallel()
				c := s.make(t, obey)
				var calls sync.WaitGroup
				for _, call := range endingCalls {
					for _, end := range []string{"deadline", "cancel"} {
						if call.plain && s.inFlight && (!obey || end == "cancel") {
							continue // it ends after ReadTimeout
						}
						calls.Go(func() {
							ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
							if end == "cancel" {
								ctx, cancel = context.WithCancel(context.Background())
								time.AfterFunc(100*time.Millisecond, cancel)
							}
							defer cancel()
							done := make(chan struct{})
							go func() { defer close(done); call.call(ctx, c) }()
							<-ctx.Done()
							start := time.Now()
							select {
							case <-done:
								t.Logf("%s, %s: %v late", call.name, end, time.Since(start).Round(time.Millisecond))
							case <-time.After(soon):
								assert.Fail(t, "it outlives its ctx", "%s, %s", call.name, end)
							}
						})
					}
				}
				calls.Wait()
				within(t, "Close has ended", func() { _ = c.Close() })
			})
		}
	}
}
