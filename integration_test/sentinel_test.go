package integration_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// sentinelClients are the two kinds of clients that go by Sentinels.
var sentinelClients = map[string]func(testing.TB, *redis.FailoverOptions, ...managed.Option) managed.UniversalClient{
	"FailoverClient": func(t testing.TB, opt *redis.FailoverOptions, opts ...managed.Option) managed.UniversalClient {
		c, err := managed.NewFailover(opt, append([]managed.Option{managed.WithLogger(discard)}, opts...)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	},
	"FailoverClusterClient": func(t testing.TB, opt *redis.FailoverOptions, opts ...managed.Option) managed.UniversalClient {
		c, err := managed.NewFailoverCluster(opt, append([]managed.Option{managed.WithLogger(discard)}, opts...)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	},
}

// onSentinels counts a client's connections to the Sentinels, as they say; those
// of the other Sentinels are not named so.
func onSentinels(t testing.TB, set *redistest.SentinelSet, name string) int {
	t.Helper()
	n := 0
	for _, s := range set.Sentinels() {
		n += named(t, s, name)
	}
	return n
}

func named(t testing.TB, s *redistest.Server, name string) (n int) {
	t.Helper()
	for _, c := range s.ClientList(t) {
		if c.Name == name {
			n++
		}
	}
	return n
}

// switches listens for +switch-master on all Sentinels. first waits for the first
// of them to say it; each waits for all, who hear of it from each other.
func switches(t testing.TB, set *redistest.SentinelSet) (first func() time.Time, each func() map[string]time.Time) {
	t.Helper()
	type word struct {
		addr string
		at   time.Time
	}
	words := make(chan word, len(set.Sentinels()))
	for _, s := range set.Sentinels() {
		sub := s.Admin().Subscribe(t.Context(), "+switch-master")
		if _, err := sub.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		go func() {
			defer sub.Close()
			if _, err := sub.ReceiveMessage(context.Background()); err == nil {
				words <- word{s.Addr(), time.Now()}
			}
		}()
	}
	said := map[string]time.Time{}
	wait := func() time.Time {
		t.Helper()
		select {
		case w := <-words:
			said[w.addr] = w.at
			return w.at
		case <-time.After(30 * time.Second):
			t.Fatal("no Sentinel said +switch-master within 30s")
			return time.Time{}
		}
	}
	return wait, func() map[string]time.Time {
		t.Helper()
		for len(said) < len(set.Sentinels()) {
			wait()
		}
		return said
	}
}

func TestClientsOfSentinelsFollowAFailoverWithinASecond(t *testing.T) {
	eachProgram(t, func(t *testing.T, program string) {
		set := redistest.StartSentinel(t, program)
		clients := map[string]managed.UniversalClient{}
		works := map[string]*load{}
		for kind, make := range sentinelClients {
			opt := set.Options()
			opt.ClientName = kind
			clients[kind] = make(t, opt)
			works[kind] = startLoad(t, clients[kind], true, 6, kind+":")
		}
		time.Sleep(300 * time.Millisecond)
		for _, how := range []string{"SENTINEL FAILOVER", "SIGSTOP", "kill -9"} {
			set.Settle()
			old := set.Master()
			first, each := switches(t, set)
			switch how {
			case "SENTINEL FAILOVER":
				redistest.Eventually(t, "a failover begins", 30*time.Second, func() bool {
					return set.Sentinels()[0].Admin().Do(context.Background(), "SENTINEL", "FAILOVER", set.MasterName()).Err() == nil
				})
			case "kill -9":
				old.Kill()
			default:
				old.Pause()
			}
			lost := time.Now()
			mine := map[string]string{} // the Sentinel whose word a client waits for
			for kind, rdb := range clients {
				for _, i := range rdb.Conns() {
					if i.Pool == hooks.PoolSentinel && i.State == hooks.StateSubscribed {
						mine[kind] = i.Node
					}
				}
				if mine[kind] == "" {
					t.Errorf("%s, %s: no subscription to a Sentinel: %v", how, kind, rdb.Conns())
				}
			}
			at := first()
			for _, work := range works {
				work.mark(at)
			}
			for kind, work := range works {
				median, last := work.recovered(6, 30*time.Second)
				lag := each()[mine[kind]].Sub(at)
				median, last = max(median-lag, 0), max(last-lag, 0)
				t.Logf("%s, %s: the Sentinels took %v, the client's own %v more; callers served again: median %v, last %v after that", how, kind,
					at.Sub(lost).Round(time.Millisecond), lag.Round(time.Millisecond), median.Round(time.Millisecond), last.Round(time.Millisecond))
				if median > time.Second || last > 2*time.Second {
					t.Errorf("%s, %s: served again %v (median), %v (last) after its Sentinel's switch", how, kind, median, last)
				}
			}
			for kind, rdb := range clients {
				redistest.Eventually(t, fmt.Sprintf("%s, %s: no connection to the old master is left for commands", how, kind), 3*time.Second, func() bool {
					for _, i := range rdb.Conns() {
						if i.Node == old.Addr() && (kind == "FailoverClient" || i.State == hooks.StateBusy) {
							return false
						}
					}
					return true
				})
			}
			t.Logf("%s: no connection to the old master is left %v after the switch", how, time.Since(at).Round(time.Millisecond))
			switch how {
			case "SIGSTOP":
				old.Resume()
			case "kill -9":
				old.Restart()
			}
		}
		set.Settle()
		bare := redis.NewFailoverClient(set.Options())
		defer bare.Close()
		for kind, work := range works {
			work.end()
			work.safe.none(t, kind+": SET and GET", work.calls.Load())
			t.Log(kind, work.twice(bare))
		}
	})
}

func TestSentinelConnectionsAreTrackedNeverTouchedAndEndWithTheClient(t *testing.T) {
	eachProgram(t, func(t *testing.T, program string) {
		set := redistest.StartSentinel(t, program)
		for kind, make := range sentinelClients {
			t.Run(kind, func(t *testing.T) {
				opt := set.Options()
				opt.ClientName = kind
				rdb := make(t, opt, managed.WithMaxIdle(200*time.Millisecond), managed.WithHeartbeat(50*time.Millisecond))
				if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
					t.Fatal(err)
				}
				ofSentinels := func() (ids []uint64) {
					for _, i := range rdb.Conns() {
						for _, s := range set.Addrs() {
							if i.Node == s {
								if i.Pool != hooks.PoolSentinel && i.State != hooks.StateHandshake {
									t.Errorf("a connection to a Sentinel is taken for another one: %v", i)
								}
								ids = append(ids, i.ID)
							}
						}
					}
					return ids
				}
				before := ofSentinels()
				if len(before) < 2 {
					t.Fatalf("the connections to the Sentinels are not tracked: %v", rdb.Conns())
				}
				rdb.SetMaxAge(100 * time.Millisecond)
				for range 10 {
					rdb.Get(t.Context(), "k")
					time.Sleep(50 * time.Millisecond)
				}
				rdb.Reset(t.Context())
				rdb.EvictIdle(t.Context())
				left := ofSentinels()
				if fmt.Sprint(before) != fmt.Sprint(left) {
					t.Errorf("connections to Sentinels were %v, and are %v after max age, heartbeats, Reset and EvictIdle", before, left)
				}
				for _, s := range set.Sentinels() {
					for _, c := range s.ClientList(t) {
						if c.Name == kind && strings.EqualFold(c.Cmd, "ping") {
							t.Errorf("a Sentinel got a PING: %v", c.Raw)
						}
					}
				}
				if err := rdb.Close(); err != nil {
					t.Fatal(err)
				}
				redistest.Eventually(t, "no connection to a Sentinel is left", 3*time.Second, func() bool { return onSentinels(t, set, kind) == 0 })
				time.Sleep(500 * time.Millisecond)
				if n := onSentinels(t, set, kind); n != 0 {
					t.Errorf("%d connections to Sentinels came back after Close", n)
				}
			})
		}
	})
}

func TestLeasesAndMaintenanceKeepTheirPromisesOnASentinelSet(t *testing.T) {
	eachProgram(t, func(t *testing.T, program string) {
		set := redistest.StartSentinel(t, program)
		opt := set.Options()
		opt.PoolSize, opt.PoolTimeout = 4, 100*time.Millisecond
		opt.ClientName = "leases"
		before := fmt.Sprintf("%+v", *opt)
		rdb := sentinelClients["FailoverClient"](t, opt).(*managed.Client)
		ctx := upTo(t, 20*time.Second)
		conn, err := rdb.Acquire(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if l := rdb.Leases(); len(l) != 1 || l[0].Conn.Node != set.Master().Addr() {
			t.Errorf("the lease does not name the master: %v", l)
		}
		conn.Release()
		if n, err := rdb.Warm(ctx, 4); n != 4 || err != nil {
			t.Errorf("Warm: %d, %v", n, err)
		}
		if n := rdb.EvictIdle(ctx); n != 4 {
			t.Errorf("EvictIdle ended %d of 4", n)
		}
		if _, err := rdb.Warm(ctx, 3); err != nil {
			t.Error(err)
		}
		rdb.SetMaxAge(100 * time.Millisecond)
		redistest.Eventually(t, "the master's connections end by age", 3*time.Second, func() bool { return named(t, set.Master(), "leases") == 0 && rdb.CloseReasons()[hooks.ReasonAge] >= 3 })
		if after := fmt.Sprintf("%+v", *opt); after != before {
			t.Errorf("the options were changed:\n%s\n%s", before, after)
		}
		if err := rdb.CloseGracefully(ctx); err != nil {
			t.Error(err)
		}

		// The retry's promise, on both kinds of clients.
		for kind, make := range sentinelClients {
			rdb := make(t, set.Options())
			work := startLoad(t, rdb, false, 8, kind+":")
			kills := 0
			for range 50 {
				time.Sleep(20 * time.Millisecond)
				kills += set.Master().KillClients(t)
			}
			work.end()
			work.safe.none(t, kind+": SET and GET", work.calls.Load())
			t.Log(kind, kills, "connections killed;", work.twice(set.Master().Admin()))
			_ = rdb.Close()
		}
	})
}
