package managed_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// fate is what becomes of the connection of a lease.
type fate string

const (
	kept   fate = "kept"   // used again as it is
	undone fate = "undone" // used again, after its state was undone
	closed fate = "closed"
)

// stateful says what becomes of a connection after commands (words separated by
// spaces, commands by semicolons). Every command of Redis or Valkey that changes
// the state of its connection is here; what is not leaves nothing behind, and
// TestNoCommandOfTheServerLeavesStateBehind checks that.
var stateful = []struct {
	commands string
	want     fate
}{
	{"GET k", kept},
	{"SET k v", kept},
	{"EVAL return(1) 0", kept},
	{"EVAL redis.call('select',5) 0", kept}, // only for the script
	{"PING", kept},
	{"WAIT 0 1", kept},

	// Transactions.
	{"MULTI", undone},
	{"multi", undone},
	{"MULTI; SET k v", undone},
	{"MULTI; EXEC", kept},
	{"MULTI; DISCARD", kept},
	{"MULTI; SET k v; EXEC", kept},
	{"WATCH k", undone},
	{"WATCH k; MULTI", undone},
	{"WATCH k; UNWATCH", kept},
	{"WATCH k; MULTI; EXEC", kept},
	{"WATCH k; MULTI; DISCARD", kept},
	{"WATCH k; MULTI; UNWATCH", undone}, // only queued
	{"MULTI; MULTI", undone},            // an error, and still open
	{"MULTI; NOSUCHCOMMAND", undone},    // it will not be executed, and is still open
	{"MULTI; NOSUCHCOMMAND; EXEC", kept},
	{"EXEC", kept},
	{"DISCARD", kept},
	{"MULTI; SELECT 3", closed},
	{"WATCH k; SELECT 3", closed},

	// The session.
	{"SELECT 3", closed},
	{"select 3", closed},
	{"SeLeCt 3", closed},
	{"SELECT 0", closed}, // nothing changed; told apart from SELECT 3 it is not
	{"AUTH alice pw", closed},
	{"AUTH alice wrong", closed},
	{"HELLO", closed},
	{"HELLO 2", closed},
	{"HELLO 3", closed},
	{"HELLO 3 SETNAME bob", closed},
	{"HELLO 3 AUTH alice pw", closed},
	{"RESET", closed},
	{"QUIT", closed},
	{"READONLY", closed},
	{"READWRITE", closed},
	{"ASKING", closed},
	{"REPLCONF listening-port 1", closed},

	// CLIENT.
	{"CLIENT SETNAME bob", closed},
	{"client setname bob", closed},
	{"CLIENT SETINFO LIB-NAME mine", closed},
	{"CLIENT TRACKING ON", closed},
	{"CLIENT TRACKING ON BCAST", closed},
	{"CLIENT TRACKING ON OPTIN; CLIENT CACHING YES", closed},
	{"CLIENT NO-EVICT ON", closed},
	{"CLIENT NO-TOUCH ON", closed},
	{"CLIENT REPLY ON", closed},
	{"CLIENT REPLY OFF", closed},
	{"CLIENT REPLY SKIP", closed},
	{"CLIENT CAPA redirect", closed},    // Valkey
	{"CLIENT IMPORT-SOURCE ON", closed}, // Valkey
	{"CLIENT CACHING YES", closed},      // holds for one command, which may be somebody else's
	{"CLIENT CACHING YES; GET k", kept}, //
	{"CLIENT ID", kept},                 // CLIENT itself is harmless
	{"CLIENT INFO", kept},               //
	{"CLIENT GETNAME", kept},            //
	{"CLIENT TRACKINGINFO", kept},       //
	{"CLIENT LIST", kept},               //
	{"CLIENT NO-SUCH-SUBCOMMAND x", kept},

	// Subscriptions and streams.
	{"SUBSCRIBE ch", closed},
	{"PSUBSCRIBE ch*", closed},
	{"SSUBSCRIBE ch", closed},
	{"UNSUBSCRIBE ch", closed}, // as many replies as channels
	{"PUNSUBSCRIBE ch ch", closed},
	{"SUNSUBSCRIBE ch", closed},
	{"SUBSCRIBE ch; UNSUBSCRIBE ch", closed},
	{"MONITOR", closed},
	{"SYNC", closed},
	{"PSYNC ? -1", closed},

	{"SCRIPT DEBUG NO", closed},
	{"SCRIPT EXISTS x", kept},
}

// stateOf returns everything that CLIENT LIST reports of a connection's state.
func stateOf(c redistest.ClientInfo) string {
	var b strings.Builder
	for _, f := range []string{"name", "flags", "db", "sub", "psub", "ssub", "multi", "watch", "user", "redir", "resp",
		"lib-name", "lib-ver", "capa", "import-source"} {
		v := c.Raw[f]
		if f == "multi" && v == "0" && !strings.Contains(c.Flags, "x") {
			v = "-1" // Valkey says so after a DISCARD
		}
		fmt.Fprintf(&b, "%s=%s ", f, v)
	}
	return b.String()
}

// stateServers are the servers on which the state of connections is tested.
func stateServers(t *testing.T) map[string]*redistest.Server {
	servers := map[string]*redistest.Server{"redis": redistest.Start(t), "valkey": redistest.StartValkey(t)}
	for _, s := range servers {
		require.NoError(t, s.Admin().Do(t.Context(), "ACL", "SETUSER", "alice", "on", ">pw", "~*", "&*", "+@all").Err())
	}
	return servers
}

// stateClient has one connection, whose state is the second result.
func stateClient(t *testing.T, s *redistest.Server, resp int) (*managed.Client, string) {
	opt := sized(s, 1, soon)
	opt.Protocol, opt.MaxRetries = resp, -1
	opt.ReadTimeout = 150 * time.Millisecond // for those that are not answered
	c := client(t, opt, managed.WithHeartbeat(0))
	require.NoError(t, c.Ping(t.Context()).Err())
	return c, stateOf(own(t, s, c))
}

// words splits a command. A script in them has no spaces.
func words(cmd string) (args []any) {
	for w := range strings.FieldsSeq(cmd) {
		args = append(args, strings.ReplaceAll(w, "return(1)", "return 1"))
	}
	return args
}

func TestSessionStateOfALeaseDecidesItsReturn(t *testing.T) {
	for name, s := range stateServers(t) {
		for _, resp := range []int{2, 3} {
			t.Run(fmt.Sprintf("%s, RESP%d", name, resp), func(t *testing.T) {
				ctx := context.Background()
				c, pristine := stateClient(t, s, resp)
				for _, row := range stateful {
					conn, err := c.Acquire(ctx)
					require.NoError(t, err)
					before := own(t, s, conn)
					require.Equalf(t, pristine, stateOf(before), "before %s", row.commands)
					for cmd := range strings.SplitSeq(row.commands, "; ") {
						_ = conn.Do(ctx, words(cmd)...).Err()
					}
					left := ""
					if !gone(t, s, before.ID) {
						left = stateOf(byID(t, s, before.ID))
					}
					conn.Release()

					after := own(t, s, c)
					require.Equalf(t, pristine, stateOf(after), "%s: the pool has a connection with that left on it", row.commands)
					got := closed
					if after.ID == before.ID {
						got = kept
						if left != pristine {
							got = undone
						}
					}
					if row.want == undone {
						require.NotEqualf(t, closed, got, "%s: undone", row.commands)
						require.NotEqualf(t, pristine, left, "%s: there was nothing to be undone", row.commands)
						continue
					}
					require.Equalf(t, row.want, got, "%s (left: %s)", row.commands, left)
					if got == closed {
						redistest.Eventually(t, row.commands+": the connection is closed", soon, func() bool { return gone(t, s, before.ID) })
					}
				}
				full(t, c, 1)
			})
		}
	}
}

func TestSessionStateOfAPipelineOrATransactionCountsToo(t *testing.T) {
	s := redistest.Start(t)
	c, pristine := stateClient(t, s, 3)
	ctx := t.Context()
	big := strings.Repeat("*1\r\n$5\r\nMULTI\r\n", 1<<16) // a value that looks like commands
	for name, x := range map[string]struct {
		run  func(conn *managed.Conn)
		want fate
	}{
		"a pipeline with SELECT": {func(conn *managed.Conn) {
			_, _ = conn.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); p.Do(ctx, "SELECT", 2); p.Get(ctx, "k"); return nil })
		}, closed},
		"a pipeline with an open MULTI": {func(conn *managed.Conn) {
			_, _ = conn.Pipelined(ctx, func(p redis.Pipeliner) error { p.Do(ctx, "MULTI"); p.Get(ctx, "k"); return nil })
		}, kept},
		"a transaction": {func(conn *managed.Conn) {
			_, _ = conn.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "n"); return nil })
		}, kept},
		"a transaction that is refused": {func(conn *managed.Conn) {
			_, err := conn.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Do(ctx, "NOSUCHCOMMAND"); return nil })
			require.Error(t, err)
		}, kept},
		"a big value": {func(conn *managed.Conn) { require.NoError(t, conn.Set(ctx, "k", big, 0).Err()) }, kept},
		"a big value, then SELECT": {func(conn *managed.Conn) {
			_, _ = conn.Pipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "k", big, 0); p.Do(ctx, "SELECT", 2); return nil })
		}, closed},
		"many small commands, then MULTI": {func(conn *managed.Conn) {
			_, _ = conn.Pipelined(ctx, func(p redis.Pipeliner) error {
				for i := range 4000 {
					p.Set(ctx, "k", i, 0)
				}
				p.Do(ctx, "MULTI")
				return nil
			})
		}, kept},
		"keys and values that are names of commands": {func(conn *managed.Conn) {
			require.NoError(t, conn.MSet(ctx, "SELECT", "3", "MULTI", "WATCH", "AUTH", "x").Err())
			require.NoError(t, conn.Get(ctx, "SELECT").Err())
		}, kept},
		"an empty value": {func(conn *managed.Conn) { require.NoError(t, conn.Set(ctx, "", "", 0).Err()) }, kept},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := c.Acquire(ctx)
			require.NoError(t, err)
			before := own(t, s, conn)
			x.run(conn)
			conn.Release()
			after := own(t, s, c)
			require.Equal(t, pristine, stateOf(after))
			require.Equal(t, x.want == kept, after.ID == before.ID)
		})
	}
}

// Every command that the server knows is run on a lease, with several sets of
// arguments; afterwards the pool must not have a connection that differs from a
// fresh one. A command of a new server that changes its connection fails here.
func TestNoCommandOfTheServerLeavesStateBehind(t *testing.T) {
	known := map[string]bool{}
	for _, row := range stateful {
		for cmd := range strings.SplitSeq(row.commands, "; ") {
			f := strings.Fields(strings.ToLower(cmd))
			known[f[0]] = true
			if len(f) > 1 {
				known[f[0]+"|"+f[1]] = true
			}
		}
	}
	for name, s := range stateServers(t) {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			c, pristine := stateClient(t, s, 3)
			tried, unknown := 0, []string{}
			for cmd, flags := range commandList(t, s) {
				if slices.Contains([]string{"shutdown", "debug", "failover", "replicaof", "slaveof", "client|kill", "client|pause",
					"restore", "restore-asking", "migrate", "cluster", "config|set", "config|rewrite", "acl|setuser", "acl|deluser", "acl|load",
					"module|load", "module|loadex", "sync", "psync", "monitor", "client|reply", "swapdb", "pfselftest"}, cmd) || slices.Contains(flags, "blocking") {
					continue // they would end or stop the test; those that change a connection are in the table
				}
				parts := strings.Split(cmd, "|")
				for _, rest := range [][]any{{}, {"on"}, {"yes"}, {"1"}, {"x"}, {"alice", "pw"}, {"x", "x"}, {"1", "1"}, {"on", "bcast"}, {"lib-name", "x"}, {"x", "1", "1"}} {
					var args []any
					for _, p := range parts {
						args = append(args, p)
					}
					conn, err := c.Acquire(ctx)
					require.NoError(t, err)
					err = conn.Do(ctx, append(args, rest...)...).Err()
					conn.Release()
					tried++
					after := own(t, s, c)
					if got := stateOf(after); got != pristine {
						t.Errorf("%v %v leaves state on a connection of the pool\nit is   %s\nand was %s", cmd, rest, got, pristine)
						require.NoError(t, c.Do(ctx, "QUIT").Err())
					}
					var reply redis.Error
					if err != nil && !errors.Is(err, redis.Nil) && !errors.As(err, &reply) {
						require.NoErrorf(t, err, "%v %v", cmd, rest)
					}
				}
				// Those that are about connections are in the table, by name.
				if slices.Contains(flags, "@connection") || slices.Contains(flags, "@transaction") || slices.Contains(flags, "@pubsub") {
					if !known[cmd] && !known[parts[0]+"|"+parts[len(parts)-1]] {
						unknown = append(unknown, cmd)
					}
				}
			}
			t.Logf("%d calls; about connections, harmless by trial, and not in the table: %v", tried, unknown)
			require.Greater(t, tried, 1000)
		})
	}
}

// commandList asks the server for its commands and their flags and categories;
// subcommands are "command|subcommand".
func commandList(t *testing.T, s *redistest.Server) map[string][]string {
	t.Helper()
	reply, err := s.Admin().Do(t.Context(), "COMMAND").Slice()
	require.NoError(t, err)
	all := map[string][]string{}
	var add func(reply []any)
	add = func(reply []any) {
		for _, x := range reply {
			f := x.([]any)
			var flags []string
			for _, i := range []int{2, 6} {
				for _, flag := range f[i].([]any) {
					flags = append(flags, fmt.Sprint(flag))
				}
			}
			sub, _ := f[9].([]any)
			if len(sub) == 0 {
				all[strings.ToLower(fmt.Sprint(f[0]))] = flags
			}
			add(sub)
		}
	}
	add(reply)
	require.Greater(t, len(all), 200)
	return all
}
