package redisopt

import (
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Validate rejects options that are negative or contradict each other, where go-redis would later
// panic, hang or silently do something else.
func Validate(o *redis.Options) error {
	if o == nil {
		return errors.New("lifeguard/managed: Options: nil: give at least &redis.Options{Addr: ...}")
	}
	for _, f := range []struct {
		name  string
		value int
		least int
	}{
		{"PoolSize", o.PoolSize, 0}, {"MinIdleConns", o.MinIdleConns, 0}, {"MaxIdleConns", o.MaxIdleConns, 0},
		{"MaxActiveConns", o.MaxActiveConns, 0}, {"MaxRetries", o.MaxRetries, -1}, {"DB", o.DB, 0},
		{"ReadBufferSize", o.ReadBufferSize, 0}, {"WriteBufferSize", o.WriteBufferSize, 0},
		{"MaxConcurrentDials", o.MaxConcurrentDials, 0},
	} {
		if f.value < f.least {
			return bad(f.name, f.value, fmt.Sprintf("must be at least %d", f.least))
		}
	}
	if o.Protocol != 0 && o.Protocol != 2 && o.Protocol != 3 {
		return bad("Protocol", o.Protocol, "must be 2 or 3 (0 means 3)")
	}
	for _, f := range []struct {
		name  string
		value time.Duration
		least time.Duration
	}{
		{"DialTimeout", o.DialTimeout, 0}, {"PoolTimeout", o.PoolTimeout, 0}, {"ReadTimeout", o.ReadTimeout, -2},
		{"WriteTimeout", o.WriteTimeout, -2}, {"MinRetryBackoff", o.MinRetryBackoff, -1}, {"MaxRetryBackoff", o.MaxRetryBackoff, -1},
		{"ConnMaxLifetimeJitter", o.ConnMaxLifetimeJitter, min(o.ConnMaxLifetime, 0)}, // go-redis lowers it to a negative ConnMaxLifetime
	} {
		if f.value < f.least {
			return bad(f.name, f.value, fmt.Sprintf("must be at least %d", int(f.least)))
		}
	}
	if o.PoolSize > 0 && o.MinIdleConns > o.PoolSize {
		return bad("MinIdleConns", o.MinIdleConns, fmt.Sprintf("must not be above PoolSize, which is %d", o.PoolSize))
	}
	if o.MaxIdleConns > 0 && o.MinIdleConns > o.MaxIdleConns {
		return bad("MinIdleConns", o.MinIdleConns, fmt.Sprintf("must not be above MaxIdleConns, which is %d", o.MaxIdleConns))
	}
	if o.MaxActiveConns > 0 && o.MinIdleConns > o.MaxActiveConns {
		return bad("MinIdleConns", o.MinIdleConns, fmt.Sprintf("must not be above MaxActiveConns, which is %d", o.MaxActiveConns))
	}
	if o.MinRetryBackoff > 0 && o.MaxRetryBackoff > 0 && o.MinRetryBackoff > o.MaxRetryBackoff {
		return bad("MinRetryBackoff", o.MinRetryBackoff, fmt.Sprintf("must not be above MaxRetryBackoff, which is %v", o.MaxRetryBackoff))
	}
	return nil
}

func bad(name string, value any, why string) error {
	return fmt.Errorf("lifeguard/managed: Options.%s: %v: %s", name, value, why)
}
