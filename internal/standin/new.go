package standin

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redisopt"
)

// errNoFunction is returned if there is no function that adds hooks.
var errNoFunction = errors.New("lifeguard/managed: Instrument: the function is nil")

// ForClient makes a stand-in for a client with these options, and lets fn add its hooks to it. It
// returns the error of fn.
func ForClient(opt *redis.Options, fn func(*redis.Client) error) (*StandIn, error) {
	s := &StandIn{}
	rdb, err := build(s, fn, func() *redis.Client {
		c := redis.NewClient(s.options(opt))
		c.AddHook(arrival{})
		return c
	})
	if err != nil {
		return nil, err
	}
	s.dial = rdb.Subscribe
	return s, nil
}

// ForCluster is ForClient for a cluster client. Pass its nodes to Meet.
func ForCluster(of *redis.ClusterOptions, fn func(*redis.ClusterClient) error) (*StandIn, error) {
	s, known := &StandIn{}, &nodes{}
	opt := *of
	opt.Dialer, opt.NewClient = dialNext, known.client
	opt.ClusterSlots, opt.OnConnect = known.slots, nil
	opt.MinIdleConns, opt.PipelinePoolSize, opt.MaxRetries, opt.MaxRedirects = 0, -1, -1, -1
	opt.RouteByLatency, opt.RouteRandomly = false, false
	rdb, err := build(s, fn, func() *redis.ClusterClient { return redis.NewClusterClient(&opt) })
	if err != nil {
		return nil, err
	}
	s.meet = func(node *redis.Client) {
		known.add(node)
		_ = rdb.ForEachShard(context.Background(), func(context.Context, *redis.Client) error { return nil })
	}
	return s, nil
}

// ForRing is ForClient for a ring. Pass its shards to Meet.
func ForRing(of *redis.RingOptions, fn func(*redis.Ring) error) (*StandIn, error) {
	s, known := &StandIn{}, &nodes{}
	opt := *of
	opt.Addrs, opt.Dialer, opt.NewClient, opt.OnConnect = nil, dialNext, known.client, nil
	opt.MinIdleConns, opt.PipelinePoolSize, opt.MaxRetries = 0, -1, -1
	opt.HeartbeatFn, opt.HeartbeatFrequency = func(context.Context, *redis.Client) bool { return true }, 24*time.Hour
	rdb, err := build(s, fn, func() *redis.Ring { return redis.NewRing(&opt) })
	if err != nil {
		return nil, err
	}
	s.meet = func(node *redis.Client) { rdb.SetAddrs(known.add(node)) }
	return s, nil
}

// client is what the stand-ins of all kinds of clients have in common.
type client interface {
	AddHook(redis.Hook)
	Process(context.Context, redis.Cmder) error
	Pipeline() redis.Pipeliner
	Close() error
}

// build makes the go-redis client of s, and lets fn add its hooks to it.
func build[T client](s *StandIn, fn func(T) error, construct func() T) (rdb T, err error) {
	if fn == nil {
		return rdb, errNoFunction
	}
	if rdb, err = redisopt.Construct(construct); err != nil {
		return rdb, err
	}
	if err = fn(rdb); err != nil {
		_ = rdb.Close()
		return rdb, err
	}
	rdb.AddHook(departure{of: s})
	s.process, s.pipeline, s.close = rdb.Process, rdb.Pipeline, rdb.Close
	return rdb, nil
}

// Meet gives a stand-in for a client of several nodes the client of a node, so that go-redis passes
// it to the functions that are registered with OnNewNode.
func (s *StandIn) Meet(node *redis.Client) { s.meet(node) }

// Close closes the go-redis client of the stand-in.
func (s *StandIn) Close() error { return s.close() }
