package fleet_test

import (
	"context"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

// place is a master that clients find again after a failover.
type place struct {
	now atomic.Pointer[redistest.Server]
}

func (p *place) options(name string) *redis.Options {
	opt := p.now.Load().Options()
	opt.ClientName, opt.MaxRetries = name, -1
	opt.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, p.now.Load().Addr())
	}
	return opt
}

// connect opens connections that stay; those of a server that is gone may fail first.
func connect(t *testing.T, rdb interface{ Conn() *redis.Conn }, n int) {
	t.Helper()
	for range n {
		redistest.Eventually(t, "it connects", soon, func() bool {
			c := rdb.Conn()
			if c.Ping(bg).Err() != nil {
				_ = c.Close()
				return false
			}
			t.Cleanup(func() { _ = c.Close() })
			return true
		})
	}
}

// publishes has somebody publish who may have lost its connections just before.
func publishes(t *testing.T, p *fleet.Publisher) {
	t.Helper()
	redistest.Eventually(t, "it publishes", soon, func() bool { return p.Now(bg) == nil })
}

// oldEnough reports whether none of these is spared any more for being young: after one
// and a half of the longest LostAfter that is known (0.3 s), the second for which a look is
// believed, and the two that ages are rounded by.
func oldEnough(t *testing.T, s *redistest.Server, ids []int64) bool {
	t.Helper()
	for _, c := range s.ClientList(t) {
		if slices.Contains(ids, c.ID) && c.Age < 5*time.Second {
			return false
		}
	}
	return true
}

// TestNobodyWhoLivesIsEndedAfterAFailoverOrARestartThatLosesWhatTheyPublished has two
// running reapers, one that was there before and one that takes over, look at instances
// that have come back, of which one says nothing for an hour.
func TestNobodyWhoLivesIsEndedAfterAFailoverOrARestartThatLosesWhatTheyPublished(t *testing.T) {
	t.Parallel()
	// follow makes a replica that has what the master has by then, and nothing later.
	follow := func(t *testing.T, master *redistest.Server, start func(testing.TB, ...string) *redistest.Server) *redistest.Server {
		replica := start(t)
		host, port, err := net.SplitHostPort(master.Addr())
		require.NoError(t, err)
		require.NoError(t, master.Admin().ConfigSet(bg, "repl-diskless-sync-delay", "0").Err())
		require.NoError(t, replica.Admin().ReplicaOf(bg, host, port).Err())
		require.NoError(t, master.Admin().Set(bg, "mark", "1", 0).Err())
		redistest.Eventually(t, "the replica follows", soon, func() bool { return replica.Admin().Exists(bg, "mark").Val() == 1 })
		require.NoError(t, replica.Admin().ReplicaOf(bg, "NO", "ONE").Err())
		return replica
	}
	for what, c := range map[string]struct {
		early, late bool // when the replica stops following: before anybody published, or before the last of them came
	}{"a restart without data": {}, "a failover that loses all": {early: true}, "a failover that loses the last words": {late: true}} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			for name, start := range redistest.Servers() {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					master := start(t)
					at := &place{}
					at.now.Store(master)
					var replica *redistest.Server
					if c.early {
						replica = follow(t, master, start)
					}
					rdb, m := member(t, at.options("often"))
					connect(t, rdb, 2)
					often := publishOf(t, m, rdb, fleet.WithLostAfter(300*time.Millisecond))
					publishes(t, often)
					if c.late {
						replica = follow(t, master, start)
					}
					named := dial(t, at.options("seldom"), "seldom")
					connect(t, named, 3)
					seldom := publish(t, named, fleet.WithClientNames("seldom"), fleet.WithInterval(time.Hour), fleet.WithLostAfter(2*time.Hour), fleet.WithRetention(3*time.Hour))
					publishes(t, seldom)
					publishes(t, often) // and learns for how long the other one is silent
					members := func() *fleet.Members {
						s, err := fleet.NewMembers(dial(t, at.options("reader"), "reader"), fleet.WithLogger(quiet))
						require.NoError(t, err)
						return s
					}
					old := members()
					old.Live("10.0.0.1:1", "", 0) // it has seen them

					if replica == nil {
						master.Restart()
					} else {
						at.now.Store(replica)
						master.Kill()
					}
					now := at.now.Load()
					connect(t, rdb, 2)
					connect(t, named, 3)
					publishes(t, often)
					f := read(t, now.Admin())
					require.NotEmpty(t, f.Gaps)
					assert.Contains(t, f.Gaps[0], "incomplete: ")
					before := append(ids(t, now, "often"), ids(t, now, "seldom")...)
					require.GreaterOrEqual(t, len(before), 5)

					ctx, cancel := context.WithCancel(bg)
					defer cancel()
					ended := make(chan error, 2)
					var kills, spared [2]atomic.Int64
					for i, s := range []*fleet.Members{old, members()} {
						r, err := serverside.NewReaper(dial(t, at.options("reader"), "reader"), serverside.Policy{Everybody: true, MaxAge: time.Second,
							Spare: serverside.SpareAny(serverside.SpareLive(s), serverside.SpareNames("reader", "judge"))},
							serverside.WithLogger(quiet), serverside.WithoutLock(),
							serverside.WithKillHandler(func(serverside.Kill) { kills[i].Add(1) }),
							serverside.WithSweepHandler(func(rep serverside.Report, err error) {
								if err == nil && rep.Spared >= len(before) {
									spared[i].Add(1)
								}
							}))
						require.NoError(t, err)
						go func() { ended <- r.Run(ctx, 100*time.Millisecond) }()
					}
					redistest.Eventually(t, "they are too old to be spared for being young", soon, func() bool { return oldEnough(t, now, before) })
					spared[0].Store(0)
					spared[1].Store(0)
					redistest.Eventually(t, "both have looked at all of them since", soon, func() bool { return min(spared[0].Load(), spared[1].Load()) >= 5 })
					cancel()
					for range 2 {
						require.ErrorIs(t, <-ended, context.Canceled)
					}
					for i := range kills {
						assert.Zero(t, kills[i].Load())
					}
					assert.Subset(t, append(ids(t, now, "often"), ids(t, now, "seldom")...), before)
				})
			}
		})
	}
}
