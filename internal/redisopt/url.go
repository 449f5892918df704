package redisopt

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"
)

// ParseURL is redis.ParseURL with errors that never show any part of the URL that could be a
// password: with bad escaping, a password can end up in any of them.
func ParseURL(raw string) (*redis.Options, error) {
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
