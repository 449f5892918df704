package managed_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// reads are the ways to send a GET: what holds for a command holds for the others.
var reads = map[string]func(context.Context, redis.UniversalClient) error{
	"command": func(ctx context.Context, c redis.UniversalClient) error { return c.Get(ctx, "k").Err() },
	"pipeline": func(ctx context.Context, c redis.UniversalClient) error {
		_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); return nil })
		return err
	},
	"watch": func(ctx context.Context, c redis.UniversalClient) error {
		return c.Watch(ctx, func(tx *redis.Tx) error {
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); return nil })
			return err
		}, "k")
	},
	"watch without keys": func(ctx context.Context, c redis.UniversalClient) error {
		return c.Watch(ctx, func(tx *redis.Tx) error { return tx.Get(ctx, "k").Err() })
	},
	"conn": func(ctx context.Context, c redis.UniversalClient) error {
		var rdb *redis.Client
		switch c := c.(type) {
		case *managed.Client:
			rdb = c.Client
		case *redis.Client:
			rdb = c
		}
		conn := rdb.Conn()
		defer conn.Close()
		return conn.Get(ctx, "k").Err()
	},
}

func TestNothingFailsDuringResets(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	opt.PoolSize = 8
	c := client(t, opt)
	ctx := context.Background()
	require.NoError(t, c.Set(ctx, "k", "v", 0).Err())
	var over atomic.Bool
	var users sync.WaitGroup
	for name, use := range reads {
		if name == "conn" || name == "watch without keys" {
			continue // as in go-redis: it keeps the connection that it gets, and fails with it
		}
		users.Go(func() {
			for !over.Load() {
				if err := use(ctx, c); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
			}
		})
	}
	for begin := time.Now(); time.Since(begin) < 500*time.Millisecond; time.Sleep(time.Millisecond) {
		c.Reset(ctx)
		c.EvictIdle(ctx)
	}
	over.Store(true)
	users.Wait()
}

// As on a bare client: connections that died meanwhile are not given to anybody.
func TestAfterAnOutageNothingFailsAnyMoreAsOnABareClient(t *testing.T) {
	s := redistest.Start(t, "--save", "")
	for name, use := range reads {
		t.Run(name, func(t *testing.T) {
			opt := s.Options()
			opt.PoolSize = 20 // so many failed dials, and go-redis refuses everybody for a second
			bare, c := redis.NewClient(opt), client(t, opt)
			defer bare.Close()
			ctx := t.Context()
			require.NoError(t, bare.Set(ctx, "k", "v", 0).Err())
			for _, rdb := range []redis.UniversalClient{bare, c} {
				for range 3 {
					require.NoError(t, use(ctx, rdb))
				}
			}
			s.Kill()
			gaveUp, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			require.Error(t, use(gaveUp, bare))
			require.Error(t, use(gaveUp, c))
			cancel()
			s.Restart()
			require.NoError(t, s.Admin().Set(ctx, "k", "v", 0).Err())
			for _, rdb := range []redis.UniversalClient{bare, c} {
				for range 3 {
					require.NoError(t, use(ctx, rdb))
				}
			}
		})
	}
}

// Commands wait for a server that is unreachable. A Conn, and a Watch without keys, gives up with the
// connection that it does not get, as in go-redis; but if the server is known to be unreachable, it
// waits before that.
func TestInAnOutageWhatIsNotSentWaitsHoweverItIsSent(t *testing.T) {
	s := redistest.Start(t)
	require.NoError(t, s.Admin().Set(t.Context(), "k", "v", 0).Err())
	for name, use := range reads {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t, s.Addr())
			c := client(t, &redis.Options{Addr: d.addr, PoolSize: 2})
			require.NoError(t, use(t.Context(), c))
			d.shut()
			if strings.HasPrefix(name, "conn") || name == "watch without keys" {
				now, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				require.Error(t, c.Get(now, "k").Err(), "this finds it out")
				cancel()
			}
			defer time.AfterFunc(200*time.Millisecond, func() { d.open() }).Stop()
			ctx, cancel := context.WithTimeout(t.Context(), soon)
			defer cancel()
			require.NoError(t, use(ctx, c))
		})
	}
}
