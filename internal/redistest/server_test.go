package redistest_test

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

var ctx = context.Background()

func client(t *testing.T, opt *redis.Options) *redis.Client {
	t.Helper()
	c := redis.NewClient(opt)
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAStartedServerAnswersOnItsPortAndItsUnixSocket(t *testing.T) {
	s := redistest.Start(t)
	require.NoError(t, client(t, s.Options()).Ping(ctx).Err())
	require.NoError(t, client(t, &redis.Options{Network: "unix", Addr: s.Unix()}).Ping(ctx).Err())
	assert.Equal(t, s.Addr(), s.AdminAddr())
	assert.Nil(t, s.TLSConfig())
}

func TestExtraFlagsReachTheServer(t *testing.T) {
	s := redistest.Start(t, "--maxclients", "77", "--timeout", "300")
	got, err := s.Admin().ConfigGet(ctx, "*").Result()
	require.NoError(t, err)
	assert.Equal(t, "77", got["maxclients"])
	assert.Equal(t, "300", got["timeout"])
	assert.Equal(t, "127.0.0.1", got["bind"])
	assert.Equal(t, "", got["save"])
}

func TestAPasswordIsInTheOptionsAndTheJudgeHasItToo(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "sesame")
	require.NoError(t, client(t, s.Options()).Ping(ctx).Err())
	require.NoError(t, s.Admin().Ping(ctx).Err())
	require.ErrorContains(t, client(t, &redis.Options{Addr: s.Addr()}).Ping(ctx).Err(), "NOAUTH")
}

func TestTLSServesItsCertificateAndAPlainPortToJudgeBy(t *testing.T) {
	for _, version := range []string{"TLSv1.2", "TLSv1.3"} {
		t.Run(version, func(t *testing.T) {
			s := redistest.StartTLS(t, "--tls-protocols", version)
			require.NotEqual(t, s.Addr(), s.AdminAddr())
			require.NoError(t, client(t, s.Options()).Ping(ctx).Err())
			assert.Equal(t, 1, s.NumClients(t))

			plain := client(t, &redis.Options{Addr: s.Addr(), MaxRetries: -1, DialerRetries: 1})
			require.Error(t, plain.Ping(ctx).Err(), "the TLS port speaks TLS only")

			through := s.Options()
			through.Addr = redistest.NewProxy(t, s.Addr()).Addr()
			require.NoError(t, client(t, through).Ping(ctx).Err(), "the certificate fits behind a proxy")
		})
	}
}

func TestClientListShowsTheClientsButNotTheJudge(t *testing.T) {
	s := redistest.Start(t)
	require.Equal(t, 0, s.NumClients(t))
	opt := s.Options()
	opt.ClientName, opt.DB = "somebody", 3
	require.NoError(t, client(t, opt).Set(ctx, "k", "v", 0).Err())

	list := s.ClientList(t)
	require.Len(t, list, 1)
	c := list[0]
	assert.Positive(t, c.ID)
	assert.Equal(t, "somebody", c.Name)
	assert.Equal(t, "set", c.Cmd)
	assert.Equal(t, "N", c.Flags)
	assert.Equal(t, "default", c.User)
	assert.Equal(t, 3, c.DB)
	assert.Equal(t, 3, c.Resp)
	assert.Equal(t, s.Addr(), c.LAddr)
	assert.Equal(t, c.Addr, c.Raw["addr"])
	assert.True(t, c.Normal())
	assert.Less(t, c.Age, 5*time.Second)
}

func TestParseClientListRefusesWhatIsNone(t *testing.T) {
	for _, reply := range []string{"nonsense", "addr=1.2.3.4:5 fd=8"} {
		_, err := redistest.ParseClientList(reply)
		assert.ErrorContains(t, err, reply)
	}
	list, err := redistest.ParseClientList("id=3 addr=/tmp/s:0 name= age=7 idle=2 flags=P sub=1\n\nid=4 flags=S\n")
	require.NoError(t, err)
	require.Len(t, list, 2)
	assert.Equal(t, 7*time.Second, list[0].Age)
	assert.Equal(t, 2*time.Second, list[0].Idle)
	assert.False(t, list[0].Normal())
	assert.False(t, list[1].Normal())
}

func TestKillClientsEndsNormalClientsOnly(t *testing.T) {
	s := redistest.Start(t)
	require.Equal(t, 0, s.KillClients(t))
	for range 3 {
		require.NoError(t, client(t, s.Options()).Ping(ctx).Err())
	}
	sub := client(t, s.Options()).Subscribe(ctx, "news")
	defer sub.Close()
	_, err := sub.Receive(ctx)
	require.NoError(t, err)

	require.Equal(t, 4, s.NumClients(t))
	assert.Equal(t, 3, s.KillClients(t))
	redistest.Eventually(t, "the subscriber alone is left", 2*time.Second, func() bool {
		list := s.ClientList(t)
		return len(list) == 1 && !list[0].Normal()
	})
}

func TestKillEndsTheServerAndRestartBringsItBackOnTheSamePorts(t *testing.T) {
	s := redistest.StartTLS(t)
	require.NoError(t, s.Admin().Set(ctx, "k", "v", 0).Err())
	s.Kill()
	for _, addr := range []string{s.Addr(), s.AdminAddr()} {
		_, err := net.Dial("tcp", addr)
		require.Error(t, err)
	}
	s.Kill() // once more does nothing
	s.Restart()
	require.NoError(t, client(t, s.Options()).Ping(ctx).Err())
	require.Equal(t, redis.Nil, s.Admin().Get(ctx, "k").Err(), "nothing is kept on disk")
	s.Restart() // kills what still runs
	require.NoError(t, s.Admin().Ping(ctx).Err())
}

func TestAPausedServerIsSilentAndGoesOnAfterResume(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	opt.MaxRetries, opt.ReadTimeout = -1, 100*time.Millisecond
	c := client(t, opt)
	require.NoError(t, c.Ping(ctx).Err())
	s.Pause()
	var ne net.Error
	require.ErrorAs(t, c.Ping(ctx).Err(), &ne)
	require.True(t, ne.Timeout())
	s.Resume()
	require.NoError(t, s.Admin().Ping(ctx).Err())
	s.Pause() // and the end of the test has to cope with that
}

func TestManyServersStartAtTheSameTime(t *testing.T) {
	for range 6 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			require.NoError(t, client(t, s.Options()).Ping(ctx).Err())
		})
	}
}

func TestTheServerAndItsFolderEndWithTheTest(t *testing.T) {
	var addr, sock string
	t.Run("inner", func(t *testing.T) {
		s := redistest.Start(t)
		addr, sock = s.Addr(), s.Unix()
	})
	_, err := net.Dial("tcp", addr)
	require.Error(t, err)
	_, err = os.Stat(sock)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestAValkeyServerIsOne(t *testing.T) {
	s := redistest.StartValkey(t)
	info, err := s.Admin().InfoMap(ctx, "server").Result()
	require.NoError(t, err)
	assert.Equal(t, "valkey", info["Server"]["server_name"])
	assert.True(t, s.Running())
	s.Kill()
	assert.False(t, s.Running())
}
