package serverside_test

import (
	"context"
	"flag"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "16") // these tests wait for seconds to pass, and do little else
	redistest.MainWithoutLeaks(m)
}

var bg = context.Background()

const soon = 10 * time.Second

// servers are the programs that everything has to work on.
var servers = []struct {
	name  string
	start func(t testing.TB, args ...string) *redistest.Server
}{
	{"Redis", redistest.Start},
	{"Valkey", redistest.StartValkey},
}

// onEach runs the test on each of the servers.
func onEach(t *testing.T, test func(t *testing.T, s *redistest.Server)) {
	t.Parallel()
	for _, srv := range servers {
		t.Run(srv.name, func(t *testing.T) {
			t.Parallel()
			test(t, srv.start(t))
		})
	}
}

// onEveryServer runs it on other versions of Redis, too, where there are such.
func onEveryServer(t *testing.T, test func(t *testing.T, s *redistest.Server)) {
	t.Parallel()
	for name, start := range redistest.Servers() {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, start(t)) })
	}
}

// dial makes a client of the server whose connections have the name.
func dial(t testing.TB, s *redistest.Server, name string, change ...func(*redis.Options)) *redis.Client {
	t.Helper()
	opt := s.Options()
	opt.ClientName = name
	opt.MaxRetries = -1
	opt.DialerRetries = 1
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	for _, f := range change {
		f(opt)
	}
	c := redis.NewClient(opt)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func as(user string) func(*redis.Options) {
	return func(o *redis.Options) { o.Username, o.Password = user, "secret" }
}

// connect opens n connections of that name, and returns them.
func connect(t testing.TB, s *redistest.Server, name string, n int, change ...func(*redis.Options)) []*redis.Conn {
	t.Helper()
	c := dial(t, s, name, change...)
	out := make([]*redis.Conn, n)
	for i := range out {
		out[i] = c.Conn()
		require.NoError(t, out[i].Ping(bg).Err())
		t.Cleanup(func() { _ = out[i].Close() })
	}
	return out
}

// count says how many connections of that name there are.
func count(t testing.TB, s *redistest.Server, name string) int {
	t.Helper()
	n := 0
	for _, c := range s.ClientList(t) {
		if c.Name == name {
			n++
		}
	}
	return n
}

// age waits until all connections of that name are at least so old.
func age(t testing.TB, s *redistest.Server, name string, d time.Duration) {
	t.Helper()
	redistest.Eventually(t, "the connections are old enough", soon, func() bool {
		for _, c := range s.ClientList(t) {
			if c.Name == name && min(c.Age, c.Idle) < d {
				return false
			}
		}
		return true
	})
}

func reaper(t testing.TB, rdb serverside.Commander, p serverside.Policy, opts ...serverside.Option) *serverside.Reaper {
	t.Helper()
	opts = append([]serverside.Option{serverside.WithLogger(slog.New(slog.DiscardHandler))}, opts...)
	r, err := serverside.NewReaper(rdb, p, opts...)
	require.NoError(t, err)
	return r
}

// refuse is a hook that has the server answer what an older one would.
type refuse func(args []any) error

func (refuse) DialHook(next redis.DialHook) redis.DialHook { return next }
func (f refuse) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := f(cmd.Args()); err != nil {
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

func (refuse) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// answer is an error that a server answers with.
type answer string

func (a answer) Error() string { return string(a) }
func (answer) RedisError()     {}
