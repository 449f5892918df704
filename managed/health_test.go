package managed_test

import (
	"context"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// states returns the states in a client's events, in order.
func (e *events) states() (out []hooks.Health) {
	for _, x := range e.of(hooks.HealthChanged) {
		out = append(out, x.Health)
	}
	return out
}

// An outage is two lines in the log, with the address, however long it lasts and
// however many callers there are, and each change of the node's health is an event.
func TestAnOutageIsTwoLines(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	d := newDoor(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize = d.addr, 4
	var log journal
	var ev events
	c := client(t, opt, log.option(), ev.option())
	require.NoError(t, c.Ping(t.Context()).Err())
	require.Equal(t, hooks.Healthy, c.Node().Health())
	d.shut()
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			limit := 20 * time.Second
			if i < 3 {
				limit = 100 * time.Millisecond
			}
			err := c.Ping(deadline(t, limit)).Err()
			if (err != nil) != (i < 3) {
				t.Errorf("a ctx of %v: %v", limit, err)
			}
		})
	}
	time.Sleep(2500 * time.Millisecond)
	require.Equal(t, hooks.Unreachable, c.Node().Health())
	before := c.Stats() // of the moment before, too; the server had gone when these callers came
	require.GreaterOrEqual(t, before.PeakDemand, 9, "callers")
	require.LessOrEqual(t, before.PeakInUse, 1, "more connections in use than were open: %v", before)
	d.open()
	wg.Wait()
	ev.wait(t, hooks.HealthChanged, 3)
	require.Equal(t, []hooks.Health{hooks.Unreachable, hooks.Recovering, hooks.Healthy}, ev.states())
	last := ev.of(hooks.HealthChanged)[2]
	require.Greater(t, last.Took, 2*time.Second)
	require.Equal(t, d.addr, last.Node)
	redistest.Eventually(t, "the log says that it is over", soon, func() bool { return log.count("reachable again") > 0 })
	lines := strings.Split(strings.TrimSpace(log.text()), "\n")
	require.Lenf(t, lines, 2, "%s", log.text())
	require.Contains(t, lines[0], "redis "+d.addr+" unreachable: connection refused")
	require.Regexp(t, regexp.MustCompile(`redis `+regexp.QuoteMeta(d.addr)+` reachable again after 2\.\d+s, 9 calls waited, 3 failed`), lines[1])
	require.Equal(t, map[string]uint64{"unreachable": 1, "recovering": 1, "healthy": 1}, c.Node().HealthChanges())
	require.Equal(t, c.Node().HealthChanges(), c.Stats().HealthChanges)
}

// A pool for blocking commands notices an outage by itself, and is of the same server.
func TestAnOutageIsTwoLinesWithAPoolForBlockingCommands(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	d := newDoor(t, s.Addr())
	opt := s.Options()
	opt.Addr = d.addr
	var log journal
	var ev events
	c := client(t, opt, log.option(), ev.option(), managed.WithBlockingPool(2))
	require.NoError(t, c.Ping(t.Context()).Err())
	require.ErrorIs(t, c.BLPop(t.Context(), time.Second, "none").Err(), redis.Nil)
	d.shut()
	require.Error(t, c.Ping(deadline(t, 200*time.Millisecond)).Err())
	require.Error(t, c.BLPop(deadline(t, 200*time.Millisecond), time.Second, "none").Err())
	ev.wait(t, hooks.HealthChanged, 2)
	d.open()
	require.NoError(t, c.Ping(deadline(t, soon)).Err())
	require.ErrorIs(t, c.BLPop(deadline(t, soon), time.Second, "none").Err(), redis.Nil)
	ev.wait(t, hooks.HealthChanged, 6)
	require.Equalf(t, 2, strings.Count(log.text(), "\n"), "%s", log.text())
	require.Equal(t, 1, log.count(" unreachable: connection refused"))
	require.Regexp(t, regexp.MustCompile(`reachable again after .*, \d calls? waited, 2 failed`), log.text())
}

// A cluster of one node without an IP address of its own is known as ":6379", too.
func TestAnOutageOfAServerWithTwoLocalNamesIsTwoLines(t *testing.T) {
	t.Parallel()
	s := redistest.StartOneNodeCluster(t)
	var log journal
	c := clusterClient(t, &redis.ClusterOptions{Addrs: []string{s.Addr()}}, log.option())
	require.NoError(t, c.Incr(t.Context(), "n").Err())
	s.Kill()
	require.Error(t, c.Incr(deadline(t, 500*time.Millisecond), "n").Err())
	s.Restart()
	redistest.Eventually(t, "the cluster is back", soon, func() bool { return c.Incr(deadline(t, soon), "n").Err() == nil })
	redistest.Eventually(t, "the outage is over", soon, func() bool { return log.count("reachable again") > 0 })
	require.Equalf(t, 2, strings.Count(log.text(), "\n"), "%s", log.text())
}

// The lines about a node of several count the calls, too.
func TestAnOutageOfANodeSaysHowManyCallsWaited(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	d := newDoor(t, s.Addr())
	var log journal
	c, err := managed.NewRingClient(&redis.RingOptions{Addrs: map[string]string{"a": d.addr}, HeartbeatFrequency: time.Hour}, log.option())
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.Set(t.Context(), "k", 1, 0).Err())
	d.shut()
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			limit := 20 * time.Second
			if i < 2 {
				limit = 100 * time.Millisecond
			}
			if err := c.Get(deadline(t, limit), "k").Err(); (err != nil) != (i < 2) {
				t.Errorf("a ctx of %v: %v", limit, err)
			}
		})
	}
	time.Sleep(500 * time.Millisecond)
	d.open()
	wg.Wait()
	redistest.Eventually(t, "the log says that it is over", soon, func() bool { return log.count("reachable again") > 0 })
	require.Regexp(t, regexp.MustCompile(`redis `+regexp.QuoteMeta(d.addr)+` reachable again after .*, [456] calls waited, 2 failed`), log.text())
}

// The master that a Sentinel names has no gate, but its outage is told in the same two lines.
func TestAnOutageOfAMasterOfSentinelsIsTwoLines(t *testing.T) {
	t.Parallel()
	master, opt := redistest.StartOneSentinel(t)
	var log journal
	c, err := managed.NewFailover(opt, log.option(), managed.WithBlockingPool(2))
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.Incr(t.Context(), "n").Err())
	require.ErrorIs(t, c.BLPop(t.Context(), time.Second, "none").Err(), redis.Nil)
	master.Kill()
	var failing, waiting sync.WaitGroup
	for range 2 {
		failing.Go(func() { assert.Error(t, c.Incr(deadline(t, 500*time.Millisecond), "n").Err()) })
	}
	for range 4 {
		waiting.Go(func() { assert.NoError(t, c.Incr(deadline(t, soon), "n").Err()) })
	}
	require.Error(t, c.BLPop(deadline(t, 500*time.Millisecond), time.Second, "none").Err())
	failing.Wait()
	master.Restart()
	waiting.Wait()
	require.ErrorIs(t, c.BLPop(deadline(t, soon), time.Second, "none").Err(), redis.Nil)
	redistest.Eventually(t, "the log says that it is over", soon, func() bool { return log.count("reachable again") > 0 })
	require.Equalf(t, 2, strings.Count(log.text(), "\n"), "%s", log.text())
	require.Regexp(t, regexp.MustCompile(`redis `+regexp.QuoteMeta(master.Addr())+` reachable again after .*, [4567] calls waited, 3 failed`), log.text())
}

// A node that comes and goes does not fill the log.
func TestANodeThatComesAndGoesIsNoFloodOfLines(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	d := newDoor(t, s.Addr())
	opt := s.Options()
	opt.Addr = d.addr
	var log journal
	c := client(t, opt, log.option())
	for range 10 {
		require.NoError(t, c.Ping(deadline(t, 5*time.Second)).Err())
		d.shut()
		require.Error(t, c.Ping(deadline(t, 50*time.Millisecond)).Err())
		d.open()
	}
	require.NoError(t, c.Ping(deadline(t, 5*time.Second)).Err())
	require.LessOrEqualf(t, strings.Count(log.text(), "\n"), 2, "%s", log.text())
}

func TestAServerThatTakesNobodyNewIsRefusing(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--maxclients", "12")
	s.NumClients(t)
	opt := s.Options()
	opt.PoolSize = 10
	var log journal
	var ev events
	c := client(t, opt, log.option(), ev.option())
	require.NoError(t, c.Ping(t.Context()).Err())
	var others []net.Conn
	for s.NumClients(t) < 11 {
		nc, err := net.Dial("tcp", s.AdminAddr())
		require.NoError(t, err)
		others = append(others, nc)
		time.Sleep(5 * time.Millisecond)
	}
	held, err := c.Acquire(t.Context())
	require.NoError(t, err)
	defer held.Release()
	_, err = c.Acquire(deadline(t, 300*time.Millisecond))
	require.Error(t, err)
	require.Equal(t, hooks.Refusing, c.Node().Health())
	for _, nc := range others {
		nc.Close()
	}
	redistest.Eventually(t, "somebody is let in", soon, func() bool {
		conn, err := c.Acquire(deadline(t, 300*time.Millisecond))
		if err == nil {
			conn.Release()
		}
		return err == nil
	})
	require.Equal(t, hooks.Healthy, c.Node().Health())
	redistest.Eventually(t, "the log says so", soon, func() bool { return log.count("accepts connections again") == 1 })
	require.Equal(t, 1, log.count("redis "+s.Addr()+" refusing: ERR max number of clients reached"))
}

// While a server does not respond it is degraded, and it is healthy again as soon as it
// answers anybody.
func TestAServerThatAnswersNobodyIsDegraded(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--enable-debug-command", "yes")
	opt := s.Options()
	opt.PoolSize = 4
	var log journal
	var ev events
	c := client(t, opt, log.option(), ev.option())
	burst(t, c, 3)
	settled(t, s)
	go s.Admin().Do(context.Background(), "DEBUG", "SLEEP", "2")
	time.Sleep(20 * time.Millisecond)
	require.NoError(t, c.Incr(t.Context(), "n").Err())
	ev.wait(t, hooks.HealthChanged, 2)
	require.Equal(t, []hooks.Health{hooks.Degraded, hooks.Healthy}, ev.states())
	redistest.Eventually(t, "the log says so", soon, func() bool { return log.count("answers again after 1.") == 1 })
	require.Equal(t, 1, log.count("redis "+s.Addr()+" degraded: "))
	leftAlone(t, c)
}

// No logger runs under a lock: one that uses the client hangs nobody.
func TestALoggerThatUsesTheClientHangsNobody(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	d := newDoor(t, s.Addr())
	opt := s.Options()
	opt.Addr = d.addr
	var c *managed.Client
	var called sync.WaitGroup
	called.Add(2)
	c = client(t, opt, managed.WithLogger(slog.New(reentrant{quiet.Handler(), func() {
		defer called.Done()
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		_ = c.RPush(ctx, "log", "a line").Err()
	}})))
	d.shut()
	require.Error(t, c.Ping(deadline(t, 50*time.Millisecond)).Err())
	d.open()
	require.NoError(t, c.Ping(deadline(t, 5*time.Second)).Err())
	within(t, "both lines are logged", called.Wait)
}

type reentrant struct {
	slog.Handler
	f func()
}

func (r reentrant) Enabled(context.Context, slog.Level) bool { return true }
func (r reentrant) Handle(_ context.Context, rec slog.Record) error {
	if rec.Level >= slog.LevelInfo {
		r.f()
	}
	return nil
}

// A server that accepts connections and never answers is degraded from the first
// handshake on; one that goes on answering the connections it has refuses new ones.
func TestAHandshakeWithoutAReplyTellsDegradedFromRefusing(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := redistest.NewProxy(t, s.Addr())
	opt := s.Options()
	opt.Addr, opt.PoolSize, opt.ReadTimeout = p.Addr(), 4, 300*time.Millisecond
	var log journal
	c := client(t, opt, log.option(), managed.WithFailureDetection(managed.FailureDetection{Off: true}))
	p.Stall(true)
	require.Error(t, c.Ping(deadline(t, 50*time.Millisecond)).Err())
	require.Equal(t, hooks.Degraded, c.Node().Health())
	p.Stall(false)
	require.NoError(t, c.Ping(deadline(t, soon)).Err())
	require.Equal(t, hooks.Healthy, c.Node().Health())

	held, err := c.Acquire(t.Context())
	require.NoError(t, err)
	defer held.Release()
	known := p.Accepted()
	p.OnReply(func(n int, _ []byte) redistest.Action {
		if n > known {
			time.Sleep(500 * time.Millisecond)
		}
		return redistest.Forward
	})
	done := make(chan error, 1)
	go func() { done <- c.Ping(deadline(t, 50*time.Millisecond)).Err() }()
	for err = nil; c.Node().Health() == hooks.Healthy && err == nil; {
		err = held.Ping(t.Context()).Err()
	}
	require.NoError(t, err)
	require.Error(t, <-done)
	require.Equal(t, hooks.Refusing, c.Node().Health())
	redistest.Eventually(t, "the log says what was wrong first", soon, func() bool { return log.count("degraded: i/o timeout") == 1 })
}

// go-redis dials with the ctx of a Subscribe. That its caller has no patience says nothing about the
// node, which others are using.
func TestACallersOwnDeadlineDuringADialSaysNothingAboutTheNode(t *testing.T) {
	for name, short := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 30*time.Millisecond)
		},
		"cancel": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(30*time.Millisecond, cancel)
			return ctx, cancel
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			opt := s.Options()
			var slow atomic.Bool
			opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
				if slow.Load() {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			}
			var log journal
			c := client(t, opt, log.option())
			require.NoError(t, c.Ping(t.Context()).Err())
			slow.Store(true)
			ctx, cancel := short(t.Context())
			defer cancel()
			ps := c.Subscribe(ctx, "news")
			defer func() { _ = ps.Close() }()
			require.Error(t, ps.Ping(ctx))
			require.Error(t, ctx.Err())
			require.Equal(t, hooks.Healthy, c.Node().Health())
			require.Empty(t, log.text())
			require.NoError(t, c.Ping(t.Context()).Err())
		})
	}
}
