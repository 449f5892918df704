package managed_test

import (
	"bytes"
	"context"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// What docs/MIGRATION.md says is different, beside a bare client, as far as no other test
// is about it.

func TestThereAreEightAttemptsOrOneMoreThanMaxRetries(t *testing.T) {
	s := redistest.Start(t)
	for retries, want := range map[int]int64{0: 8, 2: 3, -1: 1} {
		p := redistest.NewProxy(t, s.Addr())
		c := client(t, &redis.Options{Addr: p.Addr(), MaxRetries: retries, MinRetryBackoff: time.Millisecond, MaxRetryBackoff: time.Millisecond})
		require.NoError(t, c.Ping(t.Context()).Err())
		var sent atomic.Int64
		p.OnRequest(func(_ int, b []byte) redistest.Action {
			if bytes.Contains(b, []byte("\r\nget\r\n")) {
				sent.Add(1)
				return redistest.CutAfter
			}
			return redistest.Forward
		})
		err := c.Get(t.Context(), "k").Err()
		require.ErrorIs(t, err, io.EOF)
		var lost *hooks.ConnError
		require.ErrorAs(t, err, &lost)
		require.Equal(t, want, sent.Load(), "attempts with MaxRetries %d", retries)
	}
}

func TestIdleConnectionsAreUsedInTurn(t *testing.T) {
	opt := redistest.Options(t)
	bare, c := redis.NewClient(opt), client(t, opt)
	defer bare.Close()
	for rdb, want := range map[*redis.Client]int{bare: 1, c.Client: 3} {
		var conns []*redis.Conn
		for range 3 {
			conn := rdb.Conn()
			require.NoError(t, conn.Ping(t.Context()).Err())
			conns = append(conns, conn)
		}
		for _, conn := range conns {
			require.NoError(t, conn.Close())
		}
		used := map[int64]bool{}
		for range 3 {
			used[rdb.ClientID(t.Context()).Val()] = true
		}
		require.Len(t, used, want)
	}
}

func TestAClusterWithoutRedirectsFollowsMovedAsAnAttempt(t *testing.T) {
	cluster := redistest.StartCluster(t, "redis-server", 3, 0)
	wrong, owner := cluster.Master(0), cluster.Master(1) // of the key
	options := func() *redis.ClusterOptions {
		opt, asked := cluster.Options(), new(atomic.Int64)
		opt.MaxRedirects = -1
		opt.ClusterSlots = func(ctx context.Context) ([]redis.ClusterSlot, error) {
			of := owner
			if asked.Add(1) == 1 {
				of = wrong
			}
			return []redis.ClusterSlot{{Start: 0, End: 16383, Nodes: []redis.ClusterNode{{Addr: of.Addr()}}}}, nil
		}
		return opt
	}
	bare, c := redis.NewClusterClient(options()), clusterClient(t, options())
	defer bare.Close()
	key := cluster.Key(1, "k")
	require.ErrorContains(t, bare.Set(t.Context(), key, "v", 0).Err(), "MOVED")
	require.NoError(t, c.Set(t.Context(), key, "v", 0).Err())
}

func TestATransactionInAClusterIsSentAgainIfAllInItMayBe(t *testing.T) {
	s := redistest.StartOneNodeCluster(t)
	p := redistest.NewProxy(t, s.Addr())
	options := func() *redis.ClusterOptions { // go-redis changes them
		return &redis.ClusterOptions{ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
			return []redis.ClusterSlot{{Start: 0, End: 16383, Nodes: []redis.ClusterNode{{Addr: p.Addr()}}}}, nil
		}}
	}
	bare, c := redis.NewClusterClient(options()), clusterClient(t, options())
	defer bare.Close()
	send := func(ctx context.Context, rdb redis.UniversalClient) (int64, error) {
		require.NoError(t, rdb.Set(ctx, "{k}", "v", 0).Err())
		var sent atomic.Int64
		p.OnRequest(func(_ int, b []byte) redistest.Action {
			if bytes.Contains(b, []byte("exec")) && sent.Add(1) == 1 {
				return redistest.CutAfter
			}
			return redistest.Forward
		})
		defer p.OnRequest(nil)
		_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, "{k}1", "v", 0)
			p.Set(ctx, "{k}2", "v", 0)
			return nil
		})
		return sent.Load(), err
	}
	n, err := send(t.Context(), bare)
	require.ErrorIs(t, err, io.EOF)
	require.EqualValues(t, 1, n)
	n, err = send(t.Context(), c)
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
	n, err = send(retry.Never(t.Context()), c)
	require.ErrorIs(t, err, retry.ErrUnknownOutcome)
	require.EqualValues(t, 1, n)
}

func TestALineThatIsCutIsAnUnexpectedEOF(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := &redis.Options{Addr: p.Addr(), MaxRetries: -1}
	bare, c := redis.NewClient(opt), client(t, opt)
	defer bare.Close()
	for rdb, want := range map[redis.Cmdable]error{bare: io.EOF, c: io.ErrUnexpectedEOF} {
		p.OnReply(nil)
		require.NoError(t, rdb.Ping(t.Context()).Err())
		p.OnReply(func(int, []byte) redistest.Action { return redistest.HalfThenCut })
		require.ErrorIs(t, rdb.IncrBy(t.Context(), "n", 1000).Err(), want)
	}
}

// go-redis copies the options of a client, but not those of a cluster.
func TestTheOptionsThatAreGivenToAClusterAreNotChanged(t *testing.T) {
	given := func() *redis.ClusterOptions { return &redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}} }
	bare, ours := given(), given()
	require.NoError(t, redis.NewClusterClient(bare).Close())
	require.NoError(t, managed.NewClusterClient(ours, managed.WithLogger(quiet)).Close())
	require.Equal(t, 3, bare.MaxRedirects, "go-redis fills in its defaults; if it does not any more, the row in docs/MIGRATION.md can go")
	require.Equal(t, given(), ours)
}

// The type of go-redis is internal, so no program can name it: these are the ways to look at it.
func TestARefusedHandshakeIsAReplyWithGoRedissText(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "right")
	opt := s.Options()
	opt.Password = "wrong"
	bare, c := redis.NewClient(opt), client(t, opt)
	defer bare.Close()
	want, got := bare.Get(t.Context(), "k").Err(), c.Get(t.Context(), "k").Err()
	require.EqualError(t, got, want.Error())
	for _, err := range []error{want, got} {
		var reply redis.Error
		require.ErrorAs(t, err, &reply)
		require.True(t, redis.HasErrorPrefix(err, "WRONGPASS"), "%T", err)
		require.True(t, redis.IsAuthError(err), "%T", err)
	}
	_, is := got.(redis.Error) //nolint:errorlint // by its type, on purpose
	require.True(t, is, "%T", got)
}

func TestAnOnConnectThatClosesItsConnFailsEachCall(t *testing.T) {
	opt := redistest.Options(t)
	opt.OnConnect = func(_ context.Context, conn *redis.Conn) error { return conn.Close() }
	bare, c := redis.NewClient(opt), client(t, opt)
	defer bare.Close()
	require.NoError(t, bare.Ping(t.Context()).Err(), "go-redis ignores it; if not any more, the paragraph in docs/MIGRATION.md can go")
	require.ErrorIs(t, c.Ping(t.Context()).Err(), redis.ErrClosed)
}

func TestAConnWhoseHandshakeWasRefusedTriesItAgainWithTheNextCommand(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "right")
	opt := s.Options()
	opt.Password = "wrong"
	bare, c := redis.NewClient(opt), client(t, opt)
	defer bare.Close()
	for rdb, want := range map[*redis.Client]string{bare: "redis: Conn is in a bad state: ", c.Client: "WRONGPASS"} {
		conn := rdb.Conn()
		require.ErrorContains(t, conn.Get(t.Context(), "k").Err(), "WRONGPASS")
		require.ErrorContains(t, conn.Get(t.Context(), "k").Err(), want)
		require.NoError(t, conn.Close())
	}
}

func TestWhatFollowsOnAConnectionIsNotSentAfterTheEndOfItsCtx(t *testing.T) {
	s := redistest.Start(t)
	ended, end := context.WithCancel(t.Context())
	end()
	incr := func(tx redis.Cmdable) map[string]error {
		p, in := tx.Pipeline(), tx.TxPipeline()
		p.Incr(ended, "pipeline")
		in.Incr(ended, "transaction")
		_, inPipeline := p.Exec(ended)
		_, inTransaction := in.Exec(ended)
		return map[string]error{"command": tx.Incr(ended, "command").Err(), "pipeline": inPipeline, "transaction": inTransaction}
	}
	watch := func(c redis.UniversalClient) (errs map[string]error) {
		require.NoError(t, c.Watch(t.Context(), func(tx *redis.Tx) error { errs = incr(tx); return nil }, "k"))
		return errs
	}
	onConn := func(c *redis.Client) map[string]error {
		conn := c.Conn()
		defer conn.Close()
		require.NoError(t, conn.Ping(t.Context()).Err())
		return incr(conn)
	}
	bare, c := redis.NewClient(s.Options()), client(t, s.Options())
	defer bare.Close()
	for where, pair := range map[string][2]map[string]error{
		"Conn":  {onConn(bare), onConn(c.Client)},
		"Watch": {watch(bare), watch(c)},
	} {
		for what, err := range pair[0] {
			require.NoError(t, err, "go-redis sends a %s on a %s; if not any more, the row in docs/MIGRATION.md can go", what, where)
			require.Equal(t, context.Canceled, pair[1][what], "%s, %s", where, what)
		}
	}
}
