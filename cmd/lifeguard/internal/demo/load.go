package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/managed"
)

const (
	poolSize = 10
	workers  = 8
	keys     = 100
	keyTTL   = 10 * time.Minute // for a server that outlives the demo, in case the demo is killed
)

// load is goroutines that use the client as a program would. It only sends
// commands that are safe to repeat, so that none of them has a reason to fail.
type load struct {
	d      *demo
	cancel context.CancelFunc
	wg     sync.WaitGroup

	commands atomic.Int64 // single ones and those of pipelines, that succeeded
	leases   atomic.Int64 // that did their work
	failed   atomic.Int64 // commands
	broken   atomic.Int64 // leases whose connection was lost while they were held

	mu    sync.Mutex
	first error
}

func startLoad(d *demo) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{d: d, cancel: cancel}
	for range workers {
		l.wg.Go(func() { l.work(ctx) })
	}
	return l
}

// stop lets every worker finish what it is doing.
func (l *load) stop() {
	l.cancel()
	l.wg.Wait()
}

func (l *load) firstError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

func (l *load) work(stop context.Context) {
	for stop.Err() == nil {
		ctx := context.Background()
		switch n := rand.IntN(100); {
		case n < 55:
			err := l.d.client.Get(ctx, l.key()).Err()
			l.count("GET", 1, err)
		case n < 80:
			err := l.d.client.Set(ctx, l.key(), "some value", keyTTL).Err()
			l.count("SET", 1, err)
		case n < 90:
			cmds, err := l.d.client.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Set(ctx, l.key(), "one of three", keyTTL)
				p.Get(ctx, l.key())
				p.Exists(ctx, l.key())
				return nil
			})
			l.count("pipeline", len(cmds), err)
		case n < 97:
			l.lease(managed.WithLabel(ctx, "read and change"), l.change)
		default:
			l.lease(managed.WithLabel(ctx, "slow job"), l.slow)
		}
		sleep(stop, time.Duration(rand.Int64N(int64(4*time.Millisecond))))
	}
}

func (l *load) key() string { return fmt.Sprintf("%skey:%d", l.d.prefix, rand.IntN(keys)) }

func (l *load) count(what string, n int, err error) {
	if err == nil || errors.Is(err, redis.Nil) {
		l.commands.Add(int64(n))
		return
	}
	l.failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = fmt.Errorf("%s failed: %w", what, err)
	}
}

// lease runs fn on a leased connection. A lease is one connection: when that is lost, so is the
// lease.
func (l *load) lease(ctx context.Context, fn func(context.Context, *managed.Conn) error) {
	taken := false
	err := l.d.client.AcquireFunc(ctx, func(c *managed.Conn) error {
		taken = true
		return fn(c.Context(), c)
	})
	switch {
	case err == nil || errors.Is(err, redis.TxFailedErr):
		l.leases.Add(1)
	case taken:
		l.broken.Add(1)
	default:
		l.count("Acquire", 1, err)
	}
}

// change is a transaction that needs one connection for all its commands.
func (l *load) change(ctx context.Context, c *managed.Conn) error {
	key := l.key()
	if err := c.Do(ctx, "watch", key).Err(); err != nil {
		return err
	}
	if err := c.Get(ctx, key).Err(); err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, key, "changed", keyTTL)
		return nil
	})
	return err
}

// slow holds its connection for a while.
func (l *load) slow(ctx context.Context, c *managed.Conn) error {
	if err := c.Get(ctx, l.key()).Err(); err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	time.Sleep(10*time.Millisecond + rand.N(40*time.Millisecond))
	return c.Set(ctx, l.key(), "slow", keyTTL).Err()
}
