package main

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{})
	for _, name := range []string{"REDIS_URL", "REDISCLI_AUTH"} {
		_ = os.Unsetenv(name) // of whoever runs the tests
	}
	redistest.MainWithoutLeaks(m)
}

// commands of a server in their shortest form.
var commands = map[string][]string{
	"doctor": {"doctor", "--managed", "--max-age", "1h"}, "clients": {"clients"}, "top": {"top"},
	"bench": {"bench", "--for", "300ms", "--rounds", "2", "--callers", "2"},
}

// each runs a test for each command of a server.
func each(t *testing.T, fn func(t *testing.T, args []string)) {
	for name, args := range commands {
		t.Run(name, func(t *testing.T) { fn(t, slices.Clone(args)) })
	}
}

func port(t *testing.T, s *redistest.Server) []string {
	_, p, err := net.SplitHostPort(s.Addr())
	require.NoError(t, err)
	return []string{"-p", p}
}

// onEveryServer runs a test on each version of the server that there is.
func onEveryServer(t *testing.T, test func(t *testing.T, s *redistest.Server), args ...string) {
	for name, start := range redistest.Servers() {
		t.Run(name, func(t *testing.T) { test(t, start(t, args...)) })
	}
}

// ask calls a command with more flags.
func ask(t *testing.T, args []string, more ...string) (code int, stdout, stderr string) {
	t.Helper()
	return call(t, append(slices.Clone(args), more...)...)
}

func TestEveryCommandWorksAndWritesJSON(t *testing.T) {
	s := redistest.Start(t)
	each(t, func(t *testing.T, args []string) {
		code, stdout, stderr := ask(t, args, port(t, s)...)
		require.Equal(t, exitOK, code, stderr+stdout)
		require.Empty(t, stderr)
		require.Contains(t, stdout, s.Addr())
		require.NotContains(t, stdout, "\x1b", "no colours where output is not a terminal")
		for _, line := range strings.Split(stdout, "\n") {
			require.Equal(t, strings.TrimRight(line, " "), line, "nothing hangs over")
		}

		code, stdout, stderr = ask(t, args, append(port(t, s), "--json")...)
		require.Equal(t, exitOK, code, stderr)
		var got map[string]any
		require.NoError(t, json.Unmarshal([]byte(stdout), &got), stdout)
		require.Equal(t, s.Addr(), got["server"])
	})
}

func TestAServerThatIsNotThereIsSaidQuicklyWithExitCode1(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts and never answers
	require.NoError(t, err)
	defer ln.Close()
	each(t, func(t *testing.T, args []string) {
		for _, addr := range []string{"127.0.0.1:1", ln.Addr().String()} {
			began := time.Now()
			code, stdout, stderr := ask(t, args, "-u", "redis://"+addr, "--timeout", "500ms", "--json")
			require.Equal(t, exitFailed, code)
			require.Contains(t, stderr, "no answer from "+addr)
			require.Empty(t, stdout)
			require.Less(t, time.Since(began), 5*time.Second)
		}
	})
}

func TestAWrongPasswordIsSaidAndNeverShown(t *testing.T) {
	const wrong = "wr0ng-s3cret"
	s := redistest.Start(t, "--requirepass", "right")
	host, p, err := net.SplitHostPort(s.Addr())
	require.NoError(t, err)
	each(t, func(t *testing.T, args []string) {
		for name, give := range map[string]struct {
			args []string
			env  map[string]string
		}{
			"-a":            {args: []string{"-p", p, "-a", wrong}},
			"--pass=":       {args: []string{"-p", p, "--pass=" + wrong}},
			"-u":            {args: []string{"-u", "redis://:" + wrong + "@" + s.Addr()}},
			"user":          {args: []string{"-p", p, "--user", "nobody", "-a", wrong}},
			"REDISCLI_AUTH": {args: []string{"-p", p}, env: map[string]string{"REDISCLI_AUTH": wrong}},
			"REDIS_URL":     {env: map[string]string{"REDIS_URL": "redis://:" + wrong + "@" + s.Addr()}},
			"cluster":       {args: []string{"-p", p, "-a", wrong, "-c"}},
		} {
			for k, v := range give.env {
				t.Setenv(k, v)
			}
			code, stdout, stderr := ask(t, args, give.args...)
			require.Equal(t, exitFailed, code, name)
			require.Contains(t, stderr, "does not accept the user or the password", name)
			require.NotContains(t, stdout+stderr, wrong, name)
			for k := range give.env {
				t.Setenv(k, "")
			}
		}
		code, _, stderr := ask(t, args, "-h", host, "-p", p)
		require.Equal(t, exitFailed, code)
		require.Contains(t, stderr, "wants a password: set REDISCLI_AUTH")
		code, _, stderr = ask(t, args, "-p", p, "-a", "right")
		require.Equal(t, exitOK, code, stderr)
	})
	for _, url := range []string{"redis://u:sec%ret@h:1", "redis://u:sec/ret@h:1/x", "u:secret@h", "redis://u:p@h:1/?secret=1"} {
		each(t, func(t *testing.T, args []string) {
			code, stdout, stderr := ask(t, args, "-u", url)
			require.Equal(t, exitUsage, code, url)
			require.NotContains(t, stdout+stderr, "sec", url)
			t.Setenv("REDIS_URL", url)
			code, stdout, stderr = ask(t, args)
			require.Equal(t, exitUsage, code, url)
			require.NotContains(t, stdout+stderr, "sec", url)
		})
	}
}

func TestThePasswordIsAskedFor(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "right")
	for in, want := range map[string]int{"right\n": exitOK, "right": exitOK, "right\r\n": exitOK, "wrong\n": exitFailed, "": exitFailed} {
		var out, errs bytes.Buffer
		root := newRoot(&out, &errs)
		root.Reader = strings.NewReader(in)
		require.Equal(t, want, runRoot(t.Context(), root, append([]string{"lifeguard", "clients", "--askpass"}, port(t, s)...)), errs.String())
	}
}

func TestTheEnvironmentIsRespectedAndTheCommandLineIsStronger(t *testing.T) {
	one, other := redistest.Start(t), redistest.Start(t, "--requirepass", "right")
	t.Setenv("REDIS_URL", "redis://"+one.Addr())
	each(t, func(t *testing.T, args []string) {
		code, stdout, stderr := ask(t, args)
		require.Equal(t, exitOK, code, stderr)
		require.Contains(t, stdout, one.Addr())
	})
	t.Setenv("REDIS_URL", "redis://:right@"+one.Addr())
	code, _, stderr := ask(t, []string{"clients"}, port(t, other)...)
	require.Equal(t, exitFailed, code, "the password of REDIS_URL is not sent elsewhere")
	require.Contains(t, stderr, "wants a password")
	t.Setenv("REDISCLI_AUTH", "right")
	code, _, stderr = ask(t, []string{"clients"}, port(t, other)...)
	require.Equal(t, exitOK, code, stderr)
	t.Setenv("REDISCLI_AUTH", "wrong")
	code, _, stderr = ask(t, []string{"clients"}, "-u", "redis://:right@"+other.Addr())
	require.Equal(t, exitOK, code, stderr)
}

func TestAnErrorSaysThatTheAddressIsFromTheEnvironment(t *testing.T) {
	each(t, func(t *testing.T, args []string) {
		for url, want := range map[string]string{"nowhere": "REDIS_URL is malformed", "redis://127.0.0.1:1": "no answer from 127.0.0.1:1 (from REDIS_URL)"} {
			t.Setenv("REDIS_URL", url)
			code, _, stderr := ask(t, args)
			require.NotEqual(t, exitOK, code)
			require.Contains(t, stderr, want)
			code, _, stderr = ask(t, args, "--url", url)
			require.NotEqual(t, exitOK, code)
			require.NotContains(t, stderr, "REDIS_URL")
		}
	})
}

func TestTLSWorksAsInRedisCLI(t *testing.T) {
	s := redistest.StartTLS(t)
	strict := redistest.StartTLS(t, "--tls-auth-clients", "yes")
	file := func(s *redistest.Server, name string) string {
		got, err := s.Admin().ConfigGet(t.Context(), name).Result()
		require.NoError(t, err)
		return got[name]
	}
	ca := file(s, "tls-ca-cert-file")
	each(t, func(t *testing.T, args []string) {
		for _, tt := range []struct {
			server *redistest.Server
			args   []string
			want   string // "" is success
		}{
			{s, []string{"--tls", "--cacert", ca}, ""},
			{s, []string{"--tls", "--insecure"}, ""},
			{s, []string{"--tls", "--cacert", ca, "--sni", "localhost"}, ""},
			{s, []string{"--tls", "--cacert", ca, "--sni", "elsewhere.example"}, "certificate of " + s.Addr() + " is not accepted"},
			{s, []string{"--tls"}, "give its authority with --cacert"},
			{s, []string{"--timeout", "1s"}, "give --tls"},
			{strict, []string{"--tls", "--insecure"}, "give --cert and --key"},
			{strict, []string{"--tls", "--cacert", file(strict, "tls-ca-cert-file"), "--cert", file(strict, "tls-cert-file"), "--key", file(strict, "tls-key-file")}, ""},
		} {
			code, _, stderr := ask(t, args, append(port(t, tt.server), tt.args...)...)
			if tt.want == "" {
				require.Equal(t, exitOK, code, "%v: %s", tt.args, stderr)
				continue
			}
			require.Equal(t, exitFailed, code, "%v", tt.args)
			require.Contains(t, stderr, tt.want, "%v", tt.args)
		}
		code, _, stderr := ask(t, args, "-u", "rediss://"+s.Addr(), "--cacert", ca)
		require.Equal(t, exitOK, code, stderr)
	})
	plain := redistest.Start(t)
	code, _, stderr := ask(t, []string{"clients", "--tls", "--timeout", "500ms"}, port(t, plain)...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "leave out --tls")
}

func TestAUnixSocketIsTaken(t *testing.T) {
	s := redistest.Start(t)
	for _, args := range [][]string{{"-s", s.Unix()}, {"-u", "unix://" + s.Unix()}} {
		each(t, func(t *testing.T, command []string) {
			code, stdout, stderr := ask(t, command, args...)
			require.Equal(t, exitOK, code, stderr)
			require.Contains(t, stdout, s.Unix())
		})
	}
}

func TestDashHIsTheHostOrHelpAsInRedisCLI(t *testing.T) {
	s := redistest.Start(t)
	_, p, _ := net.SplitHostPort(s.Addr())
	each(t, func(t *testing.T, args []string) {
		code, stdout, stderr := ask(t, args, "-h", "localhost", "-p", p)
		require.Equal(t, exitOK, code, stderr)
		require.Contains(t, stdout, "localhost:"+p)
		code, stdout, _ = ask(t, args, "-h")
		require.Equal(t, exitOK, code)
		require.Contains(t, stdout, "Examples:")
	})
}

func TestWhatTheUserMayNotIsSaid(t *testing.T) {
	s := redistest.Start(t)
	ctx := t.Context()
	for name, rules := range map[string][]string{
		"nothing": {"on", ">p4ss", "~*", "+auth", "+hello"},
		"info":    {"on", ">p4ss", "~*", "+auth", "+hello", "+ping", "+info"},
	} {
		require.NoError(t, s.Admin().ACLSetUser(ctx, name, rules...).Err())
	}
	for _, name := range []string{"clients", "bench"} {
		for _, user := range []string{"nothing", "info"} {
			code, stdout, stderr := ask(t, commands[name], append(port(t, s), "--user", user, "-a", "p4ss")...)
			require.Equal(t, exitFailed, code, name+stdout)
			require.Contains(t, stderr, "does not let this user do that", name)
			require.NotContains(t, stdout+stderr, "p4ss")
		}
	}
	code, stdout, stderr := ask(t, commands["doctor"], append(port(t, s), "--user", "info", "-a", "p4ss")...)
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "ACL SETUSER info +config|get +client|list")
	require.Contains(t, stdout, "CONFIG GET")
	code, stdout, stderr = ask(t, commands["doctor"], append(port(t, s), "--user", "nothing", "-a", "p4ss")...)
	require.Equal(t, exitWarnings, code, stderr)
	require.Contains(t, stdout, "not checked, for lack of rights: INFO")
	code, stdout, _ = ask(t, commands["top"], append(port(t, s), "--user", "info", "-a", "p4ss")...)
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "does not let this user do that")
}

func TestClustersAreLookedAtAsAWhole(t *testing.T) {
	c := redistest.StartCluster(t, "redis-server", 3, 1)
	each(t, func(t *testing.T, args []string) {
		code, stdout, stderr := ask(t, args, "-u", "redis://"+c.Addrs()[0], "--cluster", "--json")
		require.Equal(t, exitOK, code, stderr)
		switch args[0] {
		case "doctor", "top":
			var got struct{ Nodes []struct{ Node string } }
			require.NoError(t, json.Unmarshal([]byte(stdout), &got))
			require.Len(t, got.Nodes, 6)
		case "clients":
			var got struct{ Clients []struct{ Node string } }
			require.NoError(t, json.Unmarshal([]byte(stdout), &got))
			nodes := map[string]bool{}
			for _, c := range got.Clients {
				nodes[c.Node] = true
			}
			require.Len(t, nodes, 6, "each has a replica, or a master")
		}
		code, _, stderr = ask(t, args, "-u", "redis://"+c.Addrs()[0], "--cluster", "-n", "3")
		require.Equal(t, exitUsage, code)
		require.Contains(t, stderr, "database 0 only")
	})
	code, _, stderr := ask(t, commands["bench"], "-u", "redis://"+c.Addrs()[0])
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "use --cluster")
	code, stdout, _ := ask(t, commands["doctor"], "-u", "redis://"+c.Addrs()[0])
	require.Equal(t, exitOK, code)
	require.Contains(t, stdout, "only this node was checked")
	s := redistest.Start(t)
	code, _, stderr = ask(t, commands["clients"], append(port(t, s), "-c")...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, "leave out --cluster")
	code, stdout, stderr = ask(t, []string{"clients", "--kill", "--max-age", "1h", "--dry-run"}, "-u", "redis://"+c.Addrs()[0], "-c")
	require.Equal(t, exitOK, code, stderr)
	require.Contains(t, stdout, "Would close 0 of ")
}

func TestWrongFlagsOfTheServerAreSaidAndExitWith2(t *testing.T) {
	dir := t.TempDir()
	junk := dir + "/junk"
	require.NoError(t, os.WriteFile(junk, []byte("no certificate"), 0o600))
	each(t, func(t *testing.T, args []string) {
		for _, tt := range []struct {
			args []string
			want string
		}{
			{[]string{"--nope"}, "-nope"},
			{[]string{"more"}, `takes no argument, got "more"`},
			{[]string{"-p", "0"}, "--port 0: must be 1 to 65535"},
			{[]string{"-p", "65536"}, "--port 65536: must be 1 to 65535"},
			{[]string{"-p", "abc"}, "-p: 'abc' is not a number"},
			{[]string{"--prot", "1"}, "no flag --prot; did you mean --port?"},
			{[]string{"-p"}, "-p: its value is missing"},
			{[]string{"-n", "-1"}, "--db -1: must be 0 or more"},
			{[]string{"-u", ""}, "--url: is empty"},
			{[]string{"-u", "redis://a:1", "-p", "2"}, "--url excludes --host, --port and --socket"},
			{[]string{"-s", "/x", "-p", "2"}, "--socket excludes --host and --port"},
			{[]string{"--askpass", "-a", "x"}, "--askpass and --pass exclude each other"},
			{[]string{"--timeout", "0s"}, "--timeout 0s: must be above 0"},
			{[]string{"--timeout=-1s"}, "--timeout -1s: must be above 0"},
			{[]string{"--insecure"}, "need --tls"},
			{[]string{"--sni", "x"}, "need --tls"},
			{[]string{"--tls", "--cacert", dir + "/none"}, "--cacert"},
			{[]string{"--tls", "--cacert", junk}, "no certificate in PEM"},
			{[]string{"--tls", "--cert", junk}, "--cert and --key belong together"},
			{[]string{"--tls", "--cert", junk, "--key", junk}, "--cert and --key"},
		} {
			code, stdout, stderr := ask(t, args, tt.args...)
			require.Equal(t, exitUsage, code, "%v: %s", tt.args, stderr)
			require.Contains(t, stderr, tt.want)
			require.Empty(t, stdout)
		}
	})
}

func TestEveryCommandHasHelpWithExamplesThatAreRight(t *testing.T) {
	root := newRoot(&bytes.Buffer{}, &bytes.Buffer{})
	known := map[string]map[string]bool{}
	for _, c := range root.Commands {
		known[c.Name] = map[string]bool{"h": true, "help": true}
		for _, f := range c.Flags {
			for _, n := range f.Names() {
				known[c.Name][n] = true
			}
		}
	}
	for _, c := range root.Commands {
		_, examples, found := strings.Cut(c.Description, "Examples:\n")
		require.True(t, found, c.Name)
		require.GreaterOrEqual(t, strings.Count(examples, "\n   lifeguard ")+1, 4, c.Name)
		for _, line := range strings.Split(examples, "\n") {
			line, _, _ = strings.Cut(line, " | ")
			words := strings.Fields(line)
			require.Equal(t, []string{"lifeguard", c.Name}, words[:2])
			for _, w := range words[2:] {
				if _, err := strconv.Atoi(w); strings.HasPrefix(w, "-") && err != nil {
					name, _, _ := strings.Cut(strings.TrimLeft(w, "-"), "=")
					require.True(t, known[c.Name][name], "%s: there is no %s", line, w)
				}
			}
		}
	}
	each(t, func(t *testing.T, args []string) {
		code, stdout, stderr := call(t, args[0], "--help")
		require.Equal(t, exitOK, code)
		require.Empty(t, stderr)
		require.Contains(t, stdout, "lifeguard "+args[0])
		require.Contains(t, stdout, "--url URL, -u URL")
	})
}

func TestCommandsAndFlagsAreCompleted(t *testing.T) {
	each(t, func(t *testing.T, args []string) {
		code, stdout, _ := call(t, args[0], "--js", "--generate-shell-completion")
		require.Equal(t, exitOK, code)
		require.Contains(t, stdout, "--json")
	})
	defer func(args []string) { os.Args = args }(os.Args)
	os.Args = []string{"lifeguard", "--generate-shell-completion"} // the library looks there
	code, stdout, _ := call(t, os.Args[1:]...)
	require.Equal(t, exitOK, code)
	for name := range commands {
		require.Contains(t, stdout, name)
	}
}
