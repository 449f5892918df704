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
	"github.com/mediocregopher/radix/v4"
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
	getAll(ctx context.Context, keys []string) error // in one pipeline
	getLeased(ctx context.Context, key string) error // on a connection that is taken for it alone
	close()
}

// subject is one line of each table.
type subject struct {
	name string
	open func(t *testing.T, addr string) client
	// perhaps: the error says that the command may have been carried out. Nil if
	// the client's errors do not say.
	perhaps func(error) bool
	// endless: it waits for a reply for ever, which the rounds with faults cannot.
	endless bool
}

func subjects() []subject {
	return []subject{
		{name: "go-redis", open: func(_ *testing.T, addr string) client { return bare(addr) }},
		{name: "go-redis AutoPipeline", open: func(t *testing.T, addr string) client {
			c := bare(addr)
			ap, err := c.c.AutoPipeline()
			if err != nil {
				t.Fatal(err)
			}
			return batched{c, ap}
		}},
		{name: "rueidis", open: func(t *testing.T, addr string) client {
			c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}, ConnWriteTimeout: replyLimit})
			if err != nil {
				t.Fatal(err)
			}
			return rueidisClient{c}
		}},
		{name: "redigo", open: func(_ *testing.T, addr string) client {
			n := 10 * runtime.GOMAXPROCS(0) // go-redis's default
			return redigoClient{&redigo.Pool{MaxIdle: n, MaxActive: n, Wait: true, DialContext: func(ctx context.Context) (redigo.Conn, error) {
				return redigo.DialContext(ctx, "tcp", addr, redigo.DialReadTimeout(replyLimit), redigo.DialWriteTimeout(replyLimit))
			}}}
		}},
		{name: "radix", endless: true, open: func(t *testing.T, addr string) client {
			c, err := (radix.PoolConfig{Size: 10 * runtime.GOMAXPROCS(0)}).New(t.Context(), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			return radixClient{c}
		}},
		{name: "lifeguard (managed)", open: func(t *testing.T, addr string) client {
			c, err := managed.New(&redis.Options{Addr: addr, ReadTimeout: replyLimit}, managed.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
			if err != nil {
				t.Fatal(err)
			}
			return managedClient(c, c)
		}, perhaps: func(err error) bool { return errors.Is(err, retry.ErrUnknownOutcome) }},
		{name: "lifeguard (Adaptive)", open: func(t *testing.T, addr string) client {
			c, err := managed.New(&redis.Options{Addr: addr, ReadTimeout: replyLimit}, managed.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
			if err != nil {
				t.Fatal(err)
			}
			return managedClient(c, c.Adaptive())
		}, perhaps: func(err error) bool { return errors.Is(err, retry.ErrUnknownOutcome) }},
	}
}

type commander struct {
	c interface {
		Incr(ctx context.Context, key string) *redis.IntCmd
		Set(ctx context.Context, key string, value any, expiration time.Duration) *redis.StatusCmd
		Get(ctx context.Context, key string) *redis.StringCmd
		Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error)
	}
	leased func(ctx context.Context, get func(redis.Cmdable) error) error
	end    func()
}

func managedClient(c *managed.Client, calls redis.UniversalClient) commander {
	return commander{calls, func(ctx context.Context, get func(redis.Cmdable) error) error {
		lease, err := c.Acquire(ctx)
		if err != nil {
			return err
		}
		defer lease.Release()
		return get(lease.Conn)
	}, func() { _ = c.Close() }}
}

func (c commander) incr(ctx context.Context, key string) error { return c.c.Incr(ctx, key).Err() }
func (c commander) set(ctx context.Context, key, val string) error {
	return c.c.Set(ctx, key, val, 0).Err()
}
func (c commander) get(ctx context.Context, key string) error { return c.c.Get(ctx, key).Err() }
func (c commander) getAll(ctx context.Context, keys []string) error {
	_, err := c.c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, k := range keys {
			p.Get(ctx, k)
		}
		return nil
	})
	return err
}
func (c commander) getLeased(ctx context.Context, key string) error {
	return c.leased(ctx, func(conn redis.Cmdable) error { return conn.Get(ctx, key).Err() })
}
func (c commander) close() { c.end() }

type goRedis struct {
	commander
	c *redis.Client
}

func bare(addr string) goRedis {
	c := redis.NewClient(&redis.Options{Addr: addr, ReadTimeout: replyLimit})
	return goRedis{commander{c, func(_ context.Context, get func(redis.Cmdable) error) error {
		conn := c.Conn()
		defer conn.Close()
		return get(conn)
	}, func() { _ = c.Close() }}, c}
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
func (r rueidisClient) getAll(ctx context.Context, keys []string) error {
	cmds := make([]rueidis.Completed, 0, len(keys))
	for _, k := range keys {
		cmds = append(cmds, r.c.B().Get().Key(k).Build())
	}
	for _, res := range r.c.DoMulti(ctx, cmds...) {
		if err := res.Error(); err != nil {
			return err
		}
	}
	return nil
}
func (r rueidisClient) getLeased(ctx context.Context, key string) error {
	c, cancel := r.c.Dedicate()
	defer cancel()
	return c.Do(ctx, c.B().Get().Key(key).Build()).Error()
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
func (r redigoClient) getAll(ctx context.Context, keys []string) error {
	c, err := r.p.GetContext(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, k := range keys {
		if err := c.Send("GET", k); err != nil {
			return err
		}
	}
	if err := c.Flush(); err != nil {
		return err
	}
	for range keys {
		if _, err := redigo.ReceiveContext(c, ctx); err != nil {
			return err
		}
	}
	return nil
}

// Each call of this client takes a connection for it alone.
func (r redigoClient) getLeased(ctx context.Context, key string) error { return r.get(ctx, key) }
func (r redigoClient) close()                                          { _ = r.p.Close() }

type radixClient struct{ c radix.Client }

func (r radixClient) incr(ctx context.Context, key string) error {
	return r.c.Do(ctx, radix.Cmd(nil, "INCR", key))
}
func (r radixClient) set(ctx context.Context, key, val string) error {
	return r.c.Do(ctx, radix.Cmd(nil, "SET", key, val))
}
func (r radixClient) get(ctx context.Context, key string) error {
	var val string
	return r.c.Do(ctx, radix.Cmd(&val, "GET", key))
}
func (r radixClient) getAll(ctx context.Context, keys []string) error {
	vals, p := make([]string, len(keys)), radix.NewPipeline()
	for i, k := range keys {
		p.Append(radix.Cmd(&vals[i], "GET", k))
	}
	return r.c.Do(ctx, p)
}
func (r radixClient) getLeased(ctx context.Context, key string) error {
	return r.c.Do(ctx, radix.WithConn(key, func(ctx context.Context, c radix.Conn) error {
		var val string
		return c.Do(ctx, radix.Cmd(&val, "GET", key))
	}))
}
func (r radixClient) close() { _ = r.c.Close() }
