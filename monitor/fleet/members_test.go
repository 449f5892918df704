package fleet_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

// listing is a Source of a managed client that lists its connections.
type listing struct {
	monitor.Source
	rdb *managed.Client
}

func (l listing) Connections() (all []monitor.Connection) {
	for _, c := range l.rdb.Conns() {
		all = append(all, monitor.Connection{ID: c.ID, Local: c.Local})
	}
	return all
}

func (listing) Leases() []monitor.Lease { return nil }

func member(t testing.TB, opt *redis.Options) (*managed.Client, *monitor.Monitor) {
	rdb, err := managed.New(opt, managed.WithLogger(quiet))
	require.NoError(t, err)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb, watch(t, listing{monitor.FromClient(rdb), rdb})
}

func ids(t testing.TB, s *redistest.Server, name string) (ids []int64) {
	for _, c := range s.ClientList(t) {
		if c.Name == name {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

func TestAReaperSparesTheLivingAndEndsWhatTheDeadLeftBehind(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		// Two that list their connections, one of plain go-redis that has a name, and
		// what a dead one of the same name as the first two has left.
		var pubs []*fleet.Publisher
		for range 2 {
			opt := s.Options()
			opt.ClientName = "web"
			rdb, m := member(t, opt)
			c, err := rdb.Acquire(bg)
			require.NoError(t, err)
			d, err := rdb.Acquire(bg)
			require.NoError(t, err)
			c.Release()
			d.Release()
			pubs = append(pubs, publishOf(t, m, rdb))
		}
		named := dial(t, s.Options(), "web-3")
		hold(t, named, 2)
		pubs = append(pubs, publish(t, named, fleet.WithClientNames("web-3")))
		for range 2 {
			for _, p := range pubs {
				require.NoError(t, p.Now(bg))
			}
		}
		live := append(ids(t, s, "web"), ids(t, s, "web-3")...)
		require.GreaterOrEqual(t, len(live), 6)
		dead := dial(t, s.Options(), "web")
		hold(t, dead, 3)
		for _, p := range pubs[:2] {
			assert.Empty(t, p.Status().Gaps)
		}

		reader := dial(t, s.Options(), "reader")
		members, err := fleet.NewMembers(reader, fleet.WithLogger(quiet))
		require.NoError(t, err)
		r, err := serverside.NewReaper(reader, serverside.Policy{Name: "web*", MaxAge: time.Second, Spare: serverside.SpareLive(members)},
			serverside.WithLogger(quiet))
		require.NoError(t, err)
		rep, err := r.Once(bg)
		require.NoError(t, err)
		assert.Zero(t, rep.Closed, "what is young may belong to the living")

		ended := 0
		redistest.Eventually(t, "the dead one's are ended", soon, func() bool {
			rep, err := r.Once(bg)
			require.NoError(t, err)
			ended += rep.Closed
			return ended >= 3
		})
		rep, err = r.Once(bg)
		require.NoError(t, err)
		assert.Zero(t, rep.Closed)
		assert.Equal(t, 3, ended)
		left := append(ids(t, s, "web"), ids(t, s, "web-3")...)
		for _, id := range live {
			assert.Contains(t, left, id, "the living were spared")
		}

		require.NoError(t, pubs[2].Close())
		redistest.Eventually(t, "who has said departed is spared no longer", soon, func() bool {
			_, err := r.Once(bg)
			require.NoError(t, err)
			return len(ids(t, s, "web-3")) == 0
		})
	})
}

// go-redis opens MinIdleConns without a handshake, so they have no name yet.
func TestConnectionsOfTheLivingThatHaveNoNameYetAreSpared(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	opt := s.Options()
	opt.MinIdleConns = 2
	rdb := dial(t, opt, "member")
	p := publish(t, rdb, fleet.WithClientNames("member"))
	require.NoError(t, p.Now(bg))
	redistest.Eventually(t, "some have no name", soon, func() bool {
		for _, c := range s.ClientList(t) {
			if c.Name == "" && c.Age >= 4*time.Second {
				return true
			}
		}
		return false
	})
	reader := dial(t, s.Options(), "reader")
	members, err := fleet.NewMembers(reader, fleet.WithLogger(quiet))
	require.NoError(t, err)
	r, err := serverside.NewReaper(reader, serverside.Policy{Everybody: true, MaxAge: time.Second,
		Spare: serverside.SpareAny(serverside.SpareLive(members), serverside.SpareNames("reader", "judge"))}, serverside.WithLogger(quiet))
	require.NoError(t, err)
	rep, err := r.Once(bg)
	require.NoError(t, err)
	assert.Zero(t, rep.Closed)
	assert.Positive(t, rep.Spared)
}

func TestInDoubtEverybodyIsSpared(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	log := &redistest.Log{}
	reader := dial(t, s.Options(), "reader")
	make := func() *fleet.Members {
		members, err := fleet.NewMembers(reader, fleet.WithLogger(log.Logger()))
		require.NoError(t, err)
		return members
	}
	stranger := func(s *fleet.Members) bool { return s.Live("10.0.0.1:1", "stranger", time.Hour) }
	assert.True(t, stranger(make()))
	assert.Contains(t, log.String(), "the fleet is empty")

	rdb := dial(t, s.Options(), "plain")
	p := publish(t, rdb, fleet.WithService("old-service"))
	for range 2 {
		require.NoError(t, p.Now(bg))
	}
	assert.True(t, stranger(make()), "a plain client without a name")
	assert.Contains(t, log.String(), "the connections of old-service on ")
	assert.Contains(t, strings.Join(p.Status().Gaps, "\n"), "does not list them")
	require.NoError(t, p.Close())

	named := publish(t, dial(t, s.Options(), "named"), fleet.WithClientNames("named"))
	for range 2 {
		require.NoError(t, named.Now(bg))
	}
	members := make()
	assert.True(t, stranger(members), "it is not known yet who is missing")
	require.NoError(t, members.Wait(bg))
	assert.False(t, stranger(members))
	assert.True(t, members.Live("10.0.0.1:1", "named", time.Hour))
	assert.True(t, members.Live("10.0.0.1:1", "", time.Hour), "one of MinIdleConns, which has no name yet")
	assert.True(t, members.Live("10.0.0.1:1", "stranger", time.Second), "it may be too young to have been published")
	require.NoError(t, s.Admin().FlushAll(bg).Err())
	redistest.Eventually(t, "it has had another look, or the instance is back", soon, func() bool {
		return members.Live("10.0.0.1:1", "named", time.Hour)
	})
	require.NoError(t, reader.Close())
	assert.True(t, stranger(make()), "no answer")

	// A server that sees other addresses than ours is not believed to know them.
	proxy := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr = proxy.Addr()
	behind, m := member(t, opt)
	p = publishOf(t, m, behind)
	require.NoError(t, p.Now(bg))
	assert.Contains(t, strings.Join(p.Status().Gaps, "\n"), "none has the one that the server sees")
	f := read(t, s.Admin())
	for _, i := range f.Instances {
		assert.Empty(t, i.Addrs)
	}
}

func TestANilFleetSparesEverybody(t *testing.T) {
	t.Parallel()
	for _, f := range []serverside.Fleet{nil, (*fleet.Members)(nil)} {
		assert.True(t, serverside.SpareLive(f)(serverside.Client{}))
	}
}
