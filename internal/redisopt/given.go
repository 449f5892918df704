package redisopt

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Given makes the result of Options: filled, which go-redis has made from its options and ours,
// with the user's values in place of ours. Where go-redis would have filled in a default, it has
// that default.
func Given(filled, given *redis.Options) *redis.Options {
	o := *filled
	o.OnConnect, o.CredentialsProviderContext, o.Limiter = given.OnConnect, given.CredentialsProviderContext, given.Limiter
	o.StreamingCredentialsProvider = given.StreamingCredentialsProvider
	o.PoolFIFO, o.MinIdleConns = given.PoolFIFO, given.MinIdleConns
	o.PushNotificationProcessor = given.PushNotificationProcessor // filled has go-redis's own, which no other client can use
	o.MaxRetries = orDefault(given.MaxRetries, 3)
	o.DialerRetries = given.DialerRetries
	if o.DialerRetries <= 0 {
		o.DialerRetries = 5
	}
	if o.ConnMaxIdleTime = given.ConnMaxIdleTime; o.ConnMaxIdleTime == 0 {
		o.ConnMaxIdleTime = 30 * time.Minute
	}
	o.ConnMaxLifetime, o.ConnMaxLifetimeJitter = given.ConnMaxLifetime, min(given.ConnMaxLifetimeJitter, given.ConnMaxLifetime)
	o.ReadBufferSize, o.WriteBufferSize = given.ReadBufferSize, given.WriteBufferSize
	if o.ReadBufferSize == 0 {
		o.ReadBufferSize = defaultBuffer
	} else if o.Protocol == 3 {
		o.ReadBufferSize = max(o.ReadBufferSize, minPushBuffer)
	}
	if o.WriteBufferSize == 0 {
		o.WriteBufferSize = defaultBuffer
	}
	o.PipelineReadBufferSize, o.PipelineWriteBufferSize = given.PipelineReadBufferSize, given.PipelineWriteBufferSize
	if m := o.MaintNotificationsConfig; m != nil {
		own := *m // go-redis records in it what the server supports
		o.MaintNotificationsConfig = &own
	}
	if o.Dialer = given.Dialer; o.Dialer == nil {
		o.Dialer = redis.NewDialer(&o)
	}
	return &o
}

// Defaults of go-redis that it does not export.
const (
	defaultBuffer = 32 << 10
	minPushBuffer = 128 // with RESP3
)

// orDefault resolves an option of go-redis for which 0 means the default and -1 means 0.
func orDefault(n, def int) int {
	switch n {
	case 0:
		return def
	case -1:
		return 0
	}
	return n
}

// GivenFailover returns the options of a client whose master Sentinels name. Its Dialer asks the
// Sentinels by itself.
func GivenFailover(filled *redis.Options, opt *redis.FailoverOptions) *redis.Options {
	given := ofFailover(opt)
	given.PoolFIFO, given.DialerRetries = opt.PoolFIFO, opt.DialerRetries
	clone := *opt
	clone.MinIdleConns = 0
	bare := sync.OnceValues(func() (*redis.Client, error) {
		return Construct(func() *redis.Client { return redis.NewFailoverClient(&clone) })
	})
	given.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		rdb, err := bare()
		if err != nil {
			return nil, err
		}
		return rdb.Options().Dialer(ctx, network, addr)
	}
	return Given(filled, given)
}

// GivenCluster is Given for a cluster.
func GivenCluster(filled, given *redis.ClusterOptions) *redis.ClusterOptions {
	o := *filled
	if o.MaxRetries = given.MaxRetries; o.MaxRetries == 0 {
		o.MaxRetries = -1
	}
	if o.NewClient = given.NewClient; o.NewClient == nil {
		o.NewClient = redis.NewClient
	}
	return &o
}

// GivenFailoverCluster is the same where Sentinels give the slot map, which its ClusterSlots still
// asks for.
func GivenFailoverCluster(filled *redis.ClusterOptions, opt *redis.FailoverOptions) *redis.ClusterOptions {
	o := *filled
	o.Dialer, o.OnConnect, o.CredentialsProviderContext = opt.Dialer, opt.OnConnect, opt.CredentialsProviderContext
	o.StreamingCredentialsProvider = opt.StreamingCredentialsProvider
	o.PoolFIFO, o.MinIdleConns = opt.PoolFIFO, opt.MinIdleConns
	if o.DialerRetries = opt.DialerRetries; o.DialerRetries == 0 {
		o.DialerRetries = 5
	}
	o.MaxRedirects = orDefault(opt.MaxRetries, 3) // go-redis sets both from it
	o.ConnMaxIdleTime, o.ConnMaxLifetime, o.ConnMaxLifetimeJitter = opt.ConnMaxIdleTime, opt.ConnMaxLifetime, opt.ConnMaxLifetimeJitter
	for _, b := range []struct {
		into  *int
		given int
	}{{&o.ReadBufferSize, opt.ReadBufferSize}, {&o.WriteBufferSize, opt.WriteBufferSize}} {
		if *b.into = b.given; b.given == 0 {
			*b.into = defaultBuffer
		}
	}
	o.PipelineReadBufferSize, o.PipelineWriteBufferSize = opt.PipelineReadBufferSize, opt.PipelineWriteBufferSize
	return &o
}

// GivenRing is Given for a ring.
func GivenRing(filled, given *redis.RingOptions) *redis.RingOptions {
	o := *filled
	o.MaxRetries = orDefault(given.MaxRetries, 3)
	if o.NewClient = given.NewClient; o.NewClient == nil {
		o.NewClient = redis.NewClient
	}
	if o.HeartbeatFn = given.HeartbeatFn; o.HeartbeatFn == nil {
		o.HeartbeatFn = func(ctx context.Context, shard *redis.Client) bool {
			err := shard.Ping(ctx).Err()
			return err == nil || errors.Is(err, redis.ErrPoolTimeout)
		}
	}
	return &o
}
