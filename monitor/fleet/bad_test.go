package fleet_test

import (
	"context"
	"strconv"
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

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// keyOf is the one key that the pattern is about.
func keyOf(t testing.TB, s *redistest.Server, pattern string) string {
	t.Helper()
	keys, err := s.Admin().Keys(bg, pattern).Result()
	require.NoError(t, err)
	require.Len(t, keys, 1)
	return keys[0]
}

func TestWhatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	rdb := dial(t, &redis.Options{Addr: "127.0.0.1:1"}, "")
	m := watch(t, monitor.FromClient(rdb))
	for want, o := range map[string]fleet.Option{
		"WithName: a name has 1 to 100":              fleet.WithName(""),
		"WithName: \"a}b\"":                          fleet.WithName("a}b"),
		"WithName: \"a b\"":                          fleet.WithName("a b"),
		"WithName: a name has 1 to 100 bytes":        fleet.WithName(strings.Repeat("x", 101)),
		"WithService: it has 1 to 200":               fleet.WithService(""),
		"WithService: \"a\\n\": printable":           fleet.WithService("a\n"),
		"WithService: \"\\xff\" is not UTF-8":        fleet.WithService("\xff"),
		"WithHost: it has":                           fleet.WithHost(""),
		"WithInterval: 99ms is too short":            fleet.WithInterval(99 * time.Millisecond),
		"WithInterval: 0s is too short":              fleet.WithInterval(0),
		"WithInterval: -1s":                          fleet.WithInterval(-time.Second),
		"WithLostAfter: 0s must be positive":         fleet.WithLostAfter(0),
		"WithLostAfter: 19s is less than 2":          fleet.WithLostAfter(19 * time.Second),
		"WithLostAfter: 23h0m0s is too long":         fleet.WithLostAfter(23 * time.Hour),
		"WithRetention: 0s":                          fleet.WithRetention(0),
		"WithRetention: 25h0m0s":                     fleet.WithRetention(25 * time.Hour),
		"WithRetention: 30s must be longer":          fleet.WithRetention(30 * time.Second),
		"WithTimeout: 0s":                            fleet.WithTimeout(0),
		"WithClientNames: it has 1":                  fleet.WithClientNames("a", ""),
		"WithClientNames: \"a b\"":                   fleet.WithClientNames("a b"),
		"an option: it is empty":                     {},
		"WithMaxClients: it is no option of Publish": fleet.WithMaxClients("a", 1),
	} {
		p, err := fleet.Publish(m, rdb, o)
		assert.ErrorContains(t, err, "lifeguard/monitor/fleet: Publish: "+want)
		assert.Nil(t, p)
	}
	_, err := fleet.Publish(nil, rdb)
	assert.ErrorContains(t, err, "the Monitor is nil")
	for _, none := range []redis.UniversalClient{nil, (*redis.Client)(nil), (*redis.ClusterClient)(nil)} {
		_, err = fleet.Publish(m, none)
		assert.ErrorContains(t, err, "Publish: the client is nil")
		_, err = fleet.Read(bg, none)
		assert.ErrorContains(t, err, "Read: the client is nil")
		_, err = fleet.NewSource(none)
		assert.ErrorContains(t, err, "NewSource: the client is nil")
		_, err = fleet.NewMembers(none)
		assert.ErrorContains(t, err, "NewMembers: the client is nil")
	}
	_, err = fleet.Read(bg, rdb, fleet.WithInterval(time.Second))
	assert.ErrorContains(t, err, "Read: WithInterval: it is no option of Read")
	for _, o := range []fleet.Option{fleet.WithMaxClients("", 1), fleet.WithMaxClients("a", 0)} {
		_, err = fleet.NewSource(rdb, o)
		assert.ErrorContains(t, err, "NewSource: WithMaxClients")
	}
	_, err = fleet.NewMembers(rdb, fleet.WithName("{"))
	assert.ErrorContains(t, err, "NewMembers: WithName")
}

func TestAServerThatIsAwayIsAnErrorAndDelaysNobody(t *testing.T) {
	t.Parallel()
	rdb := dial(t, &redis.Options{Addr: "127.0.0.1:1"}, "")
	f, err := fleet.Read(bg, rdb)
	assert.ErrorContains(t, err, `lifeguard/monitor/fleet: Read: the index of fleet "default": `)
	assert.Zero(t, f)
	log := &redistest.Log{}
	p := publish(t, rdb, fleet.WithLogger(log.Logger()))
	redistest.Eventually(t, "failures are counted", soon, func() bool { return p.Status().Failed >= 3 })
	assert.Equal(t, 1, strings.Count(log.String(), "cannot publish to the fleet"), "logged once")
	assert.Error(t, p.Status().Err)
	assert.Zero(t, p.Status().Published)
	assert.NoError(t, p.Close(), "nothing was written, so there is no departed")

	s := redistest.Start(t, "--requirepass", "secret")
	opt := s.Options()
	opt.Password = "wrong"
	_, err = fleet.Read(bg, dial(t, opt, ""))
	assert.ErrorContains(t, err, "WRONGPASS")
	assert.NotContains(t, err.Error(), "wrong ")
	p = publish(t, dial(t, opt, ""))
	assert.ErrorContains(t, p.Now(bg), "WRONGPASS")
	ctx, cancel := context.WithCancel(bg)
	cancel()
	_, err = fleet.Read(ctx, dial(t, s.Options(), ""))
	assert.ErrorIs(t, err, context.Canceled)
}

func TestABlockedServerDelaysNeitherPublishNorClose(t *testing.T) {
	onEach(t, func(t *testing.T, s *redistest.Server) {
		log := &redistest.Log{}
		rdb := dial(t, s.Options(), "member")
		reader := dial(t, s.Options(), "reader")
		p := publish(t, rdb, fleet.WithLogger(log.Logger()), fleet.WithTimeout(300*time.Millisecond))
		require.NoError(t, p.Now(bg))
		members, err := fleet.NewMembers(reader, fleet.WithLogger(quiet), fleet.WithTimeout(300*time.Millisecond))
		require.NoError(t, err)
		src, err := fleet.NewSource(reader, fleet.WithTimeout(300*time.Millisecond))
		require.NoError(t, err)

		s.Pause()
		start := time.Now()
		q := publish(t, dial(t, s.Options(), "member"), fleet.WithTimeout(300*time.Millisecond))
		stats := watch(t, src).Stats()
		assert.Less(t, time.Since(start), 5*time.Second)
		assert.False(t, stats.Known("open"))
		assert.Contains(t, strings.Join(stats.Gaps, "\n"), "all gauges: lifeguard/monitor/fleet: ")
		assert.True(t, members.Live("10.0.0.1:1", "anybody", time.Hour), "in doubt")
		redistest.Eventually(t, "failures are counted", soon, func() bool { return p.Status().Failed > 1 && q.Status().Failed > 0 })
		assert.Equal(t, 1, strings.Count(log.String(), "cannot publish to the fleet"))
		start = time.Now()
		_ = q.Close()
		assert.Less(t, time.Since(start), 5*time.Second)
		s.Resume()
		redistest.Eventually(t, "it is published again", soon, func() bool { return p.Status().Err == nil })
		redistest.Eventually(t, "that is logged", soon, func() bool { return strings.Contains(log.String(), "publishing to the fleet again") })
	})
}

func TestACloseThatDoesNotReachTheServerIsAnError(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	rdb := dial(t, s.Options(), "member")
	p := publish(t, rdb, fleet.WithTimeout(300*time.Millisecond))
	require.NoError(t, p.Now(bg))
	s.Pause()
	err := p.Close()
	s.Resume()
	assert.ErrorContains(t, err, "fleet \"default\"")
	assert.Equal(t, err, p.Close())

	rdb = dial(t, s.Options(), "member")
	p = publish(t, rdb)
	require.NoError(t, p.Now(bg))
	require.NoError(t, rdb.Close())
	assert.ErrorIs(t, p.Close(), redis.ErrClosed, "the client was closed first")
}

func TestWhatTheServerForbidsIsSaid(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		user := func(name string, rules ...any) *redis.Client {
			args := append([]any{"ACL", "SETUSER", name, "on", ">secret", "~*", "+@all"}, rules...)
			require.NoError(t, s.Admin().Do(bg, args...).Err())
			opt := s.Options()
			opt.Username, opt.Password = name, "secret"
			return dial(t, opt, name)
		}
		for name, rule := range map[string]string{"nohset": "-hset", "noexpire": "-pexpire", "nozadd": "-zadd", "noprune": "-zremrangebyscore", "noexec": "-exec"} {
			p := publish(t, user(name, rule))
			err := p.Now(bg)
			assert.ErrorContains(t, err, "NOPERM")
			assert.ErrorContains(t, err, "(needs MULTI, EXEC, HGET, HSET, PEXPIRE, ZADD, ZSCORE, ZREMRANGEBYSCORE and ZREMRANGEBYRANK)")
			assert.ErrorIs(t, p.Status().Err, err)
			_ = p.Close()
		}
		keys, err := s.Admin().Keys(bg, "*").Result()
		require.NoError(t, err)
		assert.Empty(t, keys, "all or nothing")

		p := publish(t, user("nokeys", "resetkeys", "~other*"))
		err = p.Now(bg)
		assert.ErrorContains(t, err, "NOPERM")
		assert.NotContains(t, err.Error(), p.ID(), "errors name no keys")

		p = publish(t, user("notime", "-time", "-pexpiretime", "-client|info"))
		require.NoError(t, p.Now(bg), "these can be done without")
		gaps := strings.Join(p.Status().Gaps, "\n")
		assert.Contains(t, gaps, "the index is not pruned: TIME: NOPERM")
		assert.Contains(t, gaps, "PEXPIRETIME: NOPERM")
		assert.Contains(t, gaps, "CLIENT INFO: NOPERM")
		assert.Equal(t, 1, read(t, s.Admin()).Alive)

		for name, rule := range map[string]string{"nozrange": "-zrange", "nohgetall": "-hgetall", "nopttl": "-pttl"} {
			f, err := fleet.Read(bg, user(name, rule))
			assert.ErrorContains(t, err, "NOPERM")
			assert.ErrorContains(t, err, "(needs ZRANGE, HGETALL and PTTL)")
			assert.Zero(t, f)
		}
		p = publish(t, user("nodel", "-del"))
		require.NoError(t, p.Now(bg))
		assert.ErrorContains(t, p.Close(), "(needs MULTI, EXEC, DEL, ZREM, ZADD and PEXPIRE)")
	})
}

func TestSomethingElseAtAKeyIsAnErrorOrAGap(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		admin := s.Admin()
		require.NoError(t, admin.Set(bg, "lifeguard:{fleet:default}:instances", "text", 0).Err())
		_, err := fleet.Read(bg, admin)
		assert.ErrorContains(t, err, "WRONGTYPE")
		assert.ErrorContains(t, err, "give the fleet another Name")
		p := publish(t, dial(t, s.Options(), "member"))
		assert.ErrorContains(t, p.Now(bg), "WRONGTYPE")
		require.NoError(t, admin.Del(bg, "lifeguard:{fleet:default}:instances").Err())
		require.NoError(t, p.Now(bg))

		members, err := fleet.NewMembers(admin, fleet.WithLogger(quiet))
		require.NoError(t, err)
		index := keyOf(t, s, "*:instances")
		broken := func(name string, make func(key string) error) {
			key := "lifeguard:{fleet:default}:instance:" + name
			require.NoError(t, make(key))
			require.NoError(t, admin.ZAdd(bg, index, redis.Z{Score: 1e15, Member: name}).Err())
		}
		good, err := admin.HGetAll(bg, keyOf(t, s, "*:instance:*")).Result()
		require.NoError(t, err)
		change := func(field, value string) func(string) error {
			return func(key string) error {
				if err := admin.HSet(bg, key, good).Err(); err != nil {
					return err
				}
				if value == "" {
					admin.HDel(bg, key, field)
				} else {
					admin.HSet(bg, key, field, value)
				}
				return admin.Expire(bg, key, time.Hour).Err()
			}
		}
		broken("text", func(key string) error { return admin.Set(bg, key, "text", time.Hour).Err() })
		broken("forever", func(key string) error { return admin.HSet(bg, key, good).Err() })
		broken("newer", change("v", "2"))
		broken("missing", change("host", ""))
		broken("negative", change("total", "-1"))
		broken("differs", change("active", "77"))
		broken("torn", change("data", `{"nodes":[{"name":`))
		broken("huge", change("data", `{"every_ms":1000,"lost_ms":3000,"keep_ms":60000,"rest":{"total":99999999999}}`))
		f := read(t, admin)
		assert.Len(t, f.Instances, 1)
		assert.Equal(t, f.Instances[0].Numbers, f.Sum, "only what can be read is added up")
		assert.Len(t, gaps(f), 8, f.Gaps)
		gaps := strings.Join(f.Gaps, "\n")
		for _, want := range []string{
			`instance "text" cannot be read: it is no hash`, `"forever" cannot be read: it does not expire`, `"newer" cannot be read: it is of version 2`,
			`"missing" cannot be read: host: it is missing`, `"negative" cannot be read: total: "-1" is no number`,
			`"differs" cannot be read: active: data says otherwise`, `"torn" cannot be read: data: `, `"huge" cannot be read: data: 99999999999`,
		} {
			assert.Contains(t, gaps, want)
		}
		assert.True(t, members.Live("10.0.0.1:1", "anybody", time.Hour), "who cannot be read may be alive")
	})
}

func TestWithoutMultiAnInstancePublishesAllTheSameAndCostsNoConnections(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		require.NoError(t, s.Admin().Do(bg, "ACL", "SETUSER", "nomulti", "on", ">secret", "~*", "+@all", "-multi").Err())
		opt := s.Options()
		opt.Username, opt.Password = "nomulti", "secret"
		rdb, m := member(t, opt)
		p := publishOf(t, m, rdb, fleet.WithClientNames("x"))
		require.NoError(t, p.Now(bg))
		assert.Contains(t, strings.Join(p.Status().Gaps, "\n"), "MULTI: NOPERM")
		for range 3 { // the one that found it out may have cost a connection, which is replaced
			require.NoError(t, p.Now(bg))
		}
		dialed := rdb.Stats().Dialed
		for range 10 {
			require.NoError(t, p.Now(bg))
		}
		assert.Equal(t, dialed, rdb.Stats().Dialed)
		assert.Equal(t, 1, read(t, s.Admin()).Alive)
		require.NoError(t, p.Close())
		assert.Empty(t, read(t, s.Admin()).Instances)
	})
}

// zed is a member of the index whose entry is there for a while.
func zed(id string) redis.Z {
	return redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMilli()), Member: id}
}
