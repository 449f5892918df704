package serverside_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

// dialNobody is a client of a port where nobody listens.
func dialNobody(t testing.TB) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1, DialTimeout: time.Second})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestListAgreesWithTheServer(t *testing.T) {
	onEach(t, func(t *testing.T, s *redistest.Server) {
		for _, protocol := range []int{2, 3} {
			rdb := dial(t, s, "lister", func(o *redis.Options) { o.Protocol = protocol })
			connect(t, s, "web-1", 2, func(o *redis.Options) { o.DB = 3 })
			sub := dial(t, s, "listener").Subscribe(bg, "a", "b")
			defer sub.Close()
			_, err := sub.Receive(bg)
			require.NoError(t, err)

			all, err := serverside.List(bg, rdb, serverside.Filter{})
			require.NoError(t, err)
			byID := map[int64]serverside.Client{}
			for _, c := range all {
				assert.Empty(t, c.Unknown, "this server is one of those that are known")
				assert.Equal(t, s.Addr(), c.Node)
				byID[c.ID] = c
			}
			for _, want := range s.ClientList(t) {
				if got, ok := byID[want.ID]; assert.True(t, ok) {
					assert.Equal(t, want.Addr, got.Addr)
					assert.Equal(t, want.Name, got.Name)
					assert.Equal(t, want.User, got.User)
					assert.EqualValues(t, want.DB, got.DB)
				}
			}
			web, err := serverside.List(bg, rdb, serverside.Filter{Name: "web-*", DB: []int64{3}, Addr: "127.0.0.0/8"})
			require.NoError(t, err)
			assert.Len(t, web, 2*(protocol-1))
			subs, err := serverside.List(bg, rdb, serverside.Filter{Type: serverside.TypePubSub})
			require.NoError(t, err)
			if assert.Len(t, subs, 1) {
				assert.Equal(t, "listener", subs[0].Name)
				assert.EqualValues(t, 2, subs[0].Sub)
			}
			require.NoError(t, sub.Close())
			redistest.Eventually(t, "the subscriber is gone", soon, func() bool { return count(t, s, "listener") == 0 })
		}
	})
}

func TestListOnAClusterAsksEveryNode(t *testing.T) {
	t.Parallel()
	cl := redistest.StartCluster(t, "redis-server", 2, 0)
	rdb := redis.NewClusterClient(cl.Options())
	defer rdb.Close()
	for i := range cl.Nodes() {
		connect(t, cl.Master(i), "zombie", 3)
	}
	zombies := serverside.Filter{Name: "zombie"}
	all, err := serverside.List(bg, rdb, zombies)
	require.NoError(t, err)
	nodes := map[string]int{}
	for _, c := range all {
		nodes[c.Node]++
	}
	assert.Len(t, nodes, 2)
	assert.Len(t, all, 6)

	age(t, cl.Master(0), "zombie", time.Second)
	age(t, cl.Master(1), "zombie", time.Second)
	r := reaper(t, rdb, serverside.Policy{Name: "zombie", MaxAge: time.Second})
	rep, err := r.Once(bg)
	require.NoError(t, err)
	assert.Equal(t, 6, rep.Closed)
	assert.Equal(t, 2, rep.Nodes)
	n, err := rdb.Exists(bg, serverside.DefaultLockKey).Result()
	require.NoError(t, err)
	assert.Zero(t, n, "the lock was given back")

	// A node that is unreachable hides nothing of the other.
	connect(t, cl.Master(0), "zombie", 1)
	cl.Nodes()[1].Kill()
	all, err = serverside.List(bg, rdb, zombies)
	assert.ErrorIs(t, err, serverside.ErrUnreachable)
	assert.ErrorContains(t, err, cl.Nodes()[1].Addr())
	assert.Len(t, all, 1)
}

func TestListSaysClearlyWhyItCannot(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	require.NoError(t, s.Admin().Do(bg, "ACL", "SETUSER", "poor", "on", ">secret", "+ping", "+hello", "+client|setinfo", "+client|setname").Err())

	_, err := serverside.List(bg, dial(t, s, "poor", as("poor")), serverside.Filter{})
	assert.ErrorIs(t, err, serverside.ErrDenied)
	assert.ErrorContains(t, err, "NOPERM")
	assert.ErrorContains(t, err, "needs +client|list")
	assert.ErrorContains(t, err, s.Addr())

	_, err = serverside.List(bg, dialNobody(t), serverside.Filter{})
	assert.ErrorIs(t, err, serverside.ErrUnreachable)
	assert.ErrorContains(t, err, "127.0.0.1:1")

	for _, none := range []serverside.Commander{nil, (*redis.Client)(nil)} {
		_, err = serverside.List(bg, none, serverside.Filter{})
		assert.ErrorContains(t, err, "nil")
	}

	ctx, cancel := context.WithCancel(bg)
	cancel()
	_, err = serverside.List(ctx, dial(t, s, "x"), serverside.Filter{})
	assert.ErrorIs(t, err, context.Canceled)
	assert.NotErrorIs(t, err, serverside.ErrUnreachable, "nobody asked it")
}

func TestListReturnsWhatItCouldReadBesideTheGap(t *testing.T) {
	t.Parallel()
	rdb := torn{reply: line62 + "\nid=x\n" + line8 + "\n"}
	list, err := serverside.List(bg, rdb, serverside.Filter{MinAge: time.Hour})
	var m *serverside.MalformedError
	require.ErrorAs(t, err, &m)
	assert.Equal(t, 1, m.Skipped)
	require.Len(t, list, 1)
	assert.EqualValues(t, 7, list[0].ID)
}

// torn answers CLIENT LIST with the given text.
type torn struct{ reply string }

func (c torn) Do(ctx context.Context, args ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx, args...)
	cmd.SetVal(c.reply)
	return cmd
}
