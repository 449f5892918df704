package peers_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// fault is what happens to the connections of a round, for about d. It returns
// when the fault began to be over, from which the recovery is counted.
type fault struct {
	name  string
	about string
	proxy bool // the clients connect through a proxy
	run   func(t *testing.T, s *redistest.Server, p *redistest.Proxy, d time.Duration) (over time.Time)
}

var faults = []fault{
	{"all connections killed every 20 ms", "The server ends all connections (CLIENT KILL) every 20 ms, for 3 s. Recovery: since the last kill.", false,
		func(t *testing.T, s *redistest.Server, _ *redistest.Proxy, d time.Duration) time.Time {
			var last time.Time
			for until := time.Now().Add(d); time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
				s.KillClients(t)
				last = time.Now()
			}
			return last
		}},
	{"server killed, back after 2 s", "kill -9, and a restart with its data after 2 s. Recovery: since it answers again.", false,
		func(_ *testing.T, s *redistest.Server, _ *redistest.Proxy, d time.Duration) time.Time {
			s.Kill()
			time.Sleep(d * 2 / 3)
			s.Restart()
			return time.Now()
		}},
	{"half-open connections", "Through a proxy: once, all existing connections become black holes; new ones work. Recovery: since then.", true,
		func(_ *testing.T, _ *redistest.Server, p *redistest.Proxy, d time.Duration) time.Time {
			p.StallExisting()
			over := time.Now()
			time.Sleep(d)
			return over
		}},
	{"replies lost", "Through a proxy: for 3 s, a connection is cut before 1 in 100 chunks of replies, whose commands had been carried out. Recovery: since the last cut.", true,
		func(_ *testing.T, _ *redistest.Server, p *redistest.Proxy, d time.Duration) time.Time {
			p.OnReply(func(int, []byte) redistest.Action {
				if rand.IntN(100) == 0 {
					return redistest.CutBefore
				}
				return redistest.Forward
			})
			time.Sleep(d)
			p.OnReply(nil)
			return time.Now()
		}},
	{"slow server", "DEBUG SLEEP 2: the server carries out nothing for 2 s, and then all that it was sent. Recovery: since it goes on.", false,
		func(t *testing.T, s *redistest.Server, _ *redistest.Proxy, d time.Duration) time.Time {
			if err := s.Admin().Do(t.Context(), "DEBUG", "SLEEP", (d * 2 / 3).Seconds()).Err(); err != nil {
				t.Fatal(err)
			}
			return time.Now()
		}},
}
