package redistest

import (
	"os"
	"testing"

	"github.com/lifeguard-redis/lifeguard/internal/redistest/program"
)

// Servers are functions like Start, by the name of the server: that of Redis and that
// of Valkey, and of each further version that a variable names.
func Servers() map[string]func(t testing.TB, args ...string) *Server {
	all := map[string]func(testing.TB, ...string) *Server{"Redis": Start, "Valkey": StartValkey}
	for name, env := range program.Further {
		if bin := os.Getenv(env); bin != "" {
			all[name] = func(t testing.TB, args ...string) *Server {
				t.Helper()
				return startServer(t, bin, nil, args)
			}
		}
	}
	return all
}
