package integration_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// plain is a bare go-redis client on the shared server, to judge by.
func plain(t *testing.T) *redis.Client {
	t.Helper()
	c := redis.NewClient(redistest.Options(t))
	t.Cleanup(func() { c.Close() })
	return c
}
