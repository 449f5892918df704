package fleet_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

// two are instances that have published: one known by addresses, one by its name,
// which says something only seldom.
func two(t testing.TB, s *redistest.Server, opts ...fleet.Option) (often, seldom *fleet.Publisher, live func() []int64) {
	t.Helper()
	opt := s.Options()
	opt.ClientName = "often"
	rdb, m := member(t, opt)
	for range 2 {
		c, err := rdb.Acquire(bg)
		require.NoError(t, err)
		t.Cleanup(c.Release)
	}
	often = publishOf(t, m, rdb, append(opts, fleet.WithLostAfter(300*time.Millisecond))...)
	named := dial(t, s.Options(), "seldom")
	hold(t, named, 3)
	seldom = publish(t, named, append(opts, fleet.WithClientNames("seldom"), fleet.WithInterval(time.Hour), fleet.WithLostAfter(2*time.Hour), fleet.WithRetention(3*time.Hour))...)
	for range 2 {
		require.NoError(t, often.Now(bg))
		require.NoError(t, seldom.Now(bg))
	}
	return often, seldom, func() []int64 { return append(ids(t, s, "often"), ids(t, s, "seldom")...) }
}

// reaper ends everybody but the fleet and those who look.
func reaper(t testing.TB, s *redistest.Server, members *fleet.Members) *serverside.Reaper {
	t.Helper()
	r, err := serverside.NewReaper(dial(t, s.Options(), "reader"), serverside.Policy{Everybody: true, MaxAge: time.Second,
		Spare: serverside.SpareAny(serverside.SpareLive(members), serverside.SpareNames("reader", "judge"))},
		serverside.WithLogger(quiet), serverside.WithoutLock())
	require.NoError(t, err)
	return r
}

func membersOf(t testing.TB, s *redistest.Server) *fleet.Members {
	t.Helper()
	members, err := fleet.NewMembers(dial(t, s.Options(), "reader"), fleet.WithLogger(quiet))
	require.NoError(t, err)
	return members
}

// The one who publishes seldom is not back for an hour.
func TestNobodyWhoLivesIsEndedWhenWhatTheyPublishedIsLost(t *testing.T) {
	const index, hashes = "lifeguard:{fleet:default}:instances", "lifeguard:{fleet:default}:instance:*"
	for what, lose := range map[string]func(t *testing.T, s *redistest.Server, seldom string){
		"FLUSHALL":             func(t *testing.T, s *redistest.Server, _ string) { require.NoError(t, s.Admin().FlushAll(bg).Err()) },
		"the index is evicted": func(t *testing.T, s *redistest.Server, _ string) { require.NoError(t, s.Admin().Del(bg, index).Err()) },
		"a hash is evicted": func(t *testing.T, s *redistest.Server, id string) {
			require.NoError(t, s.Admin().Del(bg, strings.ReplaceAll(hashes, "*", id)).Err())
		},
		"an entry is lost": func(t *testing.T, s *redistest.Server, id string) { // as in a failover with lost writes
			require.NoError(t, s.Admin().Del(bg, strings.ReplaceAll(hashes, "*", id)).Err())
			require.NoError(t, s.Admin().ZRem(bg, index, id).Err())
		},
	} {
		t.Run(what, func(t *testing.T) {
			onEveryServer(t, func(t *testing.T, s *redistest.Server) {
				_, seldom, live := two(t, s)
				before := live()
				require.GreaterOrEqual(t, len(before), 5)
				old, late := reaper(t, s, membersOf(t, s)), func() *serverside.Reaper { return reaper(t, s, membersOf(t, s)) }
				_, err := old.Once(bg) // it has seen them
				require.NoError(t, err)
				lose(t, s, seldom.ID())
				taken := late()
				for last := false; !last; {
					last = oldEnough(t, s, before)
					for _, r := range []*serverside.Reaper{old, taken} {
						rep, err := r.Once(bg)
						require.NoError(t, err)
						require.Zero(t, rep.Closed)
					}
					time.Sleep(100 * time.Millisecond)
				}
				require.Subset(t, live(), before)
				if what != "an entry is lost" { // nobody can know of that who has not seen it
					f := read(t, s.Admin())
					require.NotEmpty(t, f.Gaps)
					assert.Contains(t, f.Gaps[0], "incomplete: ")
				}
			})
		})
	}
}

func TestAnEmptyFleetIsAGap(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	f := read(t, s.Admin())
	require.Len(t, f.Gaps, 1)
	assert.Contains(t, f.Gaps[0], "incomplete: the fleet is empty")
	p := publish(t, dial(t, s.Options(), "x"), fleet.WithLostAfter(300*time.Millisecond))
	require.NoError(t, p.Now(bg))
	assert.Contains(t, read(t, s.Admin()).Gaps[0], "incomplete: the index is new")
	redistest.Eventually(t, "it is known to be complete", soon, func() bool { return len(read(t, s.Admin()).Gaps) == 0 })
	require.NoError(t, p.Close())
	assert.Contains(t, read(t, s.Admin()).Gaps[0], "no instances")
	require.NoError(t, s.Admin().FlushAll(bg).Err())
	assert.Contains(t, read(t, s.Admin()).Gaps[0], "incomplete: the fleet is empty")
}

func TestAnInstanceWhoseWordsWereLostHasTheIndexBeginAnew(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		p := publish(t, dial(t, s.Options(), "x"), fleet.WithLostAfter(300*time.Millisecond))
		q := publish(t, dial(t, s.Options(), "y"), fleet.WithInterval(time.Hour), fleet.WithLostAfter(2*time.Hour), fleet.WithRetention(3*time.Hour))
		require.NoError(t, p.Now(bg))
		require.NoError(t, q.Now(bg))
		index := keyOf(t, s, "*:instances")
		began := func() float64 {
			v, err := s.Admin().ZScore(bg, index, "@began").Result()
			require.NoError(t, err)
			return v
		}
		was := began()
		time.Sleep(5 * time.Millisecond) // the mark is in milliseconds
		require.NoError(t, p.Now(bg))
		assert.Equal(t, was, began())
		// As if a replica without the last words had become the master.
		require.NoError(t, s.Admin().HSet(bg, "lifeguard:{fleet:default}:instance:"+q.ID(), "rev", 0).Err())
		require.NoError(t, p.Now(bg))
		assert.Equal(t, was, began(), "not its own")
		require.NoError(t, q.Now(bg))
		assert.Less(t, began(), was)
		// The longest LostAfter comes back with the next publication of any instance.
		require.NoError(t, p.Now(bg))
		require.NoError(t, s.Admin().FlushAll(bg).Err())
		require.NoError(t, p.Now(bg))
		longest, err := s.Admin().ZScore(bg, index, "@longest").Result()
		require.NoError(t, err)
		assert.EqualValues(t, -2*time.Hour/time.Millisecond, longest)
	})
}

func TestASilentInstanceIsSparedUntilItsKeepIsOver(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	other := publish(t, dial(t, s.Options(), "other"), fleet.WithClientNames("other"), fleet.WithLostAfter(time.Second))
	require.NoError(t, other.Now(bg))
	proxy := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr = proxy.Addr()
	named := dial(t, s.Options(), "stalled")
	hold(t, named, 2)
	p := publish(t, dial(t, opt, "talks"), fleet.WithClientNames("stalled"), fleet.WithLostAfter(500*time.Millisecond), fleet.WithRetention(8*time.Second), fleet.WithTimeout(100*time.Millisecond))
	require.NoError(t, p.Now(bg))
	members := membersOf(t, s)
	require.NoError(t, members.Wait(bg))
	proxy.Stall(true)
	proxy.RefuseNew(true)
	redistest.Eventually(t, "it is lost", soon, func() bool { return read(t, s.Admin()).Lost == 1 })
	assert.True(t, members.Live("10.0.0.1:1", "stalled", time.Hour))
	redistest.Eventually(t, "it is forgotten", soon, func() bool {
		return !members.Live("10.0.0.1:1", "stalled", time.Hour) && len(read(t, s.Admin()).Instances) == 1
	})
}

// Neither publishes by itself meanwhile, so what the second one leaves is known exactly:
// the lowest three, which are marks where there are that many, and MaxInstances others.
func TestAFullIndexIsIncompleteAndHasABoundAlsoWhereTheClockIsDenied(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		for name, denied := range map[string][]any{"where the clock is known": nil, "where the clock is denied": {"-time", "-pexpiretime"}} {
			t.Run(name, func(t *testing.T) {
				require.NoError(t, s.Admin().FlushAll(bg).Err())
				require.NoError(t, s.Admin().Do(bg, append([]any{"ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all"}, denied...)...).Err())
				rdb := func(name string) *redis.Client {
					opt := s.Options()
					opt.Username, opt.Password = "app", "secret"
					return dial(t, opt, name)
				}
				once := []fleet.Option{fleet.WithInterval(time.Hour), fleet.WithLostAfter(2 * time.Hour), fleet.WithRetention(3 * time.Hour)}
				require.NoError(t, publish(t, rdb("x"), once...).Now(bg))
				index := keyOf(t, s, "*:instances")
				end := float64(time.Now().Add(time.Hour).UnixMilli())
				var many []redis.Z
				for i := range fleet.MaxInstances + 500 {
					many = append(many, redis.Z{Score: end, Member: "stranger-" + itoa(int64(i))})
				}
				require.NoError(t, s.Admin().ZAdd(bg, index, many...).Err())
				p := publish(t, rdb("y"), once...)
				require.NoError(t, p.Now(bg))
				assert.Equal(t, denied != nil, strings.Contains(strings.Join(p.Status().Gaps, "\n"), "the index is not pruned"))
				n, err := s.Admin().ZCard(bg, index).Result()
				require.NoError(t, err)
				assert.EqualValues(t, fleet.MaxInstances+3, n)
				f := read(t, rdb("reader"))
				assert.Contains(t, strings.Join(f.Gaps, "\n"), "the index is full")
				assert.Less(t, len(f.Gaps), 10)
				assert.True(t, membersOf(t, s).Live("10.0.0.1:1", "anybody", time.Hour))
			})
		}
	})
}

func TestWithoutTimeTheIndexIsPrunedAndReadAllTheSame(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		require.NoError(t, s.Admin().Do(bg, "ACL", "SETUSER", "notime", "on", ">secret", "~*", "+@all", "-time").Err())
		opt := s.Options()
		opt.Username, opt.Password = "notime", "secret"
		rdb := dial(t, opt, "x")
		p := publish(t, rdb, fleet.WithClientNames("x"), fleet.WithLostAfter(300*time.Millisecond))
		require.NoError(t, p.Now(bg))
		assert.NotContains(t, strings.Join(p.Status().Gaps, "\n"), "pruned")
		index := keyOf(t, s, "*:instances")
		require.NoError(t, s.Admin().ZAdd(bg, index, redis.Z{Score: 1e12, Member: "old"}).Err())
		require.NoError(t, publish(t, rdb, fleet.WithClientNames("x"), fleet.WithLostAfter(300*time.Millisecond)).Now(bg))
		left, err := s.Admin().ZRange(bg, index, 0, -1).Result()
		require.NoError(t, err)
		assert.NotContains(t, left, "old")
		redistest.Eventually(t, "it is known how old the index is", soon, func() bool { return len(read(t, rdb).Gaps) == 0 })
	})
}
