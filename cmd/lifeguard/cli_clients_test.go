package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
)

// connect makes clients with these names, one connection each, in this order.
func connect(t *testing.T, s *redistest.Server, names ...string) map[string]*redis.Client {
	t.Helper()
	out := map[string]*redis.Client{}
	for _, name := range names {
		opt := s.Options()
		opt.ClientName, opt.PoolSize, opt.MaxRetries = name, 1, -1
		c := redis.NewClient(opt)
		t.Cleanup(func() { _ = c.Close() })
		require.NoError(t, c.Ping(t.Context()).Err())
		out[name] = c
	}
	return out
}

// id is that of a client's connection, which is a new one if the last was ended.
func id(t *testing.T, c *redis.Client) int64 {
	t.Helper()
	var n int64
	require.Eventually(t, func() bool { // the first command may find out that it was ended
		var err error
		n, err = c.ClientID(t.Context()).Result()
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	return n
}

// listed are the names in JSON, in their order; those of the server's admin are left out.
func listed(t *testing.T, s *redistest.Server, args ...string) []string {
	t.Helper()
	code, stdout, stderr := ask(t, append([]string{"clients", "--json"}, args...), port(t, s)...)
	require.Equal(t, exitOK, code, stderr)
	var got struct {
		Clients []struct{ Name string }
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	out := []string{}
	for _, c := range got.Clients {
		if c.Name != "" {
			out = append(out, c.Name)
		}
	}
	return out
}

func TestClientsAreSortedFilteredLimitedAndGrouped(t *testing.T) {
	s := redistest.Start(t)
	c := connect(t, s, "web-b", "web-a", "job")
	require.NoError(t, c["job"].Do(t.Context(), "select", "3").Err())

	require.Equal(t, []string{"web-b", "web-a", "job"}, listed(t, s, "--sort", "id"))
	require.Equal(t, []string{"job", "web-a", "web-b"}, listed(t, s, "--sort", "id", "--reverse"))
	require.Equal(t, []string{"job", "web-a", "web-b"}, listed(t, s, "--sort", "name"))
	require.Equal(t, []string{"web-a", "web-b"}, listed(t, s, "--sort", "name", "--name", "web-*"))
	require.Equal(t, []string{"web-b"}, listed(t, s, "--sort", "id", "--name", "web-*", "--limit", "1"))
	require.Equal(t, []string{"job"}, listed(t, s, "--client-db", "3"))
	require.Empty(t, listed(t, s, "--min-age", "1h"))
	require.Empty(t, listed(t, s, "--client-user", "nobody"))
	require.Len(t, listed(t, s, "--client-user", "default", "--addr", "127.0.0.0/8", "--type", "normal", "--lib", "go-redis*"), 3)

	code, stdout, stderr := ask(t, []string{"clients", "--group", "name", "--json", "--name", "*b"}, port(t, s)...)
	require.Equal(t, exitOK, code, stderr)
	var got struct {
		Server, By string
		Total      int
		Groups     []struct {
			Value   string
			Clients int
		}
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	require.Equal(t, s.Addr(), got.Server)
	require.Equal(t, "name", got.By)
	require.Equal(t, 2, got.Total)
	require.Equal(t, "job", got.Groups[0].Value)
	_, stdout, _ = ask(t, []string{"clients", "--group", "name", "--reverse", "--name", "*b"}, port(t, s)...)
	require.Less(t, strings.Index(stdout, "web-b"), strings.Index(stdout, "job"))
	_, stdout, _ = ask(t, []string{"clients", "--name", "nobody"}, port(t, s)...)
	require.Contains(t, stdout, "No client that fits is connected to "+s.Addr())
}

func TestADryRunSaysWhomAndEndsNobodyAndKillEndsThem(t *testing.T) {
	s := redistest.Start(t)
	c := connect(t, s, "web-1", "web-2", "job")
	ids := map[string]int64{}
	for name, c := range c {
		ids[name] = id(t, c)
	}
	dry := []string{"clients", "--kill", "--name", "web-*", "--max-age", "1s", "--spare-name", "web-2", "--dry-run"}
	require.Eventually(t, func() bool { // the server counts whole seconds
		code, stdout, stderr := ask(t, dry, port(t, s)...)
		require.Equal(t, exitOK, code, stderr)
		require.Contains(t, stdout, "nothing was closed")
		return strings.Contains(stdout, "Would close 1 of ") && strings.Contains(stdout, "web-1") && !strings.Contains(stdout, "web-2")
	}, 10*time.Second, 50*time.Millisecond)
	for name, c := range c {
		require.Equal(t, ids[name], id(t, c), name)
	}
	code, stdout, stderr := ask(t, dry[:len(dry)-1], port(t, s)...)
	require.Equal(t, exitUsage, code, "there is no terminal to ask on")
	require.Contains(t, stderr, "there is no terminal to ask on: see which with --dry-run, then give --yes")
	require.Empty(t, stdout)
	require.Equal(t, ids["web-1"], id(t, c["web-1"]))

	code, stdout, stderr = ask(t, dry[:len(dry)-1], append(port(t, s), "--json", "--yes")...)
	require.Equal(t, exitOK, code, stderr)
	var got struct {
		DryRun  bool `json:"dry_run"`
		Closed  int
		Clients []struct {
			Reason string
			Client struct{ ID int64 }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &got), stdout)
	require.False(t, got.DryRun)
	require.Equal(t, 1, got.Closed)
	require.Equal(t, "age", got.Clients[0].Reason)
	require.Equal(t, ids["web-1"], got.Clients[0].Client.ID)
	require.NotEqual(t, ids["web-1"], id(t, c["web-1"]), "closed, and made anew")
	require.Equal(t, ids["web-2"], id(t, c["web-2"]), "spared by its name")
	require.Equal(t, ids["job"], id(t, c["job"]), "does not fit")
}

func TestKillSparesTheLivingInstancesOfAFleet(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		c := connect(t, s, "orphan", "web")
		ids := map[string]int64{"orphan": id(t, c["orphan"]), "web": id(t, c["web"])}
		kill := append([]string{"clients", "--kill", "--yes", "--json", "--addr", "127.0.0.1", "--max-age", "1s", "--spare-fleet", "orders"}, port(t, s)...)
		code, stdout, stderr := call(t, kill...)
		require.Equal(t, exitFailed, code, stdout)
		require.Contains(t, stderr, "no instance of this fleet is alive, so there is nothing to spare by: nothing was closed")

		m, err := monitor.New(monitor.FromClient(c["web"]))
		require.NoError(t, err)
		defer m.Close()
		p, err := fleet.Publish(m, c["web"], fleet.WithName("orders"), fleet.WithClientNames("web"), fleet.WithInterval(100*time.Millisecond), fleet.WithLostAfter(500*time.Millisecond), fleet.WithRetention(time.Minute))
		require.NoError(t, err)
		defer p.Close()
		require.NoError(t, p.Now(t.Context()))
		require.Eventually(t, func() bool { // no connection is closed that may be too young to have been published
			code, stdout, stderr = call(t, kill...)
			require.Equal(t, exitOK, code, stderr)
			require.Contains(t, stderr, "Until then nothing is closed.")
			var got struct {
				Clients []struct{ Client struct{ Name string } }
			}
			require.NoError(t, json.Unmarshal([]byte(stdout), &got), stdout)
			for _, k := range got.Clients {
				require.NotEqual(t, "web", k.Client.Name)
			}
			return len(got.Clients) > 0 && got.Clients[0].Client.Name == "orphan"
		}, 20*time.Second, 10*time.Millisecond)
		require.NotEqual(t, ids["orphan"], id(t, c["orphan"]))
		require.Equal(t, ids["web"], id(t, c["web"]))
	})
}

func TestKillRefusesWhatItWouldNotHeed(t *testing.T) {
	for args, want := range map[string]string{
		"--kill":                                   "--kill alone would close every connection",
		"--kill --type normal":                     "and so would --kill --type",
		"--kill --type pubsub --dry-run":           "and so would --kill --type",
		"--kill --max-age 1h --include-servers":    "--include-servers needs --name",
		"--include-servers":                        "are for --kill",
		"--kill --name x --limit 2":                "--limit are for the list",
		"--kill --name x --sort age":               "for the list, not for --kill",
		"--kill --name x --group name":             "for the list, not for --kill",
		"--kill --name x --min-age 1h":             "use --max-age",
		"--kill --name x --client-db 1":            "--kill does not know --client-db",
		"--kill --max-age 0s":                      "--max-age 0s: must be above 0",
		"--kill --max-age 1h --per-second 0":       "--per-second 0: must be above 0",
		"--max-age 1h":                             "are for --kill",
		"--yes":                                    "--yes is for --kill",
		"--kill --max-age 1h":                      "give --yes",
		"--dry-run":                                "are for --kill",
		"--spare-name x":                           "are for --kill",
		"--group name --sort age":                  "exclude each other",
		"--group age":                              `--group "age": must be one of user, name`,
		"--sort size":                              `--sort "size": must be one of age, idle`,
		"--limit -1":                               "--limit -1: must be 0 (all) or more",
		"--type robot":                             "--type",
		"--addr nowhere":                           "--addr",
		"--kill --max-age 1h --name a --addr 1.2.": "--addr",
	} {
		code, stdout, stderr := call(t, append([]string{"clients", "-p", "1"}, strings.Fields(args)...)...)
		require.Equal(t, exitUsage, code, fmt.Sprint(args, ": ", stderr))
		require.Contains(t, stderr, want, args)
		require.NotContains(t, stderr, "Policy.", args)
		require.Empty(t, stdout, args)
	}
}
