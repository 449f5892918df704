package redistest

import (
	"os"
	"testing"
)

// further are variables that name the programs of other versions, to try what
// depends on the server's version. .ci/run sets them.
var further = map[string]string{
	"Redis 7.0": "LIFEGUARD_REDIS70_BIN",
	"Redis 8.6": "LIFEGUARD_REDIS86_BIN",
}

// Servers are functions like Start, by the name of the server: that of Redis and that
// of Valkey, and of each further version that a variable names.
func Servers() map[string]func(t testing.TB, args ...string) *Server {
	all := map[string]func(testing.TB, ...string) *Server{"Redis": Start, "Valkey": StartValkey}
	for name, env := range further {
		if bin := os.Getenv(env); bin != "" {
			all[name] = func(t testing.TB, args ...string) *Server {
				t.Helper()
				return startServer(t, bin, nil, args)
			}
		}
	}
	return all
}
