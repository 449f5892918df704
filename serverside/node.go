package serverside

import (
	"context"
	"errors"
	"reflect"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Commander is the part of a client that this package needs. Every client of go-redis is one:
// *redis.Client, *redis.ClusterClient, *redis.Ring, *redis.Conn, redis.UniversalClient, and types
// that embed one.
type Commander interface {
	Do(ctx context.Context, args ...any) *redis.Cmd
}

// Optional capabilities of a Commander.
type (
	sharded interface {
		ForEachShard(ctx context.Context, fn func(context.Context, *redis.Client) error) error
	}
	pooled  interface{ Conn() *redis.Conn }
	watcher interface {
		Watch(ctx context.Context, fn func(*redis.Tx) error, keys ...string) error
	}
	addressed interface{ Options() *redis.Options }
)

func checkClient(rdb Commander) error {
	if rdb == nil {
		return errors.New("lifeguard/serverside: the client is nil")
	}
	if v := reflect.ValueOf(rdb); v.Kind() == reflect.Pointer && v.IsNil() {
		return errors.New("lifeguard/serverside: the client is nil")
	}
	return nil
}

// eachNode calls fn for every node, one after the other, and joins the errors.
func eachNode(ctx context.Context, rdb Commander, fn func(ctx context.Context, node string, c Commander) error) error {
	s, ok := rdb.(sharded)
	if !ok {
		return fn(ctx, nodeOf(rdb), rdb)
	}
	// ForEachShard is concurrent, and reports nothing after the first error.
	var mu sync.Mutex
	var errs []error
	err := s.ForEachShard(ctx, func(ctx context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := fn(ctx, nodeOf(c), c); err != nil {
			errs = append(errs, err)
		}
		return nil
	})
	if err != nil {
		errs = append(errs, fail(ctx, "list of nodes", "", err))
	}
	return errors.Join(errs...)
}

func nodeOf(c Commander) string {
	if a, ok := c.(addressed); ok {
		if o := a.Options(); o != nil {
			return o.Addr
		}
	}
	return ""
}

// sticky returns one fixed connection of the client, so that SKIPME means the connection that sends
// the commands.
func sticky(c Commander) (Commander, func()) {
	if p, ok := c.(pooled); ok {
		conn := p.Conn()
		return conn, func() { _ = conn.Close() }
	}
	return c, func() {}
}
