package managed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/attempt"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
)

const (
	warmAtOnce = 4 // connections that Warm opens concurrently
	warmPause  = time.Millisecond
)

// Warm opens connections of the main pool until n are open and ready: TCP, TLS, HELLO and AUTH are
// done. It opens at most 4 at a time, and returns how many are ready, and an error if they are
// fewer than n. n above PoolSize is an error. Connections in use count, and it never waits for one.
// They stay open as long as MinIdleConns and the max-idle rule allow.
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
			err = attempt.Reveal(e)
		}
	}
	for {
		if err == nil {
			err = ctx.Err()
		}
		// The connections taken here are ready, and so are those in use elsewhere.
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
	return got, errtext.Note(err, "lifeguard/managed: Warm: %d of %d connections are open", got, n)
}

// ready counts the connections of the main pool that have completed their handshake.
func (u *unit) ready() int {
	n := 0
	u.node.Range(func(conn *conntrack.Conn) bool {
		if v := conn.View(); v.Ready && v.Pool == hooks.PoolMain && !v.PubSub && !conn.Evicting() {
			n++
		}
		return true
	})
	return n
}
