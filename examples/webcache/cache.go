package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// cache gives a request its Redis client. The request calls done at its end.
type cache interface {
	client() (rdb redis.Cmdable, done func())
	opened() int64 // connections, so far
}

// clientPerRequest is the wrong way: every request opens connections, uses
// them once and closes them. A pool that lives for one request pools nothing.
type clientPerRequest struct {
	addr  string
	conns atomic.Int64
}

func (c *clientPerRequest) client() (redis.Cmdable, func()) {
	rdb := redis.NewClient(&redis.Options{
		Addr:      c.addr,
		OnConnect: func(context.Context, *redis.Conn) error { c.conns.Add(1); return nil },
	})
	return rdb, func() { _ = rdb.Close() }
}

func (c *clientPerRequest) opened() int64 { return c.conns.Load() }

// oneClient is the right way: one client for the whole program. It is safe for
// concurrent use, and its pool is shared by all requests.
type oneClient struct {
	rdb   *managed.Client
	conns atomic.Int64
}

func newOneClient(addr string) *oneClient {
	c := &oneClient{}
	c.rdb = managed.NewClient(&redis.Options{
		Addr:        addr,
		PoolSize:    50, // as many as callers at once
		ReadTimeout: time.Second,
		PoolTimeout: time.Second,
	}, managed.WithEventHandler(func(e hooks.Event) {
		if e.Kind == hooks.Dialed {
			c.conns.Add(1)
		}
	}))
	return c
}

func (c *oneClient) client() (redis.Cmdable, func()) { return c.rdb, func() {} }

func (c *oneClient) opened() int64 { return c.conns.Load() }

// close lets commands in flight finish.
func (c *oneClient) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = c.rdb.CloseGracefully(ctx)
}
