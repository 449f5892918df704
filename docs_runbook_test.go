package lifeguard_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// trouble makes the situations of the runbook. Each gives the error that a caller gets.
type trouble struct {
	t       *testing.T
	s       *redistest.Server
	cluster *redistest.Cluster
}

func (tr trouble) client(o *redis.Options, opts ...managed.Option) *managed.Client {
	tr.t.Helper()
	c, err := managed.New(o, append(opts, quiet())...)
	require.NoError(tr.t, err)
	tr.t.Cleanup(func() { _ = c.Close() })
	return c
}

func quiet() managed.Option {
	return managed.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
}

// warm is a client with an open connection, by way of a proxy.
func (tr trouble) warm(o redis.Options) (*managed.Client, *redistest.Proxy) {
	tr.t.Helper()
	p := redistest.NewProxy(tr.t, tr.s.Addr())
	o.Addr = p.Addr()
	c := tr.client(&o)
	require.NoError(tr.t, c.Ping(tr.t.Context()).Err())
	return c, p
}

// soon is the ctx of a caller whose command is retried until it ends.
func (tr trouble) soon() context.Context {
	ctx, cancel := context.WithTimeout(tr.t.Context(), time.Second)
	tr.t.Cleanup(cancel)
	return ctx
}

// fresh is a server of this situation alone, and a client for it.
func (tr trouble) fresh(args ...string) (*redistest.Server, *managed.Client) {
	s := redistest.Start(tr.t, args...)
	return s, tr.client(s.Options())
}

func (tr trouble) bare(s *redistest.Server) *redis.Client {
	c := redis.NewClient(s.Options())
	tr.t.Cleanup(func() { _ = c.Close() })
	return c
}

// dialing is a client whose dials fail in the system's call of that name.
func (tr trouble) dialing(err syscall.Errno, call string) *managed.Client {
	o := tr.s.Options()
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		d := net.Dialer{Control: func(string, string, syscall.RawConn) error { return os.NewSyscallError(call, err) }}
		return d.DialContext(ctx, network, addr)
	}
	return tr.client(o)
}

// says is the address of something that is no server of ours: it answers with text and closes.
func (tr trouble) says(text string) string {
	return redistest.Listen(tr.t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, text)
		_ = c.Close()
	})
}

// until calls until its error has the text, and is not the deadline of the caller, which may come first on a busy
// machine.
func (tr trouble) until(text string, call func() error) (err error) {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if err = call(); err != nil && strings.Contains(err.Error(), text) && !strings.HasPrefix(err.Error(), "context deadline exceeded") {
			return err
		}
	}
	return err
}

// nobody is an address where nothing listens.
func (tr trouble) nobody() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tr.t, err)
	defer ln.Close()
	return ln.Addr().String()
}

func (tr trouble) replica() *managed.Client {
	s, c := tr.fresh()
	require.NoError(tr.t, s.Admin().Do(tr.t.Context(), "REPLICAOF", "127.0.0.1", "1").Err())
	return c
}

// moving has a slot on its way from the first node of the cluster to the second: of the
// two keys, the first is there and the second is not.
func (tr trouble) moving() (here, missing string) {
	here = tr.cluster.Key(0, "here")
	missing = strings.TrimSuffix(here, "here") + "missing"
	from, to := tr.cluster.Nodes()[0].Admin(), tr.cluster.Nodes()[1].Admin()
	slot := from.ClusterKeySlot(tr.t.Context(), here).Val()
	ids := [2]string{from.Do(tr.t.Context(), "CLUSTER", "MYID").Val().(string), to.Do(tr.t.Context(), "CLUSTER", "MYID").Val().(string)}
	require.NoError(tr.t, from.Set(tr.t.Context(), here, 1, 0).Err())
	require.NoError(tr.t, to.Do(tr.t.Context(), "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0]).Err())
	require.NoError(tr.t, from.Do(tr.t.Context(), "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1]).Err())
	tr.t.Cleanup(func() {
		for _, n := range []*redis.Client{from, to} {
			require.NoError(tr.t, n.Do(context.Background(), "CLUSTER", "SETSLOT", slot, "STABLE").Err())
		}
	})
	return here, missing
}

// troubles are the situations by the text that people search for: a heading of the runbook.
var troubles = map[string]func(tr trouble) error{
	"connection pool timeout": func(tr trouble) error {
		o := tr.s.Options()
		o.PoolSize, o.PoolTimeout = 1, 50*time.Millisecond
		c := tr.client(o)
		lease, err := c.Acquire(managed.WithLabel(tr.t.Context(), "nightly report"))
		require.NoError(tr.t, err)
		defer lease.Release()
		return c.Get(tr.t.Context(), "k").Err()
	},
	"self-deadlock": func(tr trouble) error {
		o := tr.s.Options()
		o.PoolSize = 1
		c := tr.client(o)
		return c.AcquireFunc(tr.t.Context(), func(conn *managed.Conn) error {
			_, err := c.Acquire(conn.Context())
			return err
		})
	},
	"the limit of open connections is reached": func(tr trouble) error {
		o := tr.s.Options()
		o.PoolSize, o.DialTimeout = 2, 50*time.Millisecond
		c := tr.client(o, managed.WithConnLimit(1))
		lease, err := c.Acquire(tr.t.Context())
		require.NoError(tr.t, err)
		defer lease.Release()
		_, err = c.Acquire(tr.soon())
		return err
	},
	"max number of clients reached": func(tr trouble) error {
		s, c := tr.fresh("--maxclients", "2")
		require.NoError(tr.t, s.Admin().Ping(tr.t.Context()).Err())
		require.NoError(tr.t, tr.bare(s).Ping(tr.t.Context()).Err())
		return tr.until("ERR max number", func() error { return c.Get(tr.soon(), "k").Err() })
	},
	"connection refused": func(tr trouble) error {
		return tr.client(&redis.Options{Addr: tr.nobody()}).Get(tr.soon(), "k").Err()
	},
	"no such host": func(tr trouble) error { // two dots: no resolver is asked
		return tr.client(&redis.Options{Addr: "redis..example:6379"}).Get(tr.soon(), "k").Err()
	},
	"i/o timeout": func(tr trouble) error {
		c, p := tr.warm(redis.Options{ReadTimeout: 100 * time.Millisecond})
		p.Stall(true)
		return c.Incr(tr.t.Context(), "n").Err()
	},
	"context deadline exceeded": func(tr trouble) error {
		c, p := tr.warm(redis.Options{ContextTimeoutEnabled: true})
		p.Stall(true)
		return c.Incr(tr.soon(), "n").Err()
	},
	"breaker open": func(tr trouble) error {
		policy := retry.Default()
		policy.Breaker.After = 50 * time.Millisecond
		c := tr.client(&redis.Options{Addr: tr.nobody()}, managed.WithRetry(policy))
		return c.Get(tr.t.Context(), "k").Err()
	},
	"certificate signed by unknown authority": func(tr trouble) error {
		o := redistest.StartTLS(tr.t).Options()
		o.TLSConfig = o.TLSConfig.Clone()
		o.TLSConfig.RootCAs = nil
		return tr.client(o).Get(tr.soon(), "k").Err()
	},
	"handshake with": func(tr trouble) error {
		s := redistest.StartTLS(tr.t)
		c := tr.client(&redis.Options{Addr: s.Addr()})
		for { // a busy machine may need its time before there is an answer
			err := c.Get(tr.soon(), "k").Err()
			if strings.HasPrefix(err.Error(), "lifeguard: handshake") || tr.t.Context().Err() != nil {
				return err
			}
		}
	},
	"EOF": func(tr trouble) error {
		c, p := tr.warm(redis.Options{})
		p.OnReply(func(int, []byte) redistest.Action { return redistest.CutBefore })
		return c.Incr(tr.t.Context(), "n").Err()
	},
	"connection reset by peer": func(tr trouble) error {
		c, p := tr.warm(redis.Options{Protocol: 2}) // with RESP3 go-redis makes an EOF of it
		p.OnRequest(func(int, []byte) redistest.Action { go p.CutAll(); return redistest.Drop })
		return c.Incr(tr.t.Context(), "n").Err()
	},
	"broken pipe": func(tr trouble) error {
		s, c := tr.fresh()
		lease, err := c.Acquire(tr.t.Context())
		require.NoError(tr.t, err)
		defer lease.Release()
		require.NoError(tr.t, lease.Ping(tr.t.Context()).Err())
		s.KillClients(tr.t)
		return lease.Set(tr.t.Context(), "k", strings.Repeat("x", 16<<20), 0).Err()
	},
	"Conn is in a bad state": func(tr trouble) error {
		s, c := tr.fresh()
		lease, err := c.Acquire(tr.t.Context())
		require.NoError(tr.t, err)
		defer lease.Release()
		s.KillClients(tr.t)
		require.Error(tr.t, lease.Incr(tr.t.Context(), "n").Err())
		return lease.Incr(tr.t.Context(), "n").Err()
	},
	"NOAUTH": func(tr trouble) error {
		s := redistest.Start(tr.t, "--requirepass", "right")
		return tr.client(&redis.Options{Addr: s.Addr()}).Get(tr.soon(), "k").Err()
	},
	"WRONGPASS": func(tr trouble) error {
		s := redistest.Start(tr.t, "--requirepass", "right")
		return tr.client(&redis.Options{Addr: s.Addr(), Password: "wrong"}).Get(tr.soon(), "k").Err()
	},
	"NOPERM": func(tr trouble) error {
		s, _ := tr.fresh()
		require.NoError(tr.t, s.Admin().Do(tr.t.Context(), "ACL", "SETUSER", "app", "on", ">pw", "+@connection", "+get", "~app:*").Err())
		return tr.client(&redis.Options{Addr: s.Addr(), Username: "app", Password: "pw"}).Set(tr.soon(), "k", 1, 0).Err()
	},
	"MOVED": func(tr trouble) error {
		c := tr.client(&redis.Options{Addr: tr.cluster.Addrs()[0]})
		return c.Get(tr.soon(), tr.cluster.Key(2, "k")).Err()
	},
	"ASK": func(tr trouble) error {
		_, missing := tr.moving()
		return tr.client(&redis.Options{Addr: tr.cluster.Addrs()[0]}).Get(tr.soon(), missing).Err()
	},
	"TRYAGAIN": func(tr trouble) error {
		here, missing := tr.moving()
		return tr.client(&redis.Options{Addr: tr.cluster.Addrs()[0]}).MGet(tr.soon(), here, missing).Err()
	},
	"UNBLOCKED": func(tr trouble) error {
		s, c := tr.fresh()
		lease, err := c.Acquire(tr.t.Context())
		require.NoError(tr.t, err)
		defer lease.Release()
		id := lease.ClientID(tr.t.Context()).Val()
		go func() {
			for s.Admin().ClientUnblockWithError(tr.t.Context(), id).Val() == 0 && tr.t.Context().Err() == nil {
			}
		}()
		return lease.BLPop(tr.t.Context(), time.Minute, "queue").Err()
	},
	"WRONGTYPE": func(tr trouble) error {
		c := tr.client(tr.s.Options())
		require.NoError(tr.t, c.Set(tr.t.Context(), "wrong", "text", 0).Err())
		return c.LPush(tr.t.Context(), "wrong", 1).Err()
	},
	"CROSSSLOT": func(tr trouble) error {
		c, err := managed.NewCluster(tr.cluster.Options())
		require.NoError(tr.t, err)
		defer c.Close()
		return c.LMove(tr.soon(), "a", "b", "RIGHT", "LEFT").Err()
	},
	"CLUSTERDOWN": func(tr trouble) error {
		_, c := tr.fresh("--cluster-enabled", "yes")
		return c.Get(tr.soon(), "k").Err()
	},
	"READONLY": func(tr trouble) error { return tr.replica().Set(tr.soon(), "k", 1, 0).Err() },
	"MASTERDOWN": func(tr trouble) error {
		c := tr.replica()
		require.NoError(tr.t, c.ConfigSet(tr.t.Context(), "replica-serve-stale-data", "no").Err())
		return c.Get(tr.soon(), "k").Err()
	},
	"LOADING": func(tr trouble) error {
		s, c := tr.fresh("--enable-debug-command", "yes", "--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
		pipe := s.Admin().Pipeline()
		for i := range 3000 {
			pipe.Set(tr.t.Context(), fmt.Sprint("filler:", i), strings.Repeat("x", 500), 0)
		}
		_, err := pipe.Exec(tr.t.Context())
		require.NoError(tr.t, err)
		require.NoError(tr.t, c.Ping(tr.t.Context()).Err())
		go tr.bare(s).Do(tr.t.Context(), "debug", "reload") // its reply is for nobody
		for {
			if err = c.Get(tr.soon(), "k").Err(); err != nil && err != redis.Nil {
				return err
			}
		}
	},
	"BUSY": func(tr trouble) error {
		s, c := tr.fresh("--busy-reply-threshold", "50")
		require.NoError(tr.t, c.Ping(tr.t.Context()).Err())
		done := make(chan struct{})
		defer func() { <-done }()
		defer s.Admin().ScriptKill(context.WithoutCancel(tr.t.Context()))
		go func() {
			defer close(done)
			_ = tr.bare(s).Eval(tr.t.Context(), "while true do end", nil).Err()
		}()
		for {
			if err := c.Get(tr.soon(), "k").Err(); err != nil && err != redis.Nil {
				return err
			}
		}
	},
	"NOREPLICAS": func(tr trouble) error {
		_, c := tr.fresh("--min-replicas-to-write", "1")
		return c.Set(tr.soon(), "k", 1, 0).Err()
	},
	"MISCONF": func(tr trouble) error {
		s, c := tr.fresh("--save", "3600 1", "--dir", "/proc")
		require.NoError(tr.t, s.Admin().BgSave(tr.t.Context()).Err())
		redistest.Eventually(tr.t, "the save fails", 10*time.Second, func() bool {
			return strings.Contains(s.Admin().Info(tr.t.Context(), "persistence").Val(), "rdb_last_bgsave_status:err")
		})
		return c.Set(tr.soon(), "k", 1, 0).Err()
	},
	"OOM": func(tr trouble) error {
		_, c := tr.fresh("--maxmemory", "1")
		return c.Set(tr.soon(), "k", 1, 0).Err()
	},
	"NOSCRIPT": func(tr trouble) error {
		return tr.client(tr.s.Options()).EvalSha(tr.soon(), "ffffffffffffffffffffffffffffffffffffffff", nil).Err()
	},
	"EXECABORT": func(tr trouble) error {
		_, err := tr.client(tr.s.Options()).TxPipelined(tr.soon(), func(p redis.Pipeliner) error {
			p.Do(tr.t.Context(), "NOSUCH")
			return nil
		})
		return err
	},
	"all sentinels specified in configuration are unreachable": func(tr trouble) error {
		c, err := managed.NewFailover(&redis.FailoverOptions{MasterName: "orders", SentinelAddrs: []string{tr.nobody()}}, quiet())
		require.NoError(tr.t, err)
		tr.t.Cleanup(func() { _ = c.Close() })
		return c.Get(tr.soon(), "k").Err()
	},
	"dial": func(tr trouble) error {
		o := tr.s.Options()
		o.TLSConfig = redistest.StartTLS(tr.t).Options().TLSConfig
		return tr.client(o).Get(tr.soon(), "k").Err()
	},
	"use of closed network connection": func(tr trouble) error {
		c := tr.client(tr.s.Options())
		lease, err := c.Acquire(tr.t.Context())
		require.NoError(tr.t, err)
		defer lease.Release()
		require.NoError(tr.t, lease.Ping(tr.t.Context()).Err())
		time.AfterFunc(100*time.Millisecond, func() { _ = c.Close() })
		return lease.BLPop(tr.t.Context(), time.Minute, "nothing").Err()
	},
	"DB index is out of range": func(tr trouble) error {
		o := tr.s.Options()
		o.DB = 99
		return tr.client(o).Get(tr.soon(), "k").Err()
	},
	"unknown command": func(tr trouble) error {
		return tr.client(tr.s.Options()).Do(tr.soon(), "NOSUCH", "x").Err()
	},
	"BUSYGROUP": func(tr trouble) error {
		_, c := tr.fresh()
		require.NoError(tr.t, c.XGroupCreateMkStream(tr.soon(), "stream", "workers", "$").Err())
		return c.XGroupCreateMkStream(tr.soon(), "stream", "workers", "$").Err()
	},
	"NOGROUP": func(tr trouble) error {
		return tr.client(tr.s.Options()).XReadGroup(tr.soon(), &redis.XReadGroupArgs{Group: "workers", Consumer: "a", Streams: []string{"nostream", ">"}}).Err()
	},
	"transaction failed": func(tr trouble) error {
		c := tr.client(tr.s.Options())
		return c.Watch(tr.t.Context(), func(tx *redis.Tx) error {
			require.NoError(tr.t, c.Incr(tr.t.Context(), "watched").Err())
			_, err := tx.TxPipelined(tr.t.Context(), func(p redis.Pipeliner) error { return p.Incr(tr.t.Context(), "watched").Err() })
			return err
		}, "watched")
	},
	"redis: nil": func(tr trouble) error { return tr.client(tr.s.Options()).Get(tr.soon(), "no such key").Err() },
	"outcome unknown": func(tr trouble) error {
		c, p := tr.warm(redis.Options{})
		p.OnReply(func(int, []byte) redistest.Action { return redistest.CutBefore })
		return c.LPush(tr.t.Context(), "list", 1).Err()
	},
	"executed, but its reply was lost": func(tr trouble) error {
		c, p := tr.warm(redis.Options{})
		require.NoError(tr.t, c.ZAdd(tr.t.Context(), "jobs", redis.Z{Member: "7"}).Err())
		lost := false
		p.OnReply(func(int, []byte) redistest.Action {
			if !lost {
				lost = true
				return redistest.CutBefore
			}
			return redistest.Forward
		})
		return c.ZRem(tr.t.Context(), "jobs", "7").Err()
	},
	"the lease was released": func(tr trouble) error {
		lease, err := tr.client(tr.s.Options()).Acquire(tr.t.Context())
		require.NoError(tr.t, err)
		lease.Release()
		return lease.Ping(tr.t.Context()).Err()
	},
	"the ctx of the lease has ended": func(tr trouble) error {
		ctx, cancel := context.WithCancel(tr.t.Context())
		lease, err := tr.client(tr.s.Options()).Acquire(ctx)
		require.NoError(tr.t, err)
		defer lease.Release()
		cancel()
		return lease.Ping(tr.t.Context()).Err()
	},
	"the client is shutting down": func(tr trouble) error {
		c := tr.client(tr.s.Options())
		require.NoError(tr.t, c.CloseGracefully(tr.t.Context()))
		return c.Ping(tr.t.Context()).Err()
	},
	"shut down with": func(tr trouble) error {
		c := tr.client(tr.s.Options())
		lease, err := c.Acquire(tr.t.Context())
		require.NoError(tr.t, err)
		defer lease.Release()
		ctx, cancel := context.WithCancel(tr.t.Context())
		cancel()
		return c.CloseGracefully(ctx)
	},
	"network is unreachable": func(tr trouble) error {
		return tr.dialing(syscall.ENETUNREACH, "connect").Get(tr.soon(), "k").Err()
	},
	"too many open files": func(tr trouble) error { return tr.dialing(syscall.EMFILE, "socket").Get(tr.soon(), "k").Err() },
	"cannot assign requested address": func(tr trouble) error {
		o := tr.s.Options()
		o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(203, 0, 113, 1)}} // no address of this machine
			return d.DialContext(ctx, network, addr)
		}
		return tr.client(o).Get(tr.soon(), "k").Err()
	},
	"certificate is valid for": func(tr trouble) error {
		o := redistest.StartTLS(tr.t).Options()
		o.TLSConfig = o.TLSConfig.Clone()
		o.TLSConfig.ServerName = "redis.example.com"
		return tr.client(o).Get(tr.soon(), "k").Err()
	},
	"certificate has expired": func(tr trouble) error {
		o := redistest.StartTLS(tr.t).Options()
		o.TLSConfig = o.TLSConfig.Clone()
		o.TLSConfig.Time = func() time.Time { return time.Now().AddDate(100, 0, 0) }
		return tr.client(o).Get(tr.soon(), "k").Err()
	},
	"certificate required": func(tr trouble) error {
		o := redistest.StartTLS(tr.t, "--tls-auth-clients", "yes").Options()
		o.TLSConfig = o.TLSConfig.Clone()
		o.TLSConfig.Certificates = nil
		c := tr.client(o)
		return tr.until("certificate required", func() error { return c.Get(tr.soon(), "k").Err() })
	},
	"can't parse": func(tr trouble) error {
		c := tr.client(&redis.Options{Addr: tr.says("HTTP/1.1 400 Bad Request\r\n\r\n")})
		return tr.until("can't parse", func() error { return c.Get(tr.soon(), "k").Err() })
	},
	"cluster support disabled": func(tr trouble) error {
		c, err := managed.NewCluster(&redis.ClusterOptions{Addrs: []string{tr.s.Addr()}}, quiet())
		require.NoError(tr.t, err)
		defer c.Close()
		return c.Get(tr.t.Context(), "k").Err()
	},
	"all ring shards are down": func(tr trouble) error {
		c := managed.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": tr.nobody()}, HeartbeatFrequency: 20 * time.Millisecond}, quiet())
		defer c.Close()
		return tr.until("all ring shards are down", func() error { return c.Get(tr.soon(), "k").Err() })
	},
	"connection pool exhausted": func(tr trouble) error {
		o := tr.s.Options()
		o.PoolSize, o.MaxActiveConns = 2, 1
		c := tr.client(o)
		lease, err := c.Acquire(tr.t.Context())
		require.NoError(tr.t, err)
		defer lease.Release()
		return c.Get(tr.t.Context(), "k").Err()
	},
	"context canceled": func(tr trouble) error {
		o := tr.s.Options()
		o.PoolSize = 1
		c := tr.client(o)
		lease, err := c.Acquire(tr.t.Context())
		require.NoError(tr.t, err)
		defer lease.Release()
		ctx, cancel := context.WithCancel(tr.t.Context())
		defer cancel()
		go func() {
			for c.Stats().Waiting == 0 && tr.t.Context().Err() == nil {
			}
			cancel()
		}()
		return c.Get(ctx, "k").Err()
	},
	"unexpected EOF": func(tr trouble) error {
		c, p := tr.warm(redis.Options{})
		require.NoError(tr.t, c.Set(tr.t.Context(), "big", strings.Repeat("x", 100), 0).Err())
		p.OnReply(func(int, []byte) redistest.Action { return redistest.HalfThenCut })
		return c.GetDel(tr.t.Context(), "big").Err()
	},
	"client is closed": func(tr trouble) error {
		c := tr.client(tr.s.Options())
		require.NoError(tr.t, c.Close())
		return c.Ping(tr.t.Context()).Err()
	},
}

// entry is a section of the runbook about an error's text.
type entry struct{ text, example, body string }

// entries are the sections whose heading is a text in backticks, followed by an example of it.
func entries(runbook string) (all []entry) {
	for _, part := range strings.Split(runbook, "\n### ")[1:] {
		heading, body, _ := strings.Cut(part, "\n")
		body, _, _ = strings.Cut(body, "\n## ")
		text := regexp.MustCompile("^`([^`]+)`$").FindStringSubmatch(heading)
		example := regexp.MustCompile(`^\n    (\S.*)\n`).FindStringSubmatch(body)
		if text != nil && example != nil {
			all = append(all, entry{text[1], example[1], body})
		}
	}
	return all
}

func TestEveryTextOfTheRunbookIsWhatItsSituationGives(t *testing.T) {
	s, cluster := redistest.Start(t), redistest.StartCluster(t, "redis-server", 3, 0)
	known := map[string]bool{}
	for _, e := range entries(pages(t)["docs/RUNBOOK.md"]) {
		known[e.text] = true
		t.Run(strings.ReplaceAll(e.text, "/", " "), func(t *testing.T) {
			make, ok := troubles[e.text]
			require.True(t, ok, "no test makes this situation")
			err := make(trouble{t, s, cluster})
			require.ErrorContains(t, err, e.text)
			var parts []string
			for part := range strings.SplitSeq(e.example, "...") {
				parts = append(parts, regexp.QuoteMeta(part))
			}
			require.Regexp(t, "^"+strings.Join(parts, ".+")+"$", err.Error(), "the runbook says something else")
		})
	}
	for text := range troubles {
		require.True(t, known[text], "the runbook does not have %q", text)
	}
}

func TestEveryTextOfTheRunbookSaysWhatToLookAtFirstAndWhatToChange(t *testing.T) {
	runbook := pages(t)["docs/RUNBOOK.md"]
	index, _, _ := strings.Cut(runbook, "\n## Callers")
	for _, e := range entries(runbook) {
		require.Regexp(t, "(?m)^- \\*\\*Look first:\\*\\* `[^`]+`", e.body, e.text)
		require.Regexp(t, `(?m)^- \*\*Change:\*\* \S`, e.body, e.text)
		require.Contains(t, index, "["+"`"+e.text+"`"+"](#"+anchor(e.text)+")", "the index")
	}
}
