package peers_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"testing"
	"time"

	redigo "github.com/gomodule/redigo/redis"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// replyLimit is how long a reply may take. It is given to every client that has
// a setting for it, so that rounds stay short; all else is at its default.
const replyLimit = time.Second

// client is what the rounds need of a client.
type client interface {
	incr(ctx context.Context, key string) error
	set(ctx context.Context, key, val string) error
	get(ctx context.Context, key string) error
	close()
}

// subject is one line of each table.
type subject struct {
	name string
	open func(t *testing.T, addr string) client
	// perhaps: the error says that the command may have been carried out. Nil if
	// the client's errors do not tell.
	perhaps func(error) bool
}

func subjects() []subject {
	return []subject{
		{"go-redis", func(_ *testing.T, addr string) client { return bare(addr) }, nil},
		{"go-redis AutoPipeline", func(t *testing.T, addr string) client {
			c := bare(addr)
			ap, err := c.c.AutoPipeline()
			if err != nil {
				t.Fatal(err)
			}
			return batched{c, ap}
		}, nil},
		{"rueidis", func(t *testing.T, addr string) client {
			c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, ConnWriteTimeout: replyLimit})
			if err != nil {
				t.Fatal(err)
			}
			return rueidisClient{c}
		}, nil},
		{"redigo", func(_ *testing.T, addr string) client {
			n := 10 * runtime.GOMAXPROCS(0) // go-redis's default
			return redigoClient{&redigo.Pool{MaxIdle: n, MaxActive: n, Wait: true, DialContext: func(ctx context.Context) (redigo.Conn, error) {
				return redigo.DialContext(ctx, "tcp", addr, redigo.DialReadTimeout(replyLimit), redigo.DialWriteTimeout(replyLimit))
			}}}
		}, nil},
		{"lifeguard (managed)", func(t *testing.T, addr string) client {
			c, err := managed.New(&redis.Options{Addr: addr, ReadTimeout: replyLimit}, managed.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
			if err != nil {
				t.Fatal(err)
			}
			return commander{c, func() { _ = c.Close() }}
		}, func(err error) bool { return errors.Is(err, retry.ErrUnknownOutcome) }},
		{"lifeguard (Adaptive)", func(t *testing.T, addr string) client {
			c, err := managed.New(&redis.Options{Addr: addr, ReadTimeout: replyLimit}, managed.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
			if err != nil {
				t.Fatal(err)
			}
			return commander{c.Adaptive(), func() { _ = c.Close() }}
		}, func(err error) bool { return errors.Is(err, retry.ErrUnknownOutcome) }},
	}
}

type commander struct {
	c interface {
		Incr(ctx context.Context, key string) *redis.IntCmd
		Set(ctx context.Context, key string, value any, expiration time.Duration) *redis.StatusCmd
		Get(ctx context.Context, key string) *redis.StringCmd
	}
	end func()
}

func (c commander) incr(ctx context.Context, key string) error { return c.c.Incr(ctx, key).Err() }
func (c commander) set(ctx context.Context, key, val string) error {
	return c.c.Set(ctx, key, val, 0).Err()
}
func (c commander) get(ctx context.Context, key string) error { return c.c.Get(ctx, key).Err() }
func (c commander) close()                                    { c.end() }

type goRedis struct {
	commander
	c *redis.Client
}

func bare(addr string) goRedis {
	c := redis.NewClient(&redis.Options{Addr: addr, ReadTimeout: replyLimit})
	return goRedis{commander{c, func() { _ = c.Close() }}, c}
}

type batched struct {
	goRedis
	ap *redis.AutoPipeliner
}

func (b batched) incr(ctx context.Context, key string) error { return b.ap.Incr(ctx, key).Err() }
func (b batched) set(ctx context.Context, key, val string) error {
	return b.ap.Set(ctx, key, val, 0).Err()
}
func (b batched) get(ctx context.Context, key string) error { return b.ap.Get(ctx, key).Err() }
func (b batched) close()                                    { _ = b.ap.Close(); b.goRedis.close() }

type rueidisClient struct{ c rueidis.Client }

func (r rueidisClient) incr(ctx context.Context, key string) error {
	return r.c.Do(ctx, r.c.B().Incr().Key(key).Build()).Error()
}
func (r rueidisClient) set(ctx context.Context, key, val string) error {
	return r.c.Do(ctx, r.c.B().Set().Key(key).Value(val).Build()).Error()
}
func (r rueidisClient) get(ctx context.Context, key string) error {
	return r.c.Do(ctx, r.c.B().Get().Key(key).Build()).Error()
}
func (r rueidisClient) close() { r.c.Close() }

type redigoClient struct{ p *redigo.Pool }

func (r redigoClient) do(ctx context.Context, cmd string, args ...any) error {
	c, err := r.p.GetContext(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = redigo.DoContext(c, ctx, cmd, args...)
	return err
}

func (r redigoClient) incr(ctx context.Context, key string) error { return r.do(ctx, "INCR", key) }
func (r redigoClient) set(ctx context.Context, key, val string) error {
	return r.do(ctx, "SET", key, val)
}
func (r redigoClient) get(ctx context.Context, key string) error { return r.do(ctx, "GET", key) }
func (r redigoClient) close()                                    { _ = r.p.Close() }
