package managed

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// UniversalClient is the common interface of all managed clients: everything of
// redis.UniversalClient, and the management that does not depend on keys.
type UniversalClient interface {
	redis.UniversalClient
	Conns() []hooks.ConnInfo
	Leases() []LeaseInfo
	CloseReasons() map[hooks.Reason]uint64
	RetryStats() retry.Stats
	PoolMonitor() *monitor.Monitor
	Stats() monitor.Stats
	SetMaxAge(time.Duration)
	SetMaxIdle(time.Duration)
	SetHeartbeat(time.Duration)
	Reset(ctx context.Context) int
	EvictIdle(ctx context.Context) int
	Warm(ctx context.Context, n int) (int, error)
	CloseGracefully(ctx context.Context) error
}

var (
	_ UniversalClient = (*Client)(nil)
	_ UniversalClient = (*ClusterClient)(nil)
	_ UniversalClient = (*Ring)(nil)
)

// NewUniversal makes the client that redis.NewUniversalClient would make from the same options: a
// ClusterClient, a Client of the master that Sentinels name, or a Client.
func NewUniversal(opt *redis.UniversalOptions, opts ...Option) (UniversalClient, error) {
	if opt == nil {
		return nil, errors.New("lifeguard/managed: UniversalOptions: nil: give at least &redis.UniversalOptions{Addrs: ...}")
	}
	var c UniversalClient
	var err error
	switch {
	case opt.MasterName != "" && (opt.RouteByLatency || opt.RouteRandomly || opt.IsClusterMode):
		c, err = NewFailoverCluster(opt.Failover(), opts...)
	case opt.MasterName != "":
		c, err = NewFailover(opt.Failover(), opts...)
	case len(opt.Addrs) > 1 || opt.IsClusterMode:
		c, err = NewCluster(opt.Cluster(), opts...)
	default:
		c, err = New(opt.Simple(), opts...)
	}
	if err != nil {
		return nil, err // not a nil pointer in an interface
	}
	return c, nil
}

// NewUniversalClient is NewUniversal as a replacement for redis.NewUniversalClient: it panics where
// NewUniversal returns an error.
func NewUniversalClient(opt *redis.UniversalOptions, opts ...Option) UniversalClient {
	return must(NewUniversal(opt, opts...))
}
