package redisopt

import (
	"errors"

	"github.com/redis/go-redis/v9"
)

// OfCluster returns those of a cluster client's options that are validated and used, or says
// what is wrong with them.
func OfCluster(o *redis.ClusterOptions) (*redis.Options, error) {
	if o == nil {
		return nil, errors.New("lifeguard/managed: ClusterOptions: nil: give at least &redis.ClusterOptions{Addrs: ...}")
	}
	return valid(&redis.Options{PoolSize: o.PoolSize, MinIdleConns: o.MinIdleConns, MaxIdleConns: o.MaxIdleConns,
		MaxActiveConns: o.MaxActiveConns, MaxRetries: o.MaxRetries, MaxConcurrentDials: o.MaxConcurrentDials,
		ReadBufferSize: o.ReadBufferSize, WriteBufferSize: o.WriteBufferSize, Protocol: o.Protocol,
		DialTimeout: o.DialTimeout, PoolTimeout: o.PoolTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime, ConnMaxLifetimeJitter: o.ConnMaxLifetimeJitter})
}

// OfRing returns those of a ring's options that are validated and used, or says
// what is wrong with them.
func OfRing(o *redis.RingOptions) (*redis.Options, error) {
	if o == nil {
		return nil, errors.New("lifeguard/managed: RingOptions: nil: give at least &redis.RingOptions{Addrs: ...}")
	}
	return valid(&redis.Options{PoolSize: o.PoolSize, MinIdleConns: o.MinIdleConns, MaxIdleConns: o.MaxIdleConns,
		MaxActiveConns: o.MaxActiveConns, MaxRetries: o.MaxRetries, DB: o.DB,
		ReadBufferSize: o.ReadBufferSize, WriteBufferSize: o.WriteBufferSize, Protocol: o.Protocol,
		DialTimeout: o.DialTimeout, PoolTimeout: o.PoolTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime, ConnMaxLifetimeJitter: o.ConnMaxLifetimeJitter})
}

// OfFailover is OfCluster for a client whose master Sentinels name; the dialer and what else is
// wrapped is among its result, too.
func OfFailover(o *redis.FailoverOptions) (*redis.Options, error) {
	if o == nil {
		return nil, errors.New("lifeguard/managed: FailoverOptions: nil: give at least MasterName and SentinelAddrs")
	}
	return valid(ofFailover(o))
}

// ofFailover returns those of a failover client's options that are validated, used or wrapped.
func ofFailover(o *redis.FailoverOptions) *redis.Options {
	return &redis.Options{Addr: "FailoverClient", Dialer: o.Dialer, OnConnect: o.OnConnect, TLSConfig: o.TLSConfig,
		Username: o.Username, Password: o.Password, CredentialsProvider: o.CredentialsProvider,
		CredentialsProviderContext: o.CredentialsProviderContext, StreamingCredentialsProvider: o.StreamingCredentialsProvider,
		PoolSize: o.PoolSize, MinIdleConns: o.MinIdleConns, MaxIdleConns: o.MaxIdleConns,
		MaxActiveConns: o.MaxActiveConns, MaxRetries: o.MaxRetries, MaxConcurrentDials: o.MaxConcurrentDials, DB: o.DB,
		ReadBufferSize: o.ReadBufferSize, WriteBufferSize: o.WriteBufferSize, Protocol: o.Protocol,
		PipelineReadBufferSize: o.PipelineReadBufferSize, PipelineWriteBufferSize: o.PipelineWriteBufferSize,
		PipelinePoolSize: o.PipelinePoolSize,
		DialTimeout:      o.DialTimeout, PoolTimeout: o.PoolTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime, ConnMaxLifetimeJitter: o.ConnMaxLifetimeJitter}
}

func valid(o *redis.Options) (*redis.Options, error) {
	if err := Validate(o); err != nil {
		return nil, err
	}
	return o, nil
}

// Failover returns a clone of opt with what a node has put into its result of OfFailover.
func Failover(opt *redis.FailoverOptions, like *redis.Options) *redis.FailoverOptions {
	clone := *opt
	DisableOwn(like)
	clone.Dialer, clone.OnConnect = like.Dialer, like.OnConnect
	clone.CredentialsProviderContext, clone.StreamingCredentialsProvider = like.CredentialsProviderContext, like.StreamingCredentialsProvider
	clone.PoolFIFO, clone.DialerRetries, clone.MaxRetries = like.PoolFIFO, like.DialerRetries, like.MaxRetries
	clone.ReadBufferSize, clone.WriteBufferSize = like.ReadBufferSize, like.WriteBufferSize
	clone.PipelineReadBufferSize, clone.PipelineWriteBufferSize = like.PipelineReadBufferSize, like.PipelineWriteBufferSize
	clone.ConnMaxIdleTime, clone.ConnMaxLifetime, clone.ConnMaxLifetimeJitter = like.ConnMaxIdleTime, like.ConnMaxLifetime, like.ConnMaxLifetimeJitter
	return &clone
}

// DisableOwn disables go-redis's own retries and limits of age and idle time: lifeguard has its own.
func DisableOwn(opt *redis.Options) {
	opt.ConnMaxIdleTime, opt.ConnMaxLifetime, opt.ConnMaxLifetimeJitter = -1, 0, 0
	opt.MaxRetries = -1
}

// Blocking makes opt that of a pool of up to n connections for blocking commands.
func Blocking(opt *redis.Options, n int) {
	opt.PoolSize = n
	opt.MinIdleConns, opt.MaxIdleConns, opt.MaxActiveConns, opt.MaxConcurrentDials = 0, 0, 0, 0
	opt.PipelinePoolSize = -1
	opt.ClientSideCache, opt.ClientSideCacheConfig = nil, nil
}

// BlockingFailover is Blocking for a server that is found through Sentinels.
func BlockingFailover(opt *redis.FailoverOptions, n int) {
	opt.PoolSize = n
	opt.MinIdleConns, opt.MaxIdleConns, opt.MaxActiveConns, opt.MaxConcurrentDials = 0, 0, 0, 0
	opt.PipelinePoolSize = -1
}

// PipelinePoolSize is the size of the pool for pipelines; 0: there is none.
func PipelinePoolSize(opt *redis.Options) int {
	if opt.PipelinePoolSize == 0 {
		return redis.DefaultPipelinePoolSize
	}
	return max(opt.PipelinePoolSize, 0)
}
