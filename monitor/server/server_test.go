package server_test

import (
	"context"
	"encoding/json"
	"flag"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor/server"
)

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "8")
	redistest.MainWithoutLeaks(m)
}

var bg = context.Background()

const soon = 10 * time.Second

func dial(t testing.TB, opt *redis.Options) *redis.Client {
	t.Helper()
	opt.MaxRetries, opt.DialerRetries, opt.DialTimeout = -1, 1, 2*time.Second
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	c := redis.NewClient(opt)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func user(s *redistest.Server, name string) *redis.Options {
	opt := s.Options()
	opt.Username, opt.Password = name, "secret"
	return opt
}

func onEach(t *testing.T, args []string, test func(t *testing.T, s *redistest.Server, product string)) {
	t.Parallel()
	t.Run("Redis", func(t *testing.T) { t.Parallel(); test(t, redistest.Start(t, args...), "redis") })
	t.Run("Valkey", func(t *testing.T) { t.Parallel(); test(t, redistest.StartValkey(t, args...), "valkey") })
}

func TestASampleIsWhatTheServerSays(t *testing.T) {
	args := []string{"--maxclients", "20", "--timeout", "300", "--tcp-keepalive", "60", "--maxmemory", "100mb"}
	onEach(t, args, func(t *testing.T, s *redistest.Server, product string) {
		blocked := dial(t, s.Options())
		var wg sync.WaitGroup
		wg.Go(func() { blocked.BLPop(bg, 0, "nothing") })
		defer func() { s.KillClients(t); wg.Wait() }()
		redistest.Eventually(t, "a client is blocked", soon, func() bool {
			for _, c := range s.ClientList(t) {
				if strings.Contains(c.Flags, "b") {
					return true
				}
			}
			return false
		})
		for _, protocol := range []int{2, 3} {
			opt := s.Options()
			opt.Protocol = protocol
			rdb := dial(t, opt)
			got, err := server.Get(bg, rdb)
			require.NoError(t, err)
			require.Empty(t, got.Gaps)
			assert.Equal(t, s.Addr(), got.Node)
			assert.WithinDuration(t, time.Now(), got.At, soon)
			assert.Equal(t, server.Some(product), got.Product)
			assert.Regexp(t, `^8\.`, got.Version.Val)
			assert.Equal(t, server.Some("standalone"), got.Mode)
			assert.Equal(t, server.Some("master"), got.Role)
			assert.Less(t, got.Uptime.Val, time.Minute)
			all, err := s.Admin().ClientList(bg).Result()
			require.NoError(t, err)
			assert.EqualValues(t, strings.Count(all, "\n"), got.ConnectedClients.Val)
			assert.Equal(t, server.Some[int64](1), got.BlockedClients)
			assert.Equal(t, server.Some[int64](0), got.EvictedClients)
			assert.Equal(t, server.Some[int64](20), got.MaxClients)
			assert.Equal(t, server.Some(5*time.Minute), got.Timeout)
			assert.Equal(t, server.Some(time.Minute), got.TCPKeepAlive)
			assert.Equal(t, server.Some[int64](100<<20), got.MaxMemory)
			assert.True(t, got.ClientMemory.Known)
			share, ok := got.ShareOfMaxClients()
			assert.True(t, ok)
			assert.InDelta(t, float64(got.ConnectedClients.Val)/20, share, 1e-9)

			v := reflect.ValueOf(got)
			for i := range v.NumField() {
				if known := v.Field(i); known.Kind() == reflect.Struct && known.FieldByName("Known").IsValid() {
					assert.True(t, known.FieldByName("Known").Bool(), "%s is known", v.Type().Field(i).Name)
				}
			}
			require.NoError(t, rdb.Close())
		}
	})
}

func TestRejectedClientsAreCounted(t *testing.T) {
	onEach(t, []string{"--maxclients", "4"}, func(t *testing.T, s *redistest.Server, _ string) {
		rdb := dial(t, s.Options())
		before, err := server.Get(bg, rdb)
		require.NoError(t, err)
		full := dial(t, s.Options())
		for range 3 {
			conn := full.Conn()
			defer conn.Close()
			require.NoError(t, conn.Ping(bg).Err())
		}
		opt := s.Options()
		late := dial(t, opt)
		_, err = server.Get(bg, late)
		assert.ErrorContains(t, err, "sample of "+s.Addr(), "no room is no sample of nothing")
		after, err := server.Get(bg, rdb)
		require.NoError(t, err)
		d := after.Since(before)
		assert.True(t, d.Rejected.Known)
		assert.GreaterOrEqual(t, d.Rejected.Val, int64(1))
		assert.GreaterOrEqual(t, d.Connected.Val, int64(3))
		assert.False(t, d.Restarted)
		share, _ := after.ShareOfMaxClients()
		assert.Equal(t, 1.0, share)
	})
}

func TestEvictedClientsAreCountedAndTheirMemoryIsSeen(t *testing.T) {
	onEach(t, []string{"--maxmemory-clients", "8mb"}, func(t *testing.T, s *redistest.Server, _ string) {
		rdb := dial(t, s.Options())
		before, err := server.Get(bg, rdb)
		require.NoError(t, err)
		big := dial(t, s.Options()).Conn()
		defer big.Close()
		require.NoError(t, big.Do(bg, "MULTI").Err())
		require.NoError(t, big.Do(bg, "SET", "k", strings.Repeat("x", 1<<20)).Err()) // kept until EXEC
		grown, err := server.Get(bg, rdb)
		require.NoError(t, err)
		assert.Greater(t, grown.ClientMemory.Val, before.ClientMemory.Val+1<<20)
		assert.Equal(t, server.Some[int64](0), grown.Since(before).Evicted)
		_ = big.Do(bg, "SET", "k", strings.Repeat("x", 16<<20)).Err()
		redistest.Eventually(t, "it is evicted", soon, func() bool {
			after, err := server.Get(bg, rdb)
			require.NoError(t, err)
			return after.Since(before).Evicted == server.Some[int64](1)
		})
	})
}

func TestWhatTheServerForbidsIsUnknownAndNotZero(t *testing.T) {
	onEach(t, nil, func(t *testing.T, s *redistest.Server, product string) {
		acl := func(name string, rules ...any) {
			require.NoError(t, s.Admin().Do(bg, append([]any{"ACL", "SETUSER", name, "on", ">secret", "+@all"}, rules...)...).Err())
		}
		acl("noconfig", "-config") // as managed services do
		acl("noinfo", "-info")
		acl("nothing", "-info", "-config")

		got, err := server.Get(bg, dial(t, user(s, "noconfig")))
		require.NoError(t, err)
		assert.False(t, got.Timeout.Known)
		assert.False(t, got.TCPKeepAlive.Known)
		assert.Equal(t, server.Some[int64](10000), got.MaxClients, "INFO says it too")
		var sources []string
		for _, g := range got.Gaps {
			sources = append(sources, g.Source)
			assert.True(t, g.Denied)
			assert.Contains(t, g.Why, "NOPERM")
		}
		assert.Equal(t, []string{"CONFIG GET timeout", "CONFIG GET tcp-keepalive"}, sources)
		assert.Contains(t, got.String(), "timeout ?, tcp-keepalive ?; not reported: CONFIG GET timeout, CONFIG GET tcp-keepalive")

		got, err = server.Get(bg, dial(t, user(s, "noinfo")))
		require.NoError(t, err)
		assert.False(t, got.ConnectedClients.Known)
		assert.Equal(t, server.Some[int64](10000), got.MaxClients, "CONFIG says it too")
		assert.Equal(t, server.Some(time.Duration(0)), got.Timeout, "a known 0")
		_, ok := got.ShareOfMaxClients()
		assert.False(t, ok)
		assert.Len(t, got.Gaps, 1)

		got, err = server.Get(bg, dial(t, user(s, "nothing")))
		require.NoError(t, err)
		assert.Len(t, got.Gaps, 5)
		b, err := json.Marshal(got)
		require.NoError(t, err)
		assert.Contains(t, string(b), `"connected_clients":null`)
		assert.Contains(t, string(b), `"timeout_seconds":null`)
		assert.Contains(t, string(b), `"version":null`)
	})
}

func TestServicesWithoutConfigAreDenied(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--rename-command", "CONFIG", "")
	got, err := server.Get(bg, dial(t, s.Options()))
	require.NoError(t, err)
	require.NotEmpty(t, got.Gaps)
	for _, g := range got.Gaps {
		assert.True(t, g.Denied, g.Why)
	}
	assert.True(t, got.ConnectedClients.Known)
}

func TestAnUnreachableServerIsAnError(t *testing.T) {
	t.Parallel()
	nobody := dial(t, &redis.Options{Addr: "127.0.0.1:1"})
	_, err := server.Get(bg, nobody)
	assert.ErrorContains(t, err, "lifeguard/monitor/server: sample of 127.0.0.1:1: ")
	all, err := server.GetAll(bg, nobody)
	assert.Error(t, err)
	assert.Empty(t, all)

	s := redistest.Start(t)
	_, err = server.Get(bg, dial(t, user(s, "unheard of")))
	assert.ErrorContains(t, err, "WRONGPASS")

	ctx, cancel := context.WithCancel(bg)
	cancel()
	_, err = server.Get(ctx, dial(t, s.Options()))
	assert.ErrorIs(t, err, context.Canceled)
	for _, none := range []server.Getter{nil, (*redis.Client)(nil)} {
		_, err = server.Get(bg, none)
		assert.ErrorContains(t, err, "nil")
	}
}

// refuse is a hook that has every command of a pipeline answered with an error.
type refuse string

func (r refuse) Error() string                                   { return string(r) }
func (refuse) RedisError()                                       {}
func (refuse) DialHook(next redis.DialHook) redis.DialHook       { return next }
func (refuse) ProcessHook(n redis.ProcessHook) redis.ProcessHook { return n }
func (r refuse) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		for _, c := range cmds {
			c.SetErr(r)
		}
		return r
	}
}

func TestARefusedClientIsNoSampleOfNothing(t *testing.T) {
	for _, why := range []refuse{"ERR max number of clients reached", "NOAUTH Authentication required."} {
		rdb := dial(t, &redis.Options{Addr: "127.0.0.1:1"})
		rdb.AddHook(why)
		_, err := server.Get(bg, rdb)
		assert.ErrorContains(t, err, string(why))
	}
}

func TestRingsAndClustersAreSampledPerNode(t *testing.T) {
	t.Parallel()
	a, b := redistest.Start(t), redistest.StartValkey(t)
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": a.Addr(), "b": b.Addr()}})
	defer ring.Close()
	_, err := server.Get(bg, ring)
	assert.ErrorIs(t, err, server.ErrManyNodes)
	all, err := server.GetAll(bg, ring)
	require.NoError(t, err)
	products := map[string]string{}
	for _, s := range all {
		products[s.Node] = s.Product.Val
	}
	assert.Equal(t, map[string]string{a.Addr(): "redis", b.Addr(): "valkey"}, products)

	b.Kill()
	all, err = server.GetAll(bg, ring)
	assert.ErrorContains(t, err, b.Addr())
	assert.Len(t, all, 1)
}

func TestARestartIsSeenBetweenSamples(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	rdb := dial(t, s.Options())
	before, err := server.Get(bg, rdb)
	require.NoError(t, err)
	s.Restart()
	var after server.Sample
	redistest.Eventually(t, "the server answers again", soon, func() bool {
		after, err = server.Get(bg, rdb)
		return err == nil
	})
	d := after.Since(before)
	assert.True(t, d.Restarted)
	assert.Equal(t, after.TotalConnections, d.Connected)
}

func TestCountersThatWereResetGiveNoDifference(t *testing.T) {
	was := server.Sample{RejectedConnections: server.Some[int64](5), EvictedClients: server.Some[int64](1)}
	now := server.Sample{RejectedConnections: server.Some[int64](2), EvictedClients: server.Some[int64](4)}
	d := now.Since(was)
	assert.False(t, d.Rejected.Known)
	assert.Equal(t, server.Some[int64](3), d.Evicted)
	assert.False(t, d.Connected.Known)
}

func TestTheShareCountsReplicasAndLinksOfTheCluster(t *testing.T) {
	s := server.Sample{ConnectedClients: server.Some[int64](5), Replicas: server.Some[int64](2),
		ClusterConnections: server.Some[int64](3), MaxClients: server.Some[int64](20)}
	share, ok := s.ShareOfMaxClients()
	assert.True(t, ok)
	assert.Equal(t, 0.5, share)
	s.MaxClients = server.Some[int64](0)
	_, ok = s.ShareOfMaxClients()
	assert.False(t, ok)
}

func TestJSONComesBackAsItWent(t *testing.T) {
	s := server.Sample{Node: "a:1", At: time.Unix(5, 0).UTC(), Timeout: server.Some(90 * time.Second),
		MaxClients: server.Some[int64](0), Version: server.Some("8.0.2"),
		Gaps: []server.Gap{{Source: "CONFIG GET timeout", Why: "NOPERM", Denied: true}}}
	b, err := json.Marshal(s)
	require.NoError(t, err)
	assert.Contains(t, string(b), `"timeout_seconds":90`)
	assert.Contains(t, string(b), `"max_clients":0`)
	assert.Contains(t, string(b), `"uptime_seconds":null`)
	var back server.Sample
	require.NoError(t, json.Unmarshal(b, &back))
	assert.Equal(t, s, back)
	assert.Error(t, json.Unmarshal([]byte(`{"max_clients":"x"}`), &back))
	assert.Error(t, json.Unmarshal([]byte(`{"timeout_seconds":"x"}`), &back))
	assert.Equal(t, "?", server.Opt[int64]{}.String())
	assert.Equal(t, int64(7), server.Opt[int64]{}.Or(7))
}

func TestWatchSamplesUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	rdb := dial(t, s.Options())
	ctx, cancel := context.WithCancel(bg)
	defer cancel()
	n := 0
	err := server.Watch(ctx, rdb, 20*time.Millisecond, func(all []server.Sample, err error) {
		assert.NoError(t, err)
		assert.Len(t, all, 1)
		if n++; n == 3 {
			cancel()
		}
	})
	assert.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 3, n)
	assert.ErrorContains(t, server.Watch(bg, rdb, 0, func([]server.Sample, error) {}), "every: 0s")
	assert.ErrorContains(t, server.Watch(bg, rdb, time.Second, nil), "nil")
	assert.ErrorContains(t, server.Watch(bg, nil, time.Second, func([]server.Sample, error) {}), "nil")
}

func TestWhatCannotBeReadIsAGap(t *testing.T) {
	for _, tt := range []struct{ info, setting, value, why string }{
		{"connected_clients:abc", "timeout", "1", "cannot be read: connected_clients"},
		{"connected_clients:-1", "timeout", "1", "cannot be read: connected_clients"},
		{"connected_clients:", "timeout", "1", "connected_clients (empty)"},
		{"connected_clients:1\r\nconnected_clients:2", "timeout", "1", "connected_clients (comes twice)"},
		{"connected_clients:9223372036854775808", "timeout", "1", "connected_clients"},
		{"uptime_in_seconds:9223372036854775807", "timeout", "1", "uptime_in_seconds"},
		{"nonsense\r\n:5", "timeout", "1", "2 lines cannot be read"},
		{"", "timeout", "5s", `cannot be read: "5s"`},
		{"", "timeout", "9223372036854775807", "cannot be read"},
		{"", "maxclients", "+5", "cannot be read"},
	} {
		s := server.Read(tt.info, tt.setting, tt.value)
		if assert.Len(t, s.Gaps, 1, tt.info) {
			assert.Contains(t, s.Gaps[0].Why, tt.why)
		}
		assert.False(t, s.ConnectedClients.Known)
		assert.False(t, s.Uptime.Known)
	}
	s := server.Read("# Modules\nmodule:name=a\nmodule:name=b\n", "timeout", "0")
	assert.Empty(t, s.Gaps, "several modules are no fault")
}

func TestASampleLogsOnlyWhatIsKnown(t *testing.T) {
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "s", server.Sample{Node: "n", RejectedConnections: server.Some[int64](3)})
	assert.Contains(t, b.String(), "s.rejected=3")
	assert.NotContains(t, b.String(), "connected")
}

func FuzzRead(f *testing.F) {
	f.Add("# Clients\r\nconnected_clients:5\r\nmaxclients:10\r\n", "timeout", "300")
	f.Add("redis_version:7.2.4\nserver_name:valkey\nvalkey_version:8.1.1\n", "tcp-keepalive", "0")
	f.Add("connected_clients:1\nconnected_clients:2\nuptime_in_seconds:x", "maxclients", "-1")
	f.Fuzz(func(t *testing.T, info, setting, value string) {
		switch setting {
		case "timeout", "tcp-keepalive", "maxclients", "maxmemory":
		default:
			t.Skip()
		}
		s := server.Read(info, setting, value)
		for name, o := range map[string]server.Opt[int64]{
			"connected_clients": s.ConnectedClients, "blocked_clients": s.BlockedClients,
			"rejected_connections": s.RejectedConnections, "evicted_clients": s.EvictedClients,
		} {
			if !o.Known {
				if o.Val != 0 {
					t.Fatalf("%s is %d and not known", name, o.Val)
				}
				continue
			}
			found := false
			for line := range strings.Lines(info) {
				_, v, ok := strings.Cut(strings.TrimRight(line, "\r\n"), name+":")
				n, err := strconv.ParseInt(v, 10, 64)
				found = found || ok && err == nil && n == o.Val
			}
			if !found {
				t.Fatalf("%s is %d in %q", name, o.Val, info)
			}
		}
		if s.Timeout.Val < 0 || s.Uptime.Val < 0 || s.MaxClients.Val < 0 {
			t.Fatalf("negative: %v", s)
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back server.Sample
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatal(err)
		}
		_ = s.String()
	})
}
