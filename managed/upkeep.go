package managed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
)

// SetMaxAge changes the maximum age of connections at run time, for open ones
// too; see WithMaxAge. 0 or negative: none. Effective at once.
func (c *Client) SetMaxAge(d time.Duration) { c.core.keeper.SetMaxAge(d) }

// SetMaxIdle changes the time over which the demand decides how many connections
// are kept; see WithMaxIdle. 0 or negative: they are kept. Effective at once.
func (c *Client) SetMaxIdle(d time.Duration) { c.core.keeper.SetMaxIdle(d) }

// SetHeartbeat changes the silence after which a connection gets a PING; see
// WithHeartbeat. 0: none. Negative: automatic. Effective at once.
func (c *Client) SetHeartbeat(d time.Duration) { c.core.keeper.SetHeartbeat(d) }

// Reset closes all connections, softly: idle ones now, those in use when they come
// back. Pub/sub connections stay. It returns how many will end. ctx bounds how
// long it waits for the idle ones; the rest are closed later.
func (c *Client) Reset(ctx context.Context) int { return c.core.keeper.Reset(ctx) }

// EvictIdle closes the connections that are idle now and returns how many it
// ended. go-redis opens new ones up to MinIdleConns. ctx bounds it.
func (c *Client) EvictIdle(ctx context.Context) int { return c.core.keeper.EvictIdle(ctx) }

const (
	warmAtOnce = 4 // connections opened side by side by Warm
	warmPause  = time.Millisecond
)

// Warm opens connections of the main pool until n are open and ready: TCP, TLS,
// HELLO and AUTH are done. It opens at most 4 at a time, and returns how many are
// ready; with fewer than n, why. n above PoolSize is an error. Connections in
// use count, and it never waits for one. They stay as long as MinIdleConns and
// the max-idle rule let them.
func (c *Client) Warm(ctx context.Context, n int) (int, error) {
	if c.own.closed.Load() {
		return 0, redis.ErrClosed
	}
	return c.unit.warm(ctx, c.Client, n)
}

func (u *unit) warm(ctx context.Context, rdb *redis.Client, n int) (int, error) {
	if size := u.rdb.Options().PoolSize; n < 0 || n > size {
		return 0, fmt.Errorf("lifeguard/managed: Warm(%d): must be between 0 and PoolSize, which is %d", n, size)
	}
	if u.core.closed.Load() {
		return 0, redis.ErrClosed
	}
	if u.rdb.Options().StreamingCredentialsProvider != nil {
		return 0, ErrStreaming
	}
	var (
		mu   sync.Mutex
		held []*redis.Conn
		err  error
		wg   sync.WaitGroup
	)
	defer func() {
		for _, conn := range held {
			_ = conn.Close()
		}
	}()
	open := func() {
		conn := rdb.Conn()
		_, e := u.node.Acquire(ctx, conn, nil)
		mu.Lock()
		defer mu.Unlock()
		if e == nil {
			held = append(held, conn)
		} else if err == nil {
			err = conntrack.Reveal(e)
		}
	}
	for {
		if err == nil {
			err = ctx.Err()
		}
		// Those taken here are ready; those in use elsewhere are, too.
		room := min(warmAtOnce, n-len(held), u.rdb.Options().PoolSize-u.node.Main().InUse)
		if err != nil || u.ready() >= n || room <= 0 {
			break
		}
		for range room {
			wg.Go(open)
		}
		wg.Wait()
		time.Sleep(warmPause)
	}
	got := min(u.ready(), n)
	if got == n {
		return got, nil
	}
	if err == nil {
		err = errors.New("every slot of the pool is in use")
	}
	return got, note(err, "lifeguard/managed: Warm: %d of %d connections are open", got, n)
}

// ready counts the connections of the main pool whose handshake is over.
func (u *unit) ready() int {
	n := 0
	u.node.Range(func(conn *conntrack.Conn) bool {
		if v := conn.View(); v.Ready && v.Pool == hooks.PoolMain && !v.PubSub && !conn.Leaving() {
			n++
		}
		return true
	})
	return n
}

// CloseReasons counts the connections closed since the client was made, by reason.
func (c *Client) CloseReasons() map[hooks.Reason]uint64 { return c.core.tracker.Ended() }
