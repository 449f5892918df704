package lifeguard_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
	"github.com/lifeguard-redis/lifeguard/monitor/server"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

// rights are those of docs/SECURITY.md, by their names.
func rights(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("docs/SECURITY.md")
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)```acl\n(.*?)```").FindStringSubmatch(string(text))
	require.NotNil(t, block)
	rules := map[string][]string{}
	for line := range strings.Lines(block[1]) {
		if f := strings.Fields(line); len(f) > 1 && f[0] != "#" {
			rules[f[0]] = append(rules[f[0]], f[1:]...)
		}
	}
	return rules
}

// user makes a user with the named rights and no others, and options for it.
func user(t *testing.T, admin *redis.Client, opt *redis.Options, name string, more []string, of ...string) *redis.Options {
	t.Helper()
	rules := append([]any{"ACL", "SETUSER", name, "reset", "on", ">secret"}, anys(more)...)
	all := rights(t)
	for _, r := range of {
		require.Contains(t, all, r)
		rules = append(rules, anys(all[r])...)
	}
	require.NoError(t, admin.Do(t.Context(), rules...).Err())
	opt.Username, opt.Password = name, "secret"
	return opt
}

func anys(ss []string) (as []any) {
	for _, s := range ss {
		as = append(as, s)
	}
	return as
}

// denied is what the server has refused since it was last asked.
func denied(t *testing.T, admin *redis.Client) (all []string) {
	t.Helper()
	entries, err := admin.ACLLog(context.Background(), 100).Result()
	require.NoError(t, err)
	for _, e := range entries {
		all = append(all, fmt.Sprintf("%s: %s %s", e.Username, e.Reason, e.Object))
	}
	require.NoError(t, admin.ACLLogReset(context.Background()).Err())
	return all
}

func TestTheRightsOfThePageAreEnough(t *testing.T) {
	s := redistest.Start(t)
	admin := s.Admin()
	ctx := t.Context()
	app := []string{"~app:*", "+get", "+set", "+watch", "+multi", "+exec"}
	for _, tt := range []struct {
		name string
		more []string
		of   []string
		run  func(t *testing.T, opt *redis.Options)
	}{
		{"a managed client", app, []string{"client", "settings", "stats"}, func(t *testing.T, opt *redis.Options) {
			rdb, err := managed.New(opt, managed.WithValidateAfter(0))
			require.NoError(t, err)
			defer rdb.Close()
			for i := range 3 { // the second one gets a connection that must answer a PING; all leave something behind
				require.NoError(t, rdb.AcquireFunc(ctx, func(conn *managed.Conn) error {
					require.NoError(t, conn.Do(ctx, "WATCH", "app:k").Err())
					if i == 1 {
						return conn.Do(ctx, "MULTI").Err()
					}
					return conn.Set(ctx, "app:k", i, 0).Err()
				}))
			}
			rdb.SetHeartbeat(10 * time.Millisecond)
			rdb.SetHeartbeat(-1)
			redistest.Eventually(t, "the server's limits are known", 10*time.Second, func() bool { return rdb.Stats().MaxClients > 0 })
		}},
		{"monitor/server", nil, []string{"client", "server"}, func(t *testing.T, opt *redis.Options) {
			rdb := redis.NewClient(opt)
			defer rdb.Close()
			sample, err := server.Get(ctx, rdb)
			require.NoError(t, err)
			require.Empty(t, sample.Gaps)
		}},
		{"monitor/fleet, publish and read", nil, []string{"client", "settings", "stats", "publish", "read"}, func(t *testing.T, opt *redis.Options) {
			rdb, err := managed.New(opt)
			require.NoError(t, err)
			defer rdb.Close()
			p, err := fleet.Publish(rdb.PoolMonitor(), rdb)
			require.NoError(t, err)
			redistest.Eventually(t, "it is published", 10*time.Second, func() bool {
				f, err := fleet.Read(ctx, rdb)
				return err == nil && len(f.Instances) == 1
			})
			require.Empty(t, p.Status().Gaps)
			require.NoError(t, p.Close())
		}},
		{"serverside.List", nil, []string{"client", "list"}, func(t *testing.T, opt *redis.Options) {
			rdb := redis.NewClient(opt)
			defer rdb.Close()
			clients, err := serverside.List(ctx, rdb, serverside.Filter{})
			require.NoError(t, err)
			require.NotEmpty(t, clients)
		}},
		{"serverside.Reaper", nil, []string{"client", "reaper"}, func(t *testing.T, opt *redis.Options) {
			old := redis.NewClient(&redis.Options{Addr: s.Addr(), ClientName: "old"})
			defer old.Close()
			require.NoError(t, old.Ping(ctx).Err())
			rdb := redis.NewClient(opt)
			defer rdb.Close()
			r, err := serverside.NewReaper(rdb, serverside.Policy{Name: "old", MaxAge: time.Second})
			require.NoError(t, err)
			redistest.Eventually(t, "the old one is ended", 10*time.Second, func() bool {
				report, err := r.Once(ctx)
				require.NoError(t, err)
				return report.Closed == 1
			})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			denied(t, admin)
			tt.run(t, user(t, admin, s.Options(), "u", tt.more, tt.of...))
			require.Empty(t, denied(t, admin))
		})
	}
}

func TestTheRightsOfThePageAreEnoughOnACluster(t *testing.T) {
	c := redistest.StartCluster(t, "redis-server", 3, 0)
	opt := c.Options()
	for _, s := range c.Nodes() {
		o := user(t, s.Admin(), s.Options(), "u", []string{"~app:*", "+get", "+set"}, "client", "settings", "stats", "cluster")
		opt.Username, opt.Password = o.Username, o.Password
		denied(t, s.Admin())
	}
	rdb, err := managed.NewCluster(opt)
	require.NoError(t, err)
	defer rdb.Close()
	for i := range 30 {
		require.NoError(t, rdb.Set(t.Context(), fmt.Sprint("app:", i), i, 0).Err())
	}
	for _, s := range c.Nodes() {
		require.Empty(t, denied(t, s.Admin()))
	}
}

func TestTheServerKnowsEveryRightOfThePage(t *testing.T) {
	s := redistest.Start(t)
	admin := s.Admin()
	for name, rules := range rights(t) {
		for _, rule := range rules {
			if !strings.HasPrefix(rule, "+") {
				continue
			}
			require.NoError(t, admin.Do(t.Context(), "ACL", "SETUSER", "probe", "reset", rule).Err(), "%s: the server does not know %s", name, rule)
		}
	}
}
