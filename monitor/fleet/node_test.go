package fleet_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
)

func TestOneServerIsOneNodeHoweverItsAddressIsSpelled(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		require.NoError(t, s.Admin().ConfigSet(bg, "maxclients", "100").Err())
		for _, addr := range []string{s.Addr(), strings.Replace(s.Addr(), "127.0.0.1", "localhost", 1)} {
			opt := s.Options()
			opt.Addr = addr
			rdb := dial(t, opt, "x")
			hold(t, rdb, 4)
			p := publish(t, rdb)
			for range 3 { // the first opens a connection, after which it is asked again
				require.NoError(t, p.Now(bg))
			}
		}
		f := read(t, s.Admin())
		require.Len(t, f.Nodes, 1)
		assert.Equal(t, f.Sum.Total, f.Nodes[0].Total)
		assert.Len(t, f.Nodes[0].Names, 2)
		src, err := fleet.NewSource(s.Admin())
		require.NoError(t, err)
		m := watch(t, src)
		n := m.Stats().Nodes
		require.Len(t, n, 1)
		assert.Equal(t, 100, n[0].MaxClients)
		assert.Equal(t, f.Sum.Total, n[0].Open)
	})
}

func TestNumbersThatContradictEachOtherAreAGapOfThatInstance(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	admin := s.Admin()
	p := publish(t, dial(t, s.Options(), "x"))
	require.NoError(t, p.Now(bg))
	require.NoError(t, p.Now(bg))
	good, err := admin.HGetAll(bg, keyOf(t, s, "*:instance:*")).Result()
	require.NoError(t, err)
	index := keyOf(t, s, "*:instances")
	const times = `{"every_ms":1000,"lost_ms":3000,"keep_ms":60000,`
	bad := map[string]map[string]any{
		"active":   {"total": 1, "active": 9, "idle": 0, "data": times + `"rest":{"total":1,"active":9}}`},
		"nodes":    {"data": times + `"nodes":[{"name":"a:1","total":1000}]}`},
		"sum":      {"total": 1 << 32, "active": 0, "data": times + `"nodes":[{"name":"a:1","total":2147483647},{"name":"b:1","total":2147483647}]}`},
		"overflow": {"disconnected": 0, "data": times + `"rest":{"hits":18446744073709551615}}`},
		"address":  {"data": times + `"addrs":{"localhost":[1]}}`},
		"year":     {"started_ms": 1 << 52},
		"long":     {"service": strings.Repeat("x", 1<<20)},
	}
	for id, fields := range bad {
		key := "lifeguard:{fleet:default}:instance:" + id
		require.NoError(t, admin.HSet(bg, key, good).Err())
		require.NoError(t, admin.HSet(bg, key, fields).Err())
		require.NoError(t, admin.Expire(bg, key, time.Hour).Err())
		require.NoError(t, admin.ZAdd(bg, index, zed(id)).Err())
	}
	f := read(t, admin)
	assert.Equal(t, 1, f.Alive)
	all := strings.Join(f.Gaps, "\n")
	for id := range bad {
		assert.Contains(t, all, `instance "`+id+`" cannot be read`)
	}
	_, err = json.Marshal(f)
	require.NoError(t, err)
	assert.Less(t, f.Sum.Hits, uint64(math.MaxInt32))
}

func TestTheSumOfAFleetsCountersDoesNotFallWhenTheLastOfANodeLeaves(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	rdb := dial(t, s.Options(), "x")
	a, b := &script{}, &script{}
	a.set(node("a:1", monitor.Numbers{Dialed: 10, Closed: map[string]uint64{"age": 7}}))
	b.set(node("b:1", monitor.Numbers{Dialed: 3, Closed: map[string]uint64{"age": 2}}))
	pa, pb := publishOf(t, watch(t, a), rdb), publishOf(t, watch(t, b), rdb)
	require.NoError(t, pa.Now(bg))
	require.NoError(t, pb.Now(bg))
	src, err := fleet.NewSource(rdb)
	require.NoError(t, err)
	m := watch(t, src, monitor.WithInterval(time.Hour))
	require.EqualValues(t, 9, m.Stats().ClosedAll())
	require.NoError(t, pa.Close())
	stats := m.Stats()
	assert.EqualValues(t, 9, stats.ClosedAll())
	assert.EqualValues(t, 13, stats.Dialed)
	assert.Len(t, stats.Nodes, 1)
	require.NoError(t, pb.Close())
	assert.EqualValues(t, 9, m.Stats().ClosedAll())
}

func TestWhatAFleetHasDisconnectedDoesNotFallWhenInstancesLeaveOrDie(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		proxy := redistest.NewProxy(t, s.Addr())
		opt := s.Options()
		opt.Addr = proxy.Addr()
		rdb := dial(t, s.Options(), "x")
		a, b := &script{}, &script{}
		closed := func(n uint64) func(*monitor.Sample) {
			return node("a:1", monitor.Numbers{Closed: map[string]uint64{"age": n}})
		}
		a.set(closed(7))
		b.set(closed(2))
		quick := []fleet.Option{fleet.WithInterval(time.Hour), fleet.WithLostAfter(2 * time.Hour), fleet.WithRetention(3 * time.Hour)}
		pa, pb := publishOf(t, watch(t, a), rdb, quick...), publishOf(t, watch(t, b), dial(t, opt, "y"), append(quick, fleet.WithTimeout(300*time.Millisecond))...)
		require.NoError(t, pa.Now(bg))
		require.NoError(t, pb.Now(bg))
		assert.EqualValues(t, 9, read(t, rdb).Disconnected)
		a.set(closed(8))
		require.NoError(t, pa.Close()) // it reports the last one when it leaves
		f := read(t, rdb)
		assert.EqualValues(t, 10, f.Disconnected)
		assert.EqualValues(t, 2, f.Sum.Disconnected)

		// A word that arrives and whose reply is lost counts once, as does one that does
		// not arrive.
		b.set(closed(5))
		for _, lose := range []func(func(int, []byte) redistest.Action){proxy.OnReply, proxy.OnRequest} {
			lose(func(int, []byte) redistest.Action { return redistest.CutBefore })
			require.Error(t, pb.Now(bg))
			lose(nil)
			require.NoError(t, pb.Now(bg))
			assert.EqualValues(t, 13, read(t, rdb).Disconnected)
		}
		// It dies, and its entry expires.
		require.NoError(t, rdb.Del(bg, keyOf(t, s, "*:instance:*")).Err())
		assert.EqualValues(t, 13, read(t, rdb).Disconnected)
	})
}
