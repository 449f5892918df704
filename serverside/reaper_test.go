package serverside_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

func TestOldConnectionsAreClosedAndOthersAreNot(t *testing.T) {
	onEach(t, func(t *testing.T, s *redistest.Server) {
		connect(t, s, "zombie", 3)
		connect(t, s, "web", 2)
		age(t, s, "zombie", 2*time.Second)
		connect(t, s, "zombie", 1) // young

		var kills []serverside.Kill
		var logged bytes.Buffer
		rdb := dial(t, s, "reaper")
		r := reaper(t, rdb, serverside.Policy{Name: "zombie", MaxAge: 2 * time.Second},
			serverside.WithKillHandler(func(k serverside.Kill) { kills = append(kills, k) }),
			serverside.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))
		rep, err := r.Once(bg)
		require.NoError(t, err)
		assert.Equal(t, 3, rep.Closed)
		assert.Equal(t, 3, rep.Due)
		assert.False(t, rep.Busy)
		assert.Equal(t, kills, rep.Kills)
		if assert.Len(t, kills, 3) {
			for _, k := range kills {
				assert.Equal(t, "zombie", k.Client.Name)
				assert.Equal(t, serverside.ReasonAge, k.Reason)
				assert.Equal(t, s.Addr(), k.Node)
				assert.GreaterOrEqual(t, k.Client.Age, 2*time.Second)
			}
		}
		assert.Equal(t, 3, strings.Count(logged.String(), "client closed"))
		assert.Contains(t, logged.String(), "kill.client.name=zombie")
		assert.Contains(t, rep.String(), "closed 3 of ")
		assert.Equal(t, 1, count(t, s, "zombie"))
		assert.Equal(t, 2, count(t, s, "web"))

		rep, err = r.Once(bg)
		require.NoError(t, err)
		assert.Zero(t, rep.Closed)
	})
}

func TestIdleConnectionsAreClosedAndThoseThatWaitForTheServerAreNot(t *testing.T) {
	onEach(t, func(t *testing.T, s *redistest.Server) {
		idle := connect(t, s, "idle", 1)
		busy := connect(t, s, "busy", 1)
		blocked := dial(t, s, "blocked", func(o *redis.Options) { o.ReadTimeout = -1 })
		ctx, cancel := context.WithCancel(bg)
		var wg sync.WaitGroup
		wg.Go(func() { blocked.BLPop(ctx, 0, "nothing") })
		defer func() { cancel(); s.KillClients(t); wg.Wait() }()
		redistest.Eventually(t, "it is blocked", soon, func() bool { return count(t, s, "blocked") == 1 })
		age(t, s, "idle", 2*time.Second)
		age(t, s, "blocked", 2*time.Second)
		require.NoError(t, busy[0].Ping(bg).Err())

		r := reaper(t, dial(t, s, "reaper"), serverside.Policy{Everybody: true, MaxIdle: 2 * time.Second,
			Spare: serverside.SpareNames("judge")})
		rep, err := r.Once(bg)
		require.NoError(t, err)
		if assert.Len(t, rep.Kills, 1, "%v", rep.Kills) {
			assert.Equal(t, "idle", rep.Kills[0].Client.Name)
			assert.Equal(t, serverside.ReasonIdle, rep.Kills[0].Reason)
		}
		assert.Error(t, idle[0].Ping(bg).Err())
		assert.NoError(t, busy[0].Ping(bg).Err())
		assert.Equal(t, 1, count(t, s, "blocked"))
	})
}

func TestThePoolsOfTheFleetAreSpared(t *testing.T) {
	onEach(t, func(t *testing.T, s *redistest.Server) {
		byName := connect(t, s, "web-1", 1)
		byID := connect(t, s, "x", 1)
		byAddr := connect(t, s, "x", 1)
		connect(t, s, "x", 2)
		id, err := byID[0].ClientID(bg).Result()
		require.NoError(t, err)
		info, err := byAddr[0].ClientInfo(bg).Result()
		require.NoError(t, err)
		age(t, s, "x", time.Second)
		age(t, s, "web-1", time.Second)

		r := reaper(t, dial(t, s, "reaper"), serverside.Policy{
			Everybody: true, MaxAge: time.Second, PerSecond: -1, // no bound, yet a look at each
			Spare: serverside.SpareAny(
				serverside.SpareNames("web-*", "judge"),
				serverside.SpareIDs(func() []int64 { return []int64{id} }),
				serverside.SpareAddrs(func() []string { return []string{info.Addr} }),
			),
		})
		rep, err := r.Once(bg)
		require.NoError(t, err)
		assert.Equal(t, 2, rep.Closed)
		assert.GreaterOrEqual(t, rep.Spared, 3)
		assert.Equal(t, rep.Due, rep.Closed+rep.Spared)
		for _, c := range []*redis.Conn{byName[0], byID[0], byAddr[0]} {
			assert.NoError(t, c.Ping(bg).Err())
		}
	})
}

func TestASpareThatPanicsSparesEverybody(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	connect(t, s, "x", 2)
	age(t, s, "x", time.Second)
	r := reaper(t, dial(t, s, "reaper"), serverside.Policy{Name: "x", MaxAge: time.Second,
		Spare: func(serverside.Client) bool { panic("oops") }})
	rep, err := r.Once(bg)
	require.NoError(t, err)
	assert.Equal(t, 2, rep.Spared)
	assert.Zero(t, rep.Closed)
	assert.Equal(t, 2, count(t, s, "x"))
}

func TestTheReaperNeverClosesItsOwnConnection(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		acl := func(user string, rules ...any) {
			args := append([]any{"ACL", "SETUSER", user, "on", ">secret", "~*", "+@all"}, rules...)
			require.NoError(t, s.Admin().Do(bg, args...).Err())
		}
		acl("knows")
		acl("guesses", "-client|id") // nobody but the server knows which one is its own
		for _, user := range []string{"knows", "guesses"} {
			rdb := dial(t, s, "reaper", as(user), func(o *redis.Options) { o.PoolSize = 1 })
			require.NoError(t, rdb.Ping(bg).Err())
			own := func() (id int64) {
				for _, c := range s.ClientList(t) {
					if c.Name == "reaper" && c.User == user {
						id = c.ID
					}
				}
				return id
			}
			before := own()
			for _, perSecond := range []int{0, -1} { // one by one, and all at once
				connect(t, s, "x", 1, as(user))
				age(t, s, "x", time.Second)
				redistest.Eventually(t, "the reaper's own connection is old", soon, func() bool {
					for _, c := range s.ClientList(t) {
						if c.ID == before {
							return c.Age >= time.Second
						}
					}
					return false
				})
				r := reaper(t, rdb, serverside.Policy{User: user, MaxAge: time.Second, PerSecond: perSecond})
				rep, err := r.Once(bg)
				require.NoError(t, err)
				assert.Equal(t, 1, rep.Closed)
				if user == "knows" {
					assert.Equal(t, 1, rep.Due, "its own connection is not one of them")
				}
				assert.Zero(t, count(t, s, "x"))
				require.NoError(t, rdb.Ping(bg).Err())
				assert.Equal(t, before, own())
			}
			require.NoError(t, rdb.Close())
		}
	})
}

func TestADryRunEndsNobodyAndWritesNothing(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	connect(t, s, "x", 2)
	age(t, s, "x", time.Second)
	require.NoError(t, s.Admin().Set(bg, serverside.DefaultLockKey, "somebody", 0).Err())
	rdb := dial(t, s, "reaper")
	var sent []string
	rdb.AddHook(refuse(func(args []any) error { sent = append(sent, strings.ToLower(fmt.Sprint(args...))); return nil }))
	told := 0
	r := reaper(t, rdb, serverside.Policy{Name: "x", MaxAge: time.Second, DryRun: true},
		serverside.WithKillHandler(func(k serverside.Kill) {
			assert.True(t, k.DryRun)
			told++
		}))
	rep, err := r.Once(bg)
	require.NoError(t, err)
	assert.True(t, rep.DryRun)
	assert.Len(t, rep.Kills, 2)
	assert.Equal(t, 2, told)
	assert.Zero(t, rep.Closed)
	assert.Contains(t, rep.String(), "would close 2 of")
	assert.Equal(t, 2, count(t, s, "x"))
	for _, cmd := range sent {
		assert.NotContains(t, cmd, "kill")
		assert.NotContains(t, cmd, "set"+serverside.DefaultLockKey)
	}
}

func TestWithoutABoundOneCommandEndsThemAll(t *testing.T) {
	onEach(t, func(t *testing.T, s *redistest.Server) {
		require.NoError(t, s.Admin().Do(bg, "ACL", "SETUSER", "ci", "on", ">secret", "+@all").Err())
		connect(t, s, "x", 5, as("ci"))
		connect(t, s, "other", 1)
		age(t, s, "x", time.Second)
		age(t, s, "other", time.Second)
		rdb := dial(t, s, "reaper")
		kills := 0
		rdb.AddHook(refuse(func(args []any) error {
			if len(args) > 1 && args[1] == "KILL" {
				kills++
			}
			return nil
		}))
		r := reaper(t, rdb, serverside.Policy{User: "ci", MaxAge: time.Second, PerSecond: -1})
		rep, err := r.Once(bg)
		require.NoError(t, err)
		assert.Equal(t, 1, kills)
		assert.Equal(t, 5, rep.Closed)
		if assert.Len(t, rep.Kills, 1) {
			assert.Equal(t, 5, rep.Kills[0].Count)
			assert.Equal(t, s.Addr(), rep.Kills[0].Node)
		}
		assert.Zero(t, count(t, s, "x"))
		assert.Equal(t, 1, count(t, s, "other"))
	})
}

func TestOnServersWithoutMaxAgeTheyAreClosedByID(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	for _, perSecond := range []int{0, -1} {
		connect(t, s, "x", 3)
		age(t, s, "x", time.Second)
		rdb := dial(t, s, "reaper")
		asked := 0
		rdb.AddHook(refuse(func(args []any) error { // as Redis 7.2 does
			for _, a := range args {
				if a == "MAXAGE" {
					asked++
					return answer("ERR syntax error")
				}
			}
			return nil
		}))
		r := reaper(t, rdb, serverside.Policy{Addr: "127.0.0.1", Name: "x", MaxAge: time.Second, PerSecond: perSecond})
		rep, err := r.Once(bg)
		require.NoError(t, err)
		assert.Equal(t, 3, rep.Closed)
		assert.Equal(t, 1, asked, "it is asked once in a sweep")
		assert.Zero(t, count(t, s, "x"))

		connect(t, s, "x", 2)
		age(t, s, "x", time.Second)
		r = reaper(t, rdb, serverside.Policy{User: "default", MaxAge: time.Second, PerSecond: -1,
			Type: serverside.TypeNormal})
		rep, err = r.Once(bg)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, rep.Closed, 2)
		assert.Zero(t, count(t, s, "x"))
	}
}

func TestKillsAreSpreadOutAndTheListIsReadAgain(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	conns := connect(t, s, "x", 6)
	age(t, s, "x", 2*time.Second)
	// From the first end on all others are used all the time.
	r := reaper(t, dial(t, s, "reaper"), serverside.Policy{Name: "x", MaxIdle: 2 * time.Second, PerSecond: 4},
		serverside.WithKillHandler(func(serverside.Kill) {
			for _, c := range conns {
				_ = c.Ping(bg).Err()
			}
		}))
	rep, err := r.Once(bg)
	require.NoError(t, err)
	assert.Equal(t, 6, rep.Due)
	assert.LessOrEqual(t, rep.Closed, 4, "after a second the reaper looks again")
	assert.GreaterOrEqual(t, rep.Gone, 2)
	assert.Equal(t, 6, rep.Closed+rep.Gone)
	assert.GreaterOrEqual(t, rep.Took, time.Duration(rep.Closed-1)*250*time.Millisecond)
	assert.Equal(t, rep.Gone, count(t, s, "x"))
}

func TestADryRunSaysThatAnotherReaperHasTheLock(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		rdb := dial(t, s, "me")
		r := reaper(t, rdb, serverside.Policy{Name: "x", MaxAge: time.Second, DryRun: true})
		rep, err := r.Once(t.Context())
		require.NoError(t, err)
		assert.False(t, rep.Busy)
		require.NoError(t, s.Admin().Set(t.Context(), serverside.DefaultLockKey, "another", time.Minute).Err())
		rep, err = r.Once(t.Context())
		require.NoError(t, err)
		assert.True(t, rep.Busy)
		assert.NotZero(t, rep.Seen, "it looks all the same")
		assert.Contains(t, rep.String(), "another reaper is at work; without it: would close 0 of")
		left, err := s.Admin().Get(t.Context(), serverside.DefaultLockKey).Result()
		require.NoError(t, err)
		assert.Equal(t, "another", left)
	})
}

func TestOnlyOneReaperWorksAtATime(t *testing.T) {
	onEach(t, func(t *testing.T, s *redistest.Server) {
		connect(t, s, "x", 2)
		age(t, s, "x", time.Second)
		p := serverside.Policy{Name: "x", MaxAge: time.Second}
		second := reaper(t, dial(t, s, "b"), p)
		var busy serverside.Report
		var err error
		first := reaper(t, dial(t, s, "a"), p, serverside.WithKillHandler(func(serverside.Kill) {
			busy, err = second.Once(bg)
		}))
		rep, ferr := first.Once(bg)
		require.NoError(t, ferr)
		require.NoError(t, err)
		assert.True(t, busy.Busy)
		assert.Zero(t, busy.Seen)
		assert.Equal(t, "another reaper is at work", busy.String())
		assert.Equal(t, 2, rep.Closed)

		rep, err = second.Once(bg)
		require.NoError(t, err)
		assert.False(t, rep.Busy, "the first one gave the lock back")
	})
}

func TestALockOfSomebodyElseIsNeverReleased(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	connect(t, s, "x", 4)
	age(t, s, "x", time.Second)
	admin := s.Admin()
	const key = "somewhere:{else}"
	stolen := 0
	r := reaper(t, dial(t, s, "a"), serverside.Policy{Name: "x", MaxAge: time.Second},
		serverside.WithLock(key, time.Second),
		serverside.WithKillHandler(func(serverside.Kill) {
			stolen++
			// It hangs for so long that the lock expires, and somebody takes it.
			require.NoError(t, admin.Set(bg, key, "somebody", 0).Err())
			time.Sleep(600 * time.Millisecond)
		}))
	rep, err := r.Once(bg)
	assert.ErrorIs(t, err, serverside.ErrLockLost)
	assert.Equal(t, 1, rep.Closed)
	assert.Equal(t, 1, stolen)
	assert.Equal(t, "somebody", admin.Get(bg, key).Val())
	assert.Equal(t, 3, count(t, s, "x"))
}

func TestOnlyItsOwnLockIsReleased(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	require.NoError(t, s.Admin().Do(bg, "ACL", "SETUSER", "noscript", "on", ">secret", "~*", "+@all", "-@scripting").Err())
	for _, user := range []string{"", "noscript"} {
		connect(t, s, "x", 1)
		age(t, s, "x", time.Second)
		key := "lock:" + user
		rdb := dial(t, s, "a")
		if user != "" {
			rdb = dial(t, s, "a", as(user))
		}
		r := reaper(t, rdb, serverside.Policy{Name: "x", MaxAge: time.Second}, serverside.WithLock(key, time.Minute),
			serverside.WithKillHandler(func(serverside.Kill) { s.Admin().Set(bg, key, "somebody", 0) }))
		rep, err := r.Once(bg)
		require.NoError(t, err)
		assert.Equal(t, 1, rep.Closed)
		assert.Equal(t, "somebody", s.Admin().Get(bg, key).Val())
	}
}

func TestTheLockWorksWithoutScripts(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	require.NoError(t, s.Admin().Do(bg, "ACL", "SETUSER", "noscript", "on", ">secret", "~*", "+@all", "-@scripting").Err())
	require.NoError(t, s.Admin().Do(bg, "ACL", "SETUSER", "notx", "on", ">secret", "~*", "+@all", "-@scripting", "-@transaction").Err())
	p := serverside.Policy{Name: "x", MaxAge: time.Second}

	rep, err := reaper(t, dial(t, s, "a", as("noscript")), p).Once(bg)
	require.NoError(t, err)
	assert.False(t, rep.Busy)
	assert.Zero(t, s.Admin().Exists(bg, serverside.DefaultLockKey).Val(), "given back by WATCH and EXEC")

	require.NoError(t, s.Admin().Set(bg, serverside.DefaultLockKey, "somebody", 0).Err())
	rep, err = reaper(t, dial(t, s, "a", as("noscript")), p).Once(bg)
	require.NoError(t, err)
	assert.True(t, rep.Busy)
	assert.Equal(t, "somebody", s.Admin().Get(bg, serverside.DefaultLockKey).Val())

	require.NoError(t, s.Admin().Del(bg, serverside.DefaultLockKey).Err())
	r := reaper(t, dial(t, s, "a", as("notx")), p)
	rep, err = r.Once(bg)
	require.NoError(t, err)
	assert.False(t, rep.Busy)
	assert.InDelta(t, 30, s.Admin().TTL(bg, serverside.DefaultLockKey).Val().Seconds(), 5, "left to expire")
	rep, err = r.Once(bg)
	require.NoError(t, err)
	assert.True(t, rep.Busy)
}

func TestAReaperThatMayNotSaysWhatItNeeds(t *testing.T) {
	onEach(t, func(t *testing.T, s *redistest.Server) {
		acl := func(user string, rules ...any) {
			args := append([]any{"ACL", "SETUSER", user, "on", ">secret", "~*", "+@all"}, rules...)
			require.NoError(t, s.Admin().Do(bg, args...).Err())
		}
		acl("nokill", "-client|kill")
		acl("nolist", "-client|list")
		acl("nolock", "-set")
		acl("noid", "-client|id")
		connect(t, s, "x", 2)
		age(t, s, "x", time.Second)
		for user, want := range map[string]string{
			"nokill": "kill on " + s.Addr() + ": denied: NOPERM",
			"nolist": "needs +client|list",
			"nolock": "or WithoutLock",
		} {
			rep, err := reaper(t, dial(t, s, "r", as(user)), serverside.Policy{Name: "x", MaxAge: time.Second},
				serverside.WithLock(user, time.Second)).Once(bg)
			assert.ErrorIs(t, err, serverside.ErrDenied, user)
			assert.ErrorContains(t, err, want)
			assert.Zero(t, rep.Closed)
		}
		assert.Equal(t, 2, count(t, s, "x"))
		rep, err := reaper(t, dial(t, s, "r", as("noid")), serverside.Policy{Name: "x", MaxAge: time.Second}).Once(bg)
		require.NoError(t, err)
		assert.Equal(t, 2, rep.Closed)
	})
}

func TestAnUnreachableServerIsAClearError(t *testing.T) {
	t.Parallel()
	for _, opts := range [][]serverside.Option{nil, {serverside.WithoutLock()}} {
		_, err := reaper(t, dialNobody(t), serverside.Policy{Everybody: true, MaxAge: time.Hour}, opts...).Once(bg)
		assert.ErrorIs(t, err, serverside.ErrUnreachable)
	}
}

func TestRunSweepsOncePerPeriodInAFleetAndEndsWithItsContext(t *testing.T) {
	onEach(t, func(t *testing.T, s *redistest.Server) {
		ctx, cancel := context.WithCancel(bg)
		defer cancel()
		const every = 300 * time.Millisecond
		var mu sync.Mutex
		sweeps := map[int]int{}
		ended := make(chan error, 3)
		for i := range 3 {
			r := reaper(t, dial(t, s, "r"), serverside.Policy{Name: "x", MaxAge: time.Second},
				serverside.WithSweepHandler(func(rep serverside.Report, err error) {
					if err == nil && !rep.Busy {
						mu.Lock()
						sweeps[i]++
						mu.Unlock()
					}
				}))
			go func() { ended <- r.Run(ctx, every) }()
		}
		connect(t, s, "x", 2)
		redistest.Eventually(t, "the zombies are ended", soon, func() bool { return count(t, s, "x") == 0 })
		mu.Lock()
		assert.Len(t, sweeps, 1, "one reaper makes the sweeps of all")
		mu.Unlock()
		cancel()
		for range 3 {
			select {
			case err := <-ended:
				assert.ErrorIs(t, err, context.Canceled)
			case <-time.After(soon):
				t.Fatal("Run has not returned")
			}
		}
		assert.Zero(t, s.Admin().Exists(bg, serverside.DefaultLockKey).Val(), "the lock was given back")
	})
}

func TestCallbacksThatPanicDoNoHarm(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	connect(t, s, "x", 2)
	age(t, s, "x", time.Second)
	var logged bytes.Buffer
	r := reaper(t, dial(t, s, "r"), serverside.Policy{Name: "x", MaxAge: time.Second},
		serverside.WithKillHandler(func(serverside.Kill) { panic("kill") }),
		serverside.WithSweepHandler(func(serverside.Report, error) { panic("sweep") }),
		serverside.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))
	rep, err := r.Once(bg)
	require.NoError(t, err)
	assert.Equal(t, 2, rep.Closed)
	assert.Contains(t, logged.String(), "WithKillHandler panicked")
	assert.Contains(t, logged.String(), "WithSweepHandler panicked")
}

func TestASweepEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	connect(t, s, "x", 4)
	age(t, s, "x", time.Second)
	ctx, cancel := context.WithCancel(bg)
	r := reaper(t, dial(t, s, "r"), serverside.Policy{Name: "x", MaxAge: time.Second, PerSecond: 1},
		serverside.WithKillHandler(func(serverside.Kill) { cancel() }))
	start := time.Now()
	rep, err := r.Once(ctx)
	assert.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 1, rep.Closed)
	assert.Less(t, time.Since(start), time.Second)
	assert.Equal(t, 3, count(t, s, "x"))
	assert.Zero(t, s.Admin().Exists(bg, serverside.DefaultLockKey).Val(), "the lock was given back all the same")
}

func TestAWrongPolicyNamesTheFieldAndTheValue(t *testing.T) {
	t.Parallel()
	ok := serverside.Policy{User: "ci", MaxAge: time.Hour}
	rdb := dialNobody(t)
	for _, tt := range []struct {
		change func(*serverside.Policy)
		want   string
	}{
		{func(p *serverside.Policy) { p.MaxAge = 0 }, "Policy.MaxAge: 0s: neither it nor MaxIdle"},
		{func(p *serverside.Policy) { p.MaxAge = -time.Hour }, "Policy.MaxAge: -1h0m0s: is negative"},
		{func(p *serverside.Policy) { p.MaxAge = 1500 * time.Millisecond }, "Policy.MaxAge: 1.5s: servers count"},
		{func(p *serverside.Policy) { p.MaxIdle = time.Millisecond }, "Policy.MaxIdle: 1ms"},
		{func(p *serverside.Policy) { p.User = "" }, "Policy.Everybody: false"},
		{func(p *serverside.Policy) { p.Everybody = true }, "Policy.Everybody: true"},
		{func(p *serverside.Policy) { p.Type = serverside.TypeReplica }, `Policy.Type: "replica"`},
		{func(p *serverside.Policy) { p.Type = serverside.TypeMaster }, `Policy.Type: "master"`},
		{func(p *serverside.Policy) { p.Type = "any" }, `Policy.Type: "any"`},
		{func(p *serverside.Policy) {
			p.Type, p.MaxAge, p.MaxIdle = serverside.TypePubSub, 0, time.Hour
		}, "Policy.MaxIdle: 1h0m0s: subscribers"},
		{func(p *serverside.Policy) { p.Name = `\` }, `Policy.Name`},
		{func(p *serverside.Policy) { p.Addr = "10.0.0" }, `Policy.Addr: "10.0.0"`},
	} {
		p := ok
		tt.change(&p)
		_, err := serverside.NewReaper(rdb, p)
		assert.ErrorContains(t, err, tt.want)
	}
	for want, opt := range map[string]serverside.Option{
		"WithLock: \"\"":   serverside.WithLock("", time.Minute),
		"WithLock: 10ms":   serverside.WithLock("x", 10*time.Millisecond),
		"an option is nil": nil,
	} {
		_, err := serverside.NewReaper(rdb, ok, opt)
		assert.ErrorContains(t, err, want)
	}
	_, err := serverside.NewReaper(nil, ok)
	assert.ErrorContains(t, err, "nil")
	r, err := serverside.NewReaper(rdb, ok)
	require.NoError(t, err)
	assert.Equal(t, serverside.DefaultPerSecond, r.Policy().PerSecond)
	assert.Equal(t, `clients user="ci" type="normal" older than 1h0m0s`, r.Policy().String())
	assert.ErrorContains(t, r.Run(bg, 0), "every: 0s")
	_, err = new(serverside.Reaper).Once(bg)
	assert.ErrorContains(t, err, "NewReaper")
	assert.Error(t, (*serverside.Reaper)(nil).Run(bg, time.Second))
}

func TestSubscribersAreClosedByAgeIfAskedFor(t *testing.T) {
	onEach(t, func(t *testing.T, s *redistest.Server) {
		sub := dial(t, s, "x").Subscribe(bg, "a")
		defer sub.Close()
		_, err := sub.Receive(bg)
		require.NoError(t, err)
		connect(t, s, "x", 1)
		age(t, s, "x", time.Second)
		rep, err := reaper(t, dial(t, s, "r"), serverside.Policy{Name: "x", Type: serverside.TypePubSub, MaxAge: time.Second}).Once(bg)
		require.NoError(t, err)
		if assert.Len(t, rep.Kills, 1) {
			assert.Equal(t, serverside.TypePubSub, rep.Kills[0].Client.Type())
		}
	})
}

func TestReapersWorkThroughAConnAndOverRings(t *testing.T) {
	t.Parallel()
	a, b := redistest.Start(t), redistest.StartValkey(t)
	connect(t, a, "x", 1)
	connect(t, b, "x", 2)
	age(t, a, "x", time.Second)
	age(t, b, "x", time.Second)
	p := serverside.Policy{Name: "x", MaxAge: time.Second}

	conn := dial(t, a, "r").Conn()
	defer conn.Close()
	rep, err := reaper(t, conn, p).Once(bg)
	require.NoError(t, err)
	assert.Equal(t, 1, rep.Closed)

	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": a.Addr(), "b": b.Addr()}})
	defer ring.Close()
	rep, err = reaper(t, ring, p).Once(bg)
	require.NoError(t, err)
	assert.Equal(t, 2, rep.Closed)
	assert.Equal(t, 2, rep.Nodes)
}

// doctored answers CLIENT LIST itself, and has the server do the rest.
type doctored struct {
	serverside.Commander
	list string
}

func (d doctored) Do(ctx context.Context, args ...any) *redis.Cmd {
	if len(args) > 1 && args[1] == "LIST" {
		return torn{reply: d.list}.Do(ctx, args...)
	}
	return d.Commander.Do(ctx, args...)
}

func TestAnIDThatMeansSomebodyElseByNowEndsNobody(t *testing.T) {
	onEach(t, func(t *testing.T, s *redistest.Server) {
		innocent := connect(t, s, "x", 1)[0]
		age(t, s, "x", time.Second)
		info, err := innocent.ClientInfo(bg).Result()
		require.NoError(t, err)
		lister := dial(t, s, "r")
		for _, tt := range []struct {
			addr   string
			policy serverside.Policy
		}{
			// The id is that of another server now, or of one that was restarted ...
			{"127.0.0.1:1", serverside.Policy{Name: "x", MaxIdle: time.Hour}},
			// ... and even the address is the same, but the client is young.
			{info.Addr, serverside.Policy{Name: "x", MaxAge: time.Hour}},
		} {
			line := fmt.Sprintf("id=%d addr=%s name=x flags=N age=9999 idle=9999", info.ID, tt.addr)
			rep, err := reaper(t, doctored{lister, line}, tt.policy).Once(bg)
			require.NoError(t, err)
			assert.Zero(t, rep.Closed)
			assert.Equal(t, 1, rep.Gone)
		}
		assert.NoError(t, innocent.Ping(bg).Err())
	})
}

func TestLinesThatCannotBeReadAreSkippedAndReported(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	old := connect(t, s, "x", 2)
	age(t, s, "x", time.Second)
	infos := make([]*redis.ClientInfo, 2)
	for i := range infos {
		var err error
		infos[i], err = old[i].ClientInfo(bg).Result()
		require.NoError(t, err)
	}
	list := fmt.Sprintf("id=%d addr=%s name=x flags=N age=2 idle=2\nid=%d addr=%s name=x flags=N age=2x idle=2\n",
		infos[0].ID, infos[0].Addr, infos[1].ID, infos[1].Addr)
	rep, err := reaper(t, doctored{dial(t, s, "r"), list}, serverside.Policy{Name: "x", MaxAge: time.Second}).Once(bg)
	var m *serverside.MalformedError
	require.ErrorAs(t, err, &m)
	assert.Equal(t, 1, m.Skipped)
	assert.Equal(t, 1, rep.Closed)
	assert.NoError(t, old[1].Ping(bg).Err())
}

func TestAnotherReaperTakesOverWhenTheFirstOneEnds(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	const every = 100 * time.Millisecond
	swept := make(chan int, 100)
	var cancels [2]context.CancelFunc
	var wg sync.WaitGroup
	for i := range cancels {
		ctx, cancel := context.WithCancel(bg)
		defer cancel()
		cancels[i] = cancel
		r := reaper(t, dial(t, s, "r"), serverside.Policy{Name: "x", MaxAge: time.Second},
			serverside.WithLock("taken-over", time.Minute),
			serverside.WithSweepHandler(func(rep serverside.Report, err error) {
				if err == nil && !rep.Busy {
					select {
					case swept <- i:
					default:
					}
				}
			}))
		wg.Go(func() { _ = r.Run(ctx, every) })
	}
	first := <-swept
	cancels[first]()
	redistest.Eventually(t, "the other one sweeps, long before the lock would have expired", soon, func() bool {
		select {
		case i := <-swept:
			return i != first
		default:
			return false
		}
	})
	cancels[1-first]()
	wg.Wait()
}
