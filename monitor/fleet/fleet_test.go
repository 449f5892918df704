package fleet_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
)

func TestReadGivesEveryInstanceAndTheSumsThatTheServerSees(t *testing.T) {
	onEach(t, func(t *testing.T, s *redistest.Server) {
		for _, protocol := range []int{2, 3} {
			opt := s.Options()
			opt.Protocol = protocol
			reader := dial(t, opt, "reader")
			assert.Equal(t, 0, read(t, reader).Alive, "an empty fleet is no error")
			var all []*fleet.Publisher
			var pools []*redis.Client
			for i, service := range []string{"api", "web", "web"} {
				opt := s.Options()
				opt.Protocol = protocol
				rdb := dial(t, opt, "member")
				hold(t, rdb, i+1)
				pools = append(pools, rdb)
				all = append(all, publish(t, rdb, fleet.WithService(service), fleet.WithHost("host")))
			}
			sub := pools[0].Subscribe(bg, "news")
			_, err := sub.Receive(bg)
			require.NoError(t, err)
			for _, p := range all {
				for range 2 { // the first may have opened the connection it went over
					require.NoError(t, p.Now(bg))
				}
			}

			f := read(t, reader)
			require.Empty(t, gaps(f))
			require.Len(t, f.Instances, 3)
			assert.Equal(t, 3, f.Alive)
			assert.Equal(t, count(t, "member", s), f.Sum.Total)
			assert.Equal(t, 7, f.Sum.Active, "1+2+3 held, and a subscriber")
			assert.Equal(t, 1, f.Sum.Subscribed)
			assert.Equal(t, f.Sum.Total-f.Sum.Active, f.Sum.Idle)
			assert.Zero(t, f.Sum.Disconnected)
			require.Len(t, f.Nodes, 1)
			assert.Equal(t, s.Addr(), f.Nodes[0].Name)
			assert.Equal(t, f.Sum.Total, f.Nodes[0].Total)
			one := f.Instances[0]
			assert.Equal(t, "api", one.Service)
			assert.Equal(t, "host", one.Host)
			assert.Equal(t, os.Getpid(), one.PID)
			assert.Equal(t, all[0].ID(), one.ID)
			assert.WithinDuration(t, time.Now(), one.Started, time.Minute)
			assert.False(t, one.Lost)
			assert.Equal(t, 2, one.Active)
			assert.Contains(t, f.String(), "3 instances: total=")
			b, err := json.Marshal(f)
			require.NoError(t, err)
			assert.Contains(t, string(b), `"disconnected":0`)

			for i, p := range all {
				require.NoError(t, p.Close())
				require.NoError(t, p.Close(), "again")
				assert.Error(t, p.Now(bg))
				_ = sub.Close()
				require.NoError(t, pools[i].Close())
			}
			redistest.Eventually(t, "the server has noticed", soon, func() bool { return count(t, "member", s) == 0 })
			assert.Empty(t, read(t, reader).Instances, "they said departed")
			keys, err := s.Admin().Keys(bg, "*").Result()
			require.NoError(t, err)
			assert.Equal(t, []string{"lifeguard:{fleet:default}:instances"}, keys, "the index says for a while that they did")
		}
	})
}

func TestDisconnectedIsWhatWasEnded(t *testing.T) {
	onEach(t, func(t *testing.T, s *redistest.Server) {
		rdb := dial(t, s.Options(), "member")
		p := publish(t, rdb)
		for range 3 {
			c := rdb.Conn()
			id, err := c.ClientID(bg).Result()
			require.NoError(t, err)
			require.NoError(t, s.Admin().ClientKillByFilter(bg, "ID", itoa(id)).Err())
			require.Error(t, c.Ping(bg).Err())
			_ = c.Close()
		}
		for range 2 {
			require.NoError(t, p.Now(bg))
		}
		f := read(t, s.Admin())
		assert.EqualValues(t, 3, f.Sum.Disconnected)
		assert.Equal(t, count(t, "member", s), f.Sum.Total)
		assert.EqualValues(t, f.Sum.Total+3, f.Sum.Dialed)
	})
}

func TestOnAClusterTheFleetIsInOneSlotAndKnowsEachNode(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"redis-server", "valkey-server"} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			cl := redistest.StartCluster(t, program, 3, 0)
			opt := cl.Options()
			opt.ClientName, opt.MaxRedirects = "member", 3
			rdb := redis.NewClusterClient(opt)
			defer rdb.Close()
			for i := range 3 {
				require.NoError(t, rdb.Set(bg, cl.Key(i, "k"), 1, 0).Err())
			}
			a, b := publish(t, rdb, fleet.WithName("blue")), publish(t, rdb, fleet.WithName("green"))
			src, err := fleet.NewSource(rdb, fleet.WithName("blue"), fleet.WithTimeout(10*time.Second))
			require.NoError(t, err)
			m := watch(t, src)
			_ = m.Stats() // it opens connections, too
			for _, p := range []*fleet.Publisher{a, b, a, b} {
				require.NoError(t, p.Now(bg))
			}
			f := read(t, rdb, fleet.WithName("blue"))
			require.Empty(t, gaps(f))
			require.Len(t, f.Instances, 1)
			require.Len(t, f.Nodes, 3)
			redistest.Eventually(t, "the servers agree", soon, func() bool {
				f = read(t, rdb, fleet.WithName("blue"))
				return f.Sum.Total == count(t, "member", cl.Nodes()...)
			})
			sum := 0
			for _, n := range f.Nodes {
				sum += n.Total
			}
			assert.Equal(t, f.Sum.Total, sum)
			stats := m.Stats()
			require.Len(t, stats.Nodes, 3)
			for _, n := range stats.Nodes {
				assert.Equal(t, 10000, n.MaxClients)
			}
			slots := map[int64]bool{}
			for _, s := range cl.Nodes() {
				keys, err := s.Admin().Keys(bg, "*{fleet:blue}*").Result()
				require.NoError(t, err)
				for _, k := range keys {
					slot, err := s.Admin().ClusterKeySlot(bg, k).Result()
					require.NoError(t, err)
					slots[slot] = true
				}
			}
			assert.Len(t, slots, 1)
			require.NoError(t, a.Close())
			assert.Empty(t, read(t, rdb, fleet.WithName("blue")).Instances)
			assert.Len(t, read(t, rdb, fleet.WithName("green")).Instances, 1, "another fleet")
		})
	}
}

func TestOneThatFallsSilentIsLostWithItsLastNumbersAndThenForgotten(t *testing.T) {
	onEach(t, func(t *testing.T, s *redistest.Server) {
		proxy := redistest.NewProxy(t, s.Addr())
		opt := s.Options()
		opt.Addr, opt.PoolSize = proxy.Addr(), 3 // so that the last numbers are those that are read here
		rdb := dial(t, opt, "member")
		hold(t, rdb, 2)
		p := publish(t, rdb, fleet.WithLostAfter(500*time.Millisecond), fleet.WithRetention(2*time.Second), fleet.WithTimeout(200*time.Millisecond))
		for range 2 {
			require.NoError(t, p.Now(bg))
		}
		before := read(t, s.Admin())
		require.Equal(t, 1, before.Alive)
		require.GreaterOrEqual(t, before.Sum.Total, 2)

		proxy.RefuseNew(true)
		proxy.CutAll()
		var f fleet.Fleet
		redistest.Eventually(t, "it is lost", soon, func() bool { f = read(t, s.Admin()); return f.Lost == 1 })
		assert.Zero(t, f.Alive)
		assert.Zero(t, f.Sum)
		assert.Empty(t, f.Nodes)
		assert.Equal(t, before.Sum.Total, f.LostSum.Total)
		require.Len(t, f.Instances, 1)
		assert.Greater(t, f.Instances[0].Age, 500*time.Millisecond)
		assert.Contains(t, f.Instances[0].String(), "lost")
		redistest.Eventually(t, "it is forgotten", soon, func() bool { return len(read(t, s.Admin()).Instances) == 0 })

		proxy.RefuseNew(false)
		redistest.Eventually(t, "it is back", soon, func() bool { return read(t, s.Admin()).Alive == 1 })
	})
}

func TestClocksOfHostsDecideNothing(t *testing.T) {
	onEach(t, func(t *testing.T, s *redistest.Server) {
		// Whoever wrote that had a clock of 1970, or one of the year 2100; the first is
		// over for the index and the others' pruning, until its next word.
		p := publish(t, dial(t, s.Options(), "member"))
		require.NoError(t, p.Now(bg))
		index := keyOf(t, s, "*:instances")
		for _, score := range []float64{1, 4102444800000} {
			require.NoError(t, s.Admin().ZAdd(bg, index, redis.Z{Score: score, Member: p.ID()}).Err())
			f := read(t, s.Admin())
			assert.Equal(t, 1, f.Alive)
			assert.Less(t, f.Instances[0].Age, 5*time.Second)
		}
		require.NoError(t, s.Admin().HSet(bg, keyOf(t, s, "*:instance:"+p.ID()), "started_ms", 4102444800000).Err())
		assert.Equal(t, 1, read(t, s.Admin()).Alive)
	})
}

func TestTheIndexIsPrunedByTheServersClock(t *testing.T) {
	onEach(t, func(t *testing.T, s *redistest.Server) {
		p := publish(t, dial(t, s.Options(), "member"))
		require.NoError(t, p.Now(bg))
		index := keyOf(t, s, "*:instances")
		now, err := s.Admin().Time(bg).Result()
		require.NoError(t, err)
		require.NoError(t, s.Admin().ZAdd(bg, index,
			redis.Z{Score: float64(now.Add(-25*time.Hour - time.Minute).UnixMilli()), Member: "old"},
			redis.Z{Score: float64(now.UnixMilli()), Member: "recent"}).Err())
		q := publish(t, dial(t, s.Options(), "member")) // one that begins sees to the index
		require.NoError(t, q.Now(bg))
		require.NoError(t, q.Close())
		left, err := s.Admin().ZRange(bg, index, 0, -1).Result()
		require.NoError(t, err)
		assert.ElementsMatch(t, []string{"recent", p.ID(), "@began", "@longest", "@departed:" + q.ID()}, left)
		f := read(t, s.Admin())
		assert.Len(t, f.Instances, 1)
		assert.Empty(t, gaps(f), "who has no hash any more is over, and no gap")
		for _, key := range []string{index, keyOf(t, s, "*:instance:*")} {
			ttl, err := s.Admin().TTL(bg, key).Result()
			require.NoError(t, err)
			assert.Positive(t, ttl, "everything expires")
		}
	})
}

func TestAPeriodIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	proxy := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr = proxy.Addr()
	p := publish(t, dial(t, opt, "member"), fleet.WithInterval(time.Hour), fleet.WithLostAfter(3*time.Hour))
	require.NoError(t, p.Now(bg)) // the first introduces itself
	require.NoError(t, p.Now(bg)) // the second asks which server it is, if the Monitor knew of none before
	requests := make(chan string, 100)
	proxy.OnRequest(func(_ int, b []byte) redistest.Action { requests <- string(b); return redistest.Forward })
	for range 5 {
		require.NoError(t, p.Now(bg))
	}
	proxy.OnRequest(nil)
	require.Len(t, requests, 5)
	one := strings.ToLower(<-requests)
	for _, cmd := range []string{"multi", "hget", "hset", "pexpire", "zadd", "exec"} {
		assert.Contains(t, one, cmd)
	}
	t.Logf("%d bytes", len(one))
}

func TestNumbersThatAreNotKnownAreAGap(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	rdb := dial(t, s.Options(), "member")
	src := &script{}
	src.set(func(*monitor.Sample) { panic("broken") })
	p := publishOf(t, watch(t, src), rdb, fleet.WithService("web"))
	require.NoError(t, p.Now(bg))
	f := read(t, rdb)
	assert.Equal(t, 1, f.Alive)
	assert.True(t, f.Instances[0].Unknown)
	require.Len(t, gaps(f), 1)
	assert.Contains(t, gaps(f)[0], "numbers of web on")
	assert.Contains(t, gaps(f)[0], "broken")
}
