package serverside_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

func through(p *redistest.Proxy, retries int) func(*redis.Options) {
	return func(o *redis.Options) { o.Addr, o.MaxRetries = p.Addr(), retries }
}

// only is a client without connections of its own to give.
type only struct{ rdb *redis.Client }

func (o only) Do(ctx context.Context, args ...any) *redis.Cmd { return o.rdb.Do(ctx, args...) }

// adds reports whether all that was due has come to something.
func adds(r serverside.Report) bool {
	return r.Due == r.Spared+r.Closed+r.Gone+r.Refused+r.Unknown+r.Left
}

func TestAKillWhoseReplyIsLostIsUnknown(t *testing.T) {
	for name, retries := range map[string]int{"and not sent again": -1, "and sent again by go-redis": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for server, start := range redistest.Servers() {
				t.Run(server, func(t *testing.T) {
					t.Parallel()
					s := start(t)
					connect(t, s, "zombie", 5)
					age(t, s, "zombie", time.Second)
					proxy := redistest.NewProxy(t, s.Addr())
					rdb := dial(t, s, "reaper", through(proxy, retries))
					require.NoError(t, rdb.Ping(bg).Err())
					kills, lost := 0, 0 // of the third one
					proxy.OnRequest(func(n int, b []byte) redistest.Action {
						if bytes.Contains(bytes.ToLower(b), []byte("kill")) {
							if kills++; kills == 3 {
								lost = n
							}
						}
						return redistest.Forward
					})
					proxy.OnReply(func(n int, b []byte) redistest.Action {
						if n == lost {
							lost = -1
							return redistest.CutBefore
						}
						return redistest.Forward
					})
					var c serverside.Commander = rdb
					if retries > 0 {
						c = only{rdb} // on a connection of its own go-redis does not send it again
					}
					rep, err := reaper(t, c, serverside.Policy{Name: "zombie", MaxAge: time.Second}, serverside.WithoutLock()).Once(bg)
					proxy.OnRequest(nil)
					proxy.OnReply(nil)
					assert.True(t, adds(rep), "%+v", rep)
					assert.Equal(t, 5, rep.Due)
					assert.Equal(t, 1, rep.Unknown)
					assert.Zero(t, rep.Gone)
					if retries < 0 {
						require.ErrorIs(t, err, serverside.ErrUnreachable)
						assert.Equal(t, 4, rep.Closed+rep.Left)
						assert.Positive(t, rep.Left)
						assert.Equal(t, rep.Left, count(t, s, "zombie"))
					} else {
						require.NoError(t, err)
						assert.Equal(t, 4, rep.Closed)
						assert.Zero(t, count(t, s, "zombie"))
					}
					assert.Contains(t, rep.String(), "1 unknown")
				})
			}
		})
	}
}

func TestAKillThatTheServerRefusesIsCountedAndSaid(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		connect(t, s, "zombie", 3)
		age(t, s, "zombie", time.Second)
		require.NoError(t, s.Admin().Do(bg, "ACL", "SETUSER", "weak", "on", ">secret", "~*", "+@all", "-client|kill").Err())
		rep, err := reaper(t, dial(t, s, "reaper", as("weak")), serverside.Policy{Name: "zombie", MaxAge: time.Second}).Once(bg)
		require.ErrorIs(t, err, serverside.ErrDenied)
		assert.True(t, adds(rep), "%+v", rep)
		assert.Equal(t, 1, rep.Refused)
		assert.Equal(t, 2, rep.Left)
		assert.Contains(t, rep.String(), "1 refused, 2 not tried")
	})
}

func TestWhatBelongsToServersIsClosedByNameAndWithAnOptionOnly(t *testing.T) {
	onEveryServer(t, func(t *testing.T, s *redistest.Server) {
		connect(t, s, "sentinel-0123abcd-cmd", 2)
		connect(t, s, "app", 1)
		watching := dial(t, s, "watcher")
		mon := watching.Conn()
		defer mon.Close()
		require.NoError(t, mon.Do(bg, "MONITOR").Err())
		age(t, s, "app", 2*time.Second)
		rdb := dial(t, s, "reaper")
		all := serverside.Policy{Everybody: true, MaxAge: time.Second, PerSecond: -1, Spare: serverside.SpareNames("judge", "reaper")}
		dry := all
		dry.DryRun = true
		would, err := reaper(t, rdb, dry).Once(bg)
		require.NoError(t, err)
		rep, err := reaper(t, rdb, all).Once(bg)
		require.NoError(t, err)
		assert.Equal(t, 1, rep.Closed)
		assert.Len(t, would.Kills, rep.Closed, "a dry run says what the real one does")
		assert.Equal(t, 2, count(t, s, "sentinel-0123abcd-cmd"))
		assert.Equal(t, 1, count(t, s, "watcher"))

		// Nor does the server end them, asked for all of a user at once.
		rep, err = reaper(t, rdb, serverside.Policy{User: "default", MaxAge: time.Hour, PerSecond: -1}).Once(bg)
		require.NoError(t, err)
		assert.Zero(t, rep.Closed)

		for _, name := range []string{"sentinel-*", "watcher"} {
			p := serverside.Policy{Name: name, MaxAge: time.Second}
			rep, err = reaper(t, rdb, p).Once(bg)
			require.NoError(t, err)
			assert.Zero(t, rep.Closed)
			p.IncludeServers = true
			rep, err = reaper(t, rdb, p).Once(bg)
			require.NoError(t, err)
			assert.Positive(t, rep.Closed)
		}
		_, err = serverside.NewReaper(rdb, serverside.Policy{Everybody: true, MaxAge: time.Second, IncludeServers: true})
		assert.ErrorContains(t, err, "IncludeServers: true: it needs Name")
	})
}

func TestARealSentinelLosesNoConnection(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinel(t, "redis-server")
	master := set.Master()
	sentinels := func() (n int) {
		for _, c := range master.ClientList(t) {
			if strings.HasPrefix(c.Name, "sentinel-") {
				n++
			}
		}
		return n
	}
	redistest.Eventually(t, "they are old enough", soon, func() bool {
		for _, c := range master.ClientList(t) {
			if c.Age < time.Second {
				return false
			}
		}
		return sentinels() >= 6
	})
	before := sentinels()
	rdb := dial(t, master, "reaper")
	for _, typ := range []serverside.Type{serverside.TypeNormal, serverside.TypePubSub} {
		rep, err := reaper(t, rdb, serverside.Policy{Everybody: true, MaxAge: time.Second, Type: typ, Spare: serverside.SpareNames("judge", "reaper")}).Once(bg)
		require.NoError(t, err)
		assert.Zero(t, rep.Closed, "%v", rep.Kills)
	}
	assert.Equal(t, before, sentinels())
}

func TestConnectionsOfServersAreRecognisedByFlagsAndUser(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"id=1 flags=N user=default":                    false,
		"id=1 flags=g user=(superuser)":                true,
		"id=1 flags=o user=default":                    true,
		"id=1 flags=N user=(superuser)":                true,
		"id=1 flags=S user=default":                    true,
		"id=1 flags=P name=sentinel-0123abcd-pubsub":   true,
		"id=1 flags=N name=sentinel-of-the-night-shop": false,
		"id=1 flags=bxtUe user=default":                false,
	} {
		all, err := serverside.Parse(line)
		require.NoError(t, err)
		assert.Equal(t, want, all[0].OfServers(), line)
	}
}
