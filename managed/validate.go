package managed

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// validate rejects options that are negative or contradict each other, where go-redis would later
// panic, hang or silently do something else.
func validate(o *redis.Options) error {
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
			return badOption(f.name, f.value, fmt.Sprintf("must be at least %d", f.least))
		}
	}
	if o.Protocol != 0 && o.Protocol != 2 && o.Protocol != 3 {
		return badOption("Protocol", o.Protocol, "must be 2 or 3 (0 means 3)")
	}
	for _, f := range []struct {
		name  string
		value time.Duration
		least time.Duration
	}{
		{"DialTimeout", o.DialTimeout, 0}, {"PoolTimeout", o.PoolTimeout, 0}, {"ReadTimeout", o.ReadTimeout, -2},
		{"WriteTimeout", o.WriteTimeout, -2}, {"MinRetryBackoff", o.MinRetryBackoff, -1}, {"MaxRetryBackoff", o.MaxRetryBackoff, -1},
		{"ConnMaxLifetimeJitter", o.ConnMaxLifetimeJitter, 0},
	} {
		if f.value < f.least {
			return badOption(f.name, f.value, fmt.Sprintf("must be at least %d", int(f.least)))
		}
	}
	if o.PoolSize > 0 && o.MinIdleConns > o.PoolSize {
		return badOption("MinIdleConns", o.MinIdleConns, fmt.Sprintf("must not be above PoolSize, which is %d", o.PoolSize))
	}
	if o.MaxIdleConns > 0 && o.MinIdleConns > o.MaxIdleConns {
		return badOption("MinIdleConns", o.MinIdleConns, fmt.Sprintf("must not be above MaxIdleConns, which is %d", o.MaxIdleConns))
	}
	if o.MaxActiveConns > 0 && o.MinIdleConns > o.MaxActiveConns {
		return badOption("MinIdleConns", o.MinIdleConns, fmt.Sprintf("must not be above MaxActiveConns, which is %d", o.MaxActiveConns))
	}
	if o.MinRetryBackoff > 0 && o.MaxRetryBackoff > 0 && o.MinRetryBackoff > o.MaxRetryBackoff {
		return badOption("MinRetryBackoff", o.MinRetryBackoff, fmt.Sprintf("must not be above MaxRetryBackoff, which is %v", o.MaxRetryBackoff))
	}
	return nil
}

func badOption(name string, value any, why string) error {
	return fmt.Errorf("lifeguard/managed: Options.%s: %v: %s", name, value, why)
}

// parseURL is redis.ParseURL with errors that never show any part of the URL that could be a
// password: with bad escaping, a password can end up in any of them.
func parseURL(raw string) (*redis.Options, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("lifeguard/managed: malformed URL: not of the form redis://user:password@host:port/db; characters such as @ / : # % in a password must be percent-encoded")
	}
	switch u.Scheme {
	case "redis", "rediss", "unix":
	case "http", "https", "tcp", "tls", "valkey", "valkeys":
		return nil, fmt.Errorf("lifeguard/managed: malformed URL: scheme %q: use redis://, rediss:// (TLS) or unix://", u.Scheme)
	default: // it may be a part of a password
		return nil, errors.New("lifeguard/managed: malformed URL: no scheme that is known: use redis://, rediss:// (TLS) or unix://")
	}
	if u.Fragment != "" || u.Scheme == "unix" && u.Host != "" { // a password with # or /: the rest would be taken for an address
		return nil, errors.New("lifeguard/managed: malformed URL: characters such as @ / : # % in a password must be percent-encoded")
	}
	opt, err := redis.ParseURL(raw)
	if err != nil {
		what := "its path must be a database number, its query the options of redis.ParseURL"
		if strings.Contains(err.Error(), "database number") {
			what = "its path must be a database number, as in redis://host:6379/2"
		} else if strings.Contains(err.Error(), "unexpected option") {
			what = "its query has an option that redis.ParseURL does not know"
		}
		host := u.Hostname()
		if strings.Contains(u.Path+u.RawQuery+u.Fragment, "@") {
			host = "(not shown)" // what looks like the host may be a part of the password
		}
		return nil, fmt.Errorf("lifeguard/managed: malformed URL for host %s: %s", host, what)
	}
	return opt, nil
}
