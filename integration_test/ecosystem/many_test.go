package ecosystem_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// ofSeveralNodes are the clients of several nodes, of which one server is the only one.
var ofSeveralNodes = map[string][]side{
	"cluster": {
		{"bare", func(_ testing.TB, s *redistest.Server) redis.UniversalClient {
			return redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.Addr()}})
		}},
		{"managed", func(_ testing.TB, s *redistest.Server) redis.UniversalClient {
			return managed.NewClusterClient(&redis.ClusterOptions{Addrs: []string{s.Addr()}}, managed.WithLogger(quiet))
		}},
	},
	"ring": {
		{"bare", func(_ testing.TB, s *redistest.Server) redis.UniversalClient {
			return redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": s.Addr()}, HeartbeatFrequency: time.Hour})
		}},
		{"managed", func(_ testing.TB, s *redistest.Server) redis.UniversalClient {
			return managed.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": s.Addr()}, HeartbeatFrequency: time.Hour}, managed.WithLogger(quiet))
		}},
	},
}

// serverFor starts the only node of such a client.
func serverFor(t *testing.T, kind string) *redistest.Server {
	t.Helper()
	if kind == "ring" {
		return redistest.Start(t)
	}
	return redistest.StartOneNodeCluster(t)
}

func TestALibraryGivesTheSameResultsOnAClusterAndOnARing(t *testing.T) {
	for kind, sides := range ofSeveralNodes {
		s := serverFor(t, kind)
		for _, lib := range libraries() {
			t.Run(lib.name+" on a "+kind, func(t *testing.T) { compare(t, s, lib, sides) })
		}
	}
}

func TestALibraryOnAClusterKeepsItsPromiseWhileConnectionsAreKilled(t *testing.T) {
	s := serverFor(t, "cluster")
	for _, lib := range libraries() {
		t.Run(lib.name, func(t *testing.T) { strain(t, s, lib, ofSeveralNodes["cluster"][1]) })
	}
}

// Of a cluster redisotel traces the calls, and the attempts on each node. Of a Ring it traces
// nothing, a bare one neither, until a shard is added. Which call of a node has a connection
// opened is a matter of time.
func TestRedisotelGivesTheSameSpansOfACluster(t *testing.T) {
	s := serverFor(t, "cluster")
	for _, lib := range libraries() {
		if lib.polls {
			continue
		}
		t.Run(lib.name, func(t *testing.T) {
			var got [][]string
			for _, who := range ofSeveralNodes["cluster"] {
				var names []string
				for _, line := range spans(t, s, lib, who) {
					name, _, _ := strings.Cut(line, " in ")
					switch first, _, _ := strings.Cut(name, " "); {
					case slices.Contains([]string{"redis.dial", "hello", "client", "ping", "cluster", "command"}, first), strings.HasPrefix(name, "redis.pipeline client"):
					default:
						// On a node a pipeline ends with a ping of ours.
						names = append(names, strings.TrimSuffix(name, " ping"))
					}
				}
				got = append(got, names)
			}
			if len(got[0]) == 0 || !slices.Equal(got[0], got[1]) {
				t.Errorf("bare:\n%s\nmanaged:\n%s", strings.Join(got[0], "\n"), strings.Join(got[1], "\n"))
			}
		})
	}
}
