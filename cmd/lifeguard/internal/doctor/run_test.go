package doctor_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/doctor"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/target"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

// A cluster may give a server two addresses, of IPv4 and IPv6 say.
func TestAServerWithTwoAddressesIsCountedOnce(t *testing.T) {
	for name, start := range redistest.Servers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, "--maxclients", "50")
			for range 42 {
				conn, err := net.Dial("tcp", s.Addr())
				require.NoError(t, err)
				defer conn.Close()
			}
			redistest.Eventually(t, "they are connected", 10*time.Second, func() bool { return len(s.ClientList(t)) == 42 })
			other := strings.Replace(s.Addr(), "127.0.0.1", "localhost", 1)
			rdb := redis.NewClusterClient(&redis.ClusterOptions{PoolSize: 1, PipelinePoolSize: -1, MaxRetries: -1, ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
				return []redis.ClusterSlot{{Start: 0, End: 8191, Nodes: []redis.ClusterNode{{Addr: s.Addr()}}}, {Start: 8192, End: 16383, Nodes: []redis.ClusterNode{{Addr: other}}}}, nil
			}})
			defer rdb.Close()
			r, err := doctor.Examine(t.Context(), &target.Target{UniversalClient: rdb, Name: s.Addr(), Cluster: true, Options: s.Options()}, doctor.Client{})
			require.NoError(t, err)
			require.Len(t, r.Nodes, 2)
			for _, f := range r.Findings {
				switch f.ID {
				case "maxclients-used":
					require.Regexp(t, "^(8[4-9]|9[0-4]) % of maxclients .50. are in use now$", f.What)
				case "unnamed-connections":
					require.Regexp(t, "^4[2-7] of 4[2-7] connections have no name$", f.What)
				}
				require.Less(t, len(f.Nodes), 2, f.What)
			}
		})
	}
}
