package managed_test

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

func TestAManagedClientIsAUniversalClient(t *testing.T) {
	var c any = client(t, redistest.Options(t))
	u, ok := c.(redis.UniversalClient)
	if !ok {
		// Its method sets are compared, so that the failure says what is missing.
		want := reflect.TypeFor[redis.UniversalClient]()
		for i := range want.NumMethod() {
			w := want.Method(i)
			if m, ok := reflect.TypeOf(c).MethodByName(w.Name); !ok || reflect.ValueOf(c).Method(m.Index).Type() != w.Type {
				t.Errorf("method %s %v hides go-redis's %v", w.Name, reflect.ValueOf(c).MethodByName(w.Name).Type(), w.Type)
			}
		}
		return
	}
	require.NoError(t, u.Ping(t.Context()).Err())
}

// commander is what a redis.Client, a redis.Conn and a lease have in common. A
// lease is no redis.Cmdable: its Info describes the connection.
type commander interface {
	Get(ctx context.Context, key string) *redis.StringCmd
	ClientID(ctx context.Context) *redis.IntCmd
	Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error)
}

func TestBuildingAClientDialsNothing(t *testing.T) {
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	url := "redis://" + p.Addr() + "/0"
	a := client(t, &redis.Options{Addr: p.Addr()})
	b := managed.NewClient(&redis.Options{Addr: p.Addr()})
	defer b.Close()
	c, err := managed.Shared(url)
	require.NoError(t, err)
	defer c.Close()
	require.Zero(t, p.Accepted())
	require.Empty(t, a.Conns())
	require.NoError(t, a.Ping(t.Context()).Err())
	require.Equal(t, 1, p.Accepted(), "one command needs one connection; the other clients have dialed")
	require.NoError(t, c.Ping(t.Context()).Err())
	require.Equal(t, 2, p.Accepted())
	require.NoError(t, b.Ping(t.Context()).Err())
	require.Equal(t, 3, p.Accepted())
}

func TestOptionsAreClonedNeverChanged(t *testing.T) {
	s := redistest.Start(t)
	var dials, connects atomic.Int32
	opt := &redis.Options{
		Addr: s.Addr(), PoolSize: 3, MaxRetries: 2, WriteBufferSize: 16,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return redis.NewDialer(&redis.Options{DialTimeout: time.Second})(ctx, network, addr)
		},
		OnConnect:                func(context.Context, *redis.Conn) error { connects.Add(1); return nil },
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeAuto},
		PoolFIFO:                 false,
	}
	before := fields(opt)
	a, b := client(t, opt), client(t, opt)
	require.NoError(t, a.Ping(t.Context()).Err())
	require.Equal(t, before, fields(opt))
	require.NoError(t, b.Ping(t.Context()).Err())
	require.Equal(t, before, fields(opt))

	// Two clients of one value are two clients: each has its own connections and
	// its own end, and the user's functions are called once per connection.
	require.EqualValues(t, 2, dials.Load())
	require.EqualValues(t, 2, connects.Load())
	require.Len(t, a.Conns(), 1)
	require.Len(t, b.Conns(), 1)
	require.NotEqual(t, a.Conns()[0].ID, b.Conns()[0].ID)
	require.NoError(t, a.Close())
	require.NoError(t, b.Ping(t.Context()).Err())
	require.ErrorIs(t, a.Ping(t.Context()).Err(), redis.ErrClosed)
	conn, err := b.Acquire(t.Context())
	require.NoError(t, err)
	conn.Release()
}

// fields is what options hold, what their pointers point to included, functions
// by their address.
func fields(opt *redis.Options) map[string]string {
	m := map[string]string{}
	v := reflect.ValueOf(opt).Elem()
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		switch {
		case f.Kind() == reflect.Func:
			m[name] = fmt.Sprint(f.Pointer())
		case f.Kind() == reflect.Pointer && !f.IsNil():
			m[name] = fmt.Sprintf("%p %+v", f.UnsafePointer(), f.Elem())
		default:
			m[name] = fmt.Sprintf("%v", f)
		}
	}
	return m
}

func TestTheFeaturesOfGoRedisWork(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, s.Options())
	ctx := t.Context()

	t.Run("pipelines", func(t *testing.T) {
		cmds, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := range 100 {
				p.Set(ctx, fmt.Sprint("p", i), i, 0)
				p.Get(ctx, fmt.Sprint("p", i))
			}
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, "99", cmds[199].(*redis.StringCmd).Val())
	})
	t.Run("transactions", func(t *testing.T) {
		cmds, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Incr(ctx, "tx")
			p.Incr(ctx, "tx")
			return nil
		})
		require.NoError(t, err)
		require.EqualValues(t, 2, cmds[1].(*redis.IntCmd).Val())
	})
	t.Run("optimistic locking", func(t *testing.T) {
		err := c.Watch(ctx, func(tx *redis.Tx) error {
			require.NoError(t, c.Set(ctx, "w", "other", 0).Err())
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "w", "mine", 0); return nil })
			return err
		}, "w")
		require.ErrorIs(t, err, redis.TxFailedErr)
		require.Equal(t, "other", c.Get(ctx, "w").Val())
	})
	t.Run("subscriptions", func(t *testing.T) {
		sub := c.Subscribe(ctx, "news")
		defer sub.Close()
		_, err := sub.Receive(ctx)
		require.NoError(t, err)
		require.NoError(t, c.Publish(ctx, "news", "hello").Err())
		within(t, "a message", func() { assert.Equal(t, "hello", (<-sub.Channel()).Payload) })
	})
	t.Run("a connection of one's own", func(t *testing.T) {
		conn := c.Conn()
		defer conn.Close()
		a, err := conn.ClientID(ctx).Result()
		require.NoError(t, err)
		require.Equal(t, a, conn.ClientID(ctx).Val())
	})
	t.Run("automatic pipelines", func(t *testing.T) {
		ap, err := c.AutoPipeline()
		require.NoError(t, err)
		defer ap.Close()
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() { assert.NoError(t, ap.Set(ctx, fmt.Sprint("ap", i), i, 0).Err()) })
		}
		wg.Wait()
		require.Equal(t, "31", c.Get(ctx, "ap31").Val())
	})
	t.Run("scripts and scans", func(t *testing.T) {
		require.Equal(t, "7", redis.NewScript("return ARGV[1]").Run(ctx, c, nil, 7).Val())
		n := 0
		for it := c.Scan(ctx, 0, "p*", 10).Iterator(); it.Next(ctx); {
			n++
		}
		require.Equal(t, 100, n)
	})
	t.Run("errors of the server and nil", func(t *testing.T) {
		require.ErrorIs(t, c.Get(ctx, "absent").Err(), redis.Nil)
		require.Equal(t, redis.Nil, c.Get(ctx, "absent").Err(), "programs compare with ==")
		require.ErrorContains(t, c.LPush(ctx, "w", 1).Err(), "WRONGTYPE")
	})
}

func TestTheClientSideCacheWorks(t *testing.T) {
	s := redistest.Start(t)
	for _, tls := range []bool{false, true} {
		if tls {
			s = redistest.StartTLS(t)
		}
		t.Run(fmt.Sprintf("tls=%v", tls), func(t *testing.T) {
			opt := sized(s, 4, time.Second)
			opt.ClientSideCacheConfig = &redis.ClientSideCacheConfig{MaxEntries: 100}
			c := client(t, opt)
			ctx := t.Context()
			require.NoError(t, s.Admin().Set(ctx, "k", "1", 0).Err())
			for range 20 {
				require.Equal(t, "1", c.Get(ctx, "k").Val())
			}
			require.NotZero(t, c.CSCStats().Hits)
			conn, err := c.Acquire(ctx)
			require.NoError(t, err)
			require.Equal(t, "1", conn.Get(ctx, "k").Val())
			conn.Release()
			require.NoError(t, s.Admin().Set(ctx, "k", "2", 0).Err())
			redistest.Eventually(t, "the new value", soon, func() bool { return c.Get(ctx, "k").Val() == "2" })
			full(t, c, 4)
		})
	}
}

// spy is a user's hook. It notes the commands it sees.
type spy struct {
	mu   sync.Mutex
	cmds []string
}

func (s *spy) note(cmd redis.Cmder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cmds = append(s.cmds, fmt.Sprint(cmd.Args()))
}

func (s *spy) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.cmds...)
}

func (s *spy) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *spy) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.note(cmd)
		return next(ctx, cmd)
	}
}

func (s *spy) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, c := range cmds {
			s.note(c)
		}
		return next(ctx, cmds)
	}
}

func TestUserHooksSeeCommandsAndNoVisit(t *testing.T) {
	opt := redistest.Options(t)
	opt.PoolSize, opt.DisableIdentity = 2, true
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	ctx := t.Context()
	run := func(c *redis.Client, add func(redis.Hook), lease func() (commander, func())) []string {
		s := &spy{}
		add(s)
		_ = c.Get(ctx, "a")
		conn, release := lease()
		_ = conn.Get(ctx, "b")
		_, _ = conn.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "c"); return nil })
		release()
		_, _ = c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "d"); return nil })
		return s.seen()
	}
	bare := redis.NewClient(opt)
	defer bare.Close()
	want := run(bare, bare.AddHook, func() (commander, func()) {
		conn := bare.Conn()
		return conn, func() { conn.Close() }
	})
	// With validation always on there are real PINGs too.
	for _, after := range []time.Duration{-1, 0} {
		c := client(t, opt, managed.WithValidateAfter(after))
		for _, c := range []*managed.Client{c, client(t, opt, managed.WithValidateAfter(after)).WithTimeout(time.Second)} {
			got := run(c.Client, c.AddHook, func() (commander, func()) {
				conn, err := c.Acquire(ctx)
				require.NoError(t, err)
				return conn, conn.Release
			})
			require.Equal(t, want, got, "a managed client shows other commands than a bare one")
		}
	}
}

func TestAHookThatReturnsNilIsSkippedAsInGoRedis(t *testing.T) {
	c := client(t, redistest.Options(t))
	c.AddHook(nilHook{})
	require.NoError(t, c.Ping(t.Context()).Err())
	_, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Ping(t.Context()); return nil })
	require.NoError(t, err)
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	conn.Release()
}

type nilHook struct{}

func (nilHook) DialHook(redis.DialHook) redis.DialHook                                  { return nil }
func (nilHook) ProcessHook(redis.ProcessHook) redis.ProcessHook                         { return nil }
func (nilHook) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook { return nil }

func TestClonesMadeByWithTimeoutStayManaged(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 1, 20*time.Millisecond))
	clone := c.WithTimeout(5 * time.Second)
	ctx := t.Context()
	conn, err := clone.Acquire(ctx)
	require.NoError(t, err)
	require.Len(t, c.Leases(), 1, "the clone's lease is the client's")
	var full *managed.ExhaustedError
	require.ErrorAs(t, clone.Get(ctx, "k").Err(), &full, "the clone has lost our hook")
	require.Len(t, full.Leases, 1)
	_, err = clone.WithTimeout(time.Second).TryAcquire(ctx)
	require.ErrorAs(t, err, &full)
	conn.Release()
	require.NoError(t, c.Ping(ctx).Err())
	require.Len(t, c.Conns(), 1, "the clone shares the pool")
	require.NoError(t, clone.Close())
	require.ErrorIs(t, c.Ping(ctx).Err(), redis.ErrClosed, "closing a clone closes the client, as in go-redis")
	_, err = c.Acquire(ctx)
	require.ErrorIs(t, err, redis.ErrClosed)
}

func TestTheTimeoutOfACloneHoldsOnItsLeases(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, s.Options())
	conn, err := c.WithTimeout(50 * time.Millisecond).Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	s.Pause()
	defer s.Resume()
	start := time.Now()
	err = conn.Ping(t.Context()).Err()
	var ne net.Error
	require.ErrorAs(t, err, &ne)
	require.True(t, ne.Timeout())
	require.Less(t, redistest.Took(start), 2*time.Second)
}

func TestTheUsersDialerAndOnConnectAreKept(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	var dialed []string
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialed = append(dialed, network+" "+addr)
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	opt.OnConnect = func(ctx context.Context, conn *redis.Conn) error {
		return conn.ClientSetName(ctx, "by-the-user").Err()
	}
	c := client(t, opt)
	conn, err := c.Acquire(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"tcp " + s.Addr()}, dialed)
	require.Equal(t, "by-the-user", own(t, s, conn).Name)
	conn.Release()
	require.Equal(t, "by-the-user", own(t, s, c).Name)
	require.Len(t, c.Conns(), 1, "what OnConnect does to a connection is not session state")

	opt.OnConnect = func(context.Context, *redis.Conn) error { return fmt.Errorf("not today") }
	_, err = client(t, opt).Acquire(t.Context())
	require.ErrorContains(t, err, "not today")
}

func TestEveryTransportAndProtocolWorks(t *testing.T) {
	plain, secure := redistest.Start(t), redistest.StartTLS(t)
	unix := plain.Options()
	unix.Network, unix.Addr = "unix", plain.Unix()
	for name, x := range map[string]struct {
		server *redistest.Server
		opt    *redis.Options
	}{"tcp": {plain, plain.Options()}, "tls": {secure, secure.Options()}, "unix": {plain, unix}} {
		for _, resp := range []int{2, 3} {
			t.Run(fmt.Sprintf("%s, RESP%d", name, resp), func(t *testing.T) {
				ctx := t.Context()
				opt := *x.opt
				opt.Protocol, opt.PoolSize = resp, 2
				c := client(t, &opt)
				require.NoError(t, c.Set(ctx, "k", "v", 0).Err())
				_, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); return nil })
				require.NoError(t, err)
				conn, err := c.Acquire(ctx)
				require.NoError(t, err)
				require.Equal(t, "v", conn.Get(ctx, "k").Val())
				require.Equal(t, resp, own(t, x.server, conn).Resp)
				i := conn.Info()
				require.Equal(t, opt.Addr, i.Node)
				require.Equal(t, name == "tls", i.TLS)
				require.Equal(t, hooks.StateLeased, i.State)
				conn.Release()
				sub := c.Subscribe(ctx, "ch")
				_, err = sub.Receive(ctx)
				require.NoError(t, err)
				require.NoError(t, sub.Close())
				full(t, c, 2)

				// Connections that the server ends while idle reach nobody.
				x.server.KillClients(t)
				redistest.Eventually(t, "the server has let go", soon, func() bool { return x.server.NumClients(t) == 0 })
				conn, err = c.Acquire(ctx)
				require.NoError(t, err)
				require.Equal(t, "v", conn.Get(ctx, "k").Val())
				conn.Release()
				full(t, c, 2)
			})
		}
	}
}

func TestConnsTellsTheTruth(t *testing.T) {
	s := redistest.Start(t)
	c := client(t, sized(s, 5, time.Second), managed.WithHeartbeat(0)) // nobody else sends commands
	require.Empty(t, c.Conns())
	ctx := t.Context()
	require.NoError(t, c.Set(ctx, "k", "v", 0).Err())
	held, err := c.Acquire(ctx)
	require.NoError(t, err)
	defer held.Release()
	require.NoError(t, held.Get(ctx, "k").Err())
	blocked := make(chan error, 1)
	go func() { blocked <- c.BLPop(ctx, 0, "list").Err() }()
	redistest.Eventually(t, "a blocked command", soon, func() bool {
		for _, x := range s.ClientList(t) {
			if x.Cmd == "blpop" && x.Raw["flags"] == "b" {
				return true
			}
		}
		return false
	})
	require.NoError(t, c.Echo(ctx, "idle").Err())
	_, err = c.Pipelined(ctx, func(p redis.Pipeliner) error { p.StrLen(ctx, "k"); return nil })
	require.NoError(t, err)
	sub := c.Subscribe(ctx, "ch")
	_, err = sub.Receive(ctx)
	require.NoError(t, err)

	server := map[string]redistest.ClientInfo{}
	for _, x := range s.ClientList(t) {
		server[x.Addr] = x
	}
	state := map[string]hooks.State{"get": hooks.StateLeased, "blpop": hooks.StateBusy, "echo": hooks.StateIdle,
		"strlen": hooks.StateIdle, "subscribe": hooks.StateSubscribed}
	conns := c.Conns()
	require.Len(t, conns, len(state))
	require.Len(t, server, len(state))
	for i, x := range conns {
		seen, ok := server[x.Local]
		require.Truef(t, ok, "%v: the server does not know it", x)
		name, _, _ := strings.Cut(seen.Cmd, "|") // "config|get" for a subcommand
		require.Equal(t, name, x.LastCommand)
		require.Equalf(t, state[x.LastCommand], x.State, "%v", x)
		require.Equal(t, x.LastCommand == "strlen", x.Pool == hooks.PoolPipeline)
		require.Equal(t, s.Addr(), x.Remote)
		require.InDelta(t, seen.Age.Seconds(), x.Age.Seconds(), 2)
		require.NotZero(t, x.BytesIn)
		require.NotZero(t, x.BytesOut)
		require.True(t, i == 0 || x.ID > conns[i-1].ID, "the oldest comes first")
	}
	require.NoError(t, sub.Close())
	require.NoError(t, s.Admin().LPush(ctx, "list", 1).Err())
	require.NoError(t, <-blocked)
	require.Len(t, c.Conns(), 4)
	redistest.Eventually(t, "the server has seen the end of the subscription", soon, func() bool { return s.NumClients(t) == 4 })
	require.NoError(t, c.Close())
	require.Empty(t, c.Conns())
}

// As in go-redis: a server that quits without an answer has obeyed.
func TestAServerCanBeToldToQuit(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := client(t, s.Options())
	require.NoError(t, c.ShutdownNoSave(t.Context()).Err())
	require.Zero(t, c.RetryStats().UnknownOutcomes)
}

// Transactions and clones work on options of their own: what go-redis records
// there during a handshake is not known to the client's other connections, the first of which still
// has to shake hands alone. Only the race detector sees it if it does not.
func TestFirstHandshakesWithOtherOptionsLetNoOthersRace(t *testing.T) {
	ctx, s := t.Context(), redistest.Start(t)
	incr := func(p redis.Pipeliner) error { return p.Incr(ctx, "n").Err() }
	begun := func(fn func(*redis.Tx) error, keys ...string) *managed.Client {
		c := client(t, s.Options())
		require.NoError(t, c.Watch(ctx, fn, keys...))
		return c
	}
	for name, start := range map[string]func() *managed.Client{
		"WATCH":                     func() *managed.Client { return begun(func(*redis.Tx) error { return nil }, "k") },
		"transaction without WATCH": func() *managed.Client { return begun(func(tx *redis.Tx) error { return tx.Incr(ctx, "n").Err() }) },
		"its pipeline": func() *managed.Client {
			return begun(func(tx *redis.Tx) error { _, err := tx.Pipelined(ctx, incr); return err })
		},
		"a clone of the client": func() *managed.Client {
			c := client(t, s.Options())
			c.WithTimeout(time.Second).Incr(ctx, "n")
			return c
		},
		"the client that was cloned": func() *managed.Client {
			c := client(t, s.Options())
			d := c.WithTimeout(time.Second)
			c.Incr(ctx, "n")
			return d
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				c := start()
				var callers, held sync.WaitGroup
				held.Add(4)
				for range 4 {
					callers.Go(func() {
						assert.NoError(t, c.AcquireFunc(ctx, func(*managed.Conn) error { held.Done(); held.Wait(); return nil }))
					})
					callers.Go(func() { assert.NoError(t, c.Incr(ctx, "n").Err()) })
				}
				callers.Wait()
				require.NoError(t, c.Close())
			}
		})
	}
}
