package soak

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/internal/testclock"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
)

const (
	poolSize = 10
	callers  = 24 // of each client
	shards   = 3
)

// round is one run of everything, with servers and clients of its own.
type round struct {
	t       *testing.T
	server  *redistest.Server
	proxy   *redistest.Proxy
	cluster *redistest.Cluster

	ahead  atomic.Int64 // ns, the clients' wall clock
	stop   chan struct{}
	bad    faulty
	queued *queue
	heard  atomic.Int64 // messages
	forgot atomic.Int64 // leases dropped without Release
}

func (r *round) running() bool {
	select {
	case <-r.stop:
		return false
	default:
		return true
	}
}

func soak(t *testing.T, seed uint64, d time.Duration) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { // after the servers and the proxy have ended
		if err := goleak.Find(before); err != nil {
			t.Error(err)
		}
	})
	rnd := rand.New(rand.NewPCG(seed, 1))
	args := []string{"--appendonly", "yes", "--appendfsync", "no", "--enable-debug-command", "yes",
		"--loading-process-events-interval-bytes", "2048"}
	r := &round{t: t, stop: make(chan struct{}), queued: newQueue()}
	program := programs()[rnd.IntN(len(programs()))]
	if program == "valkey-server" {
		r.server = redistest.StartValkey(t, args...)
	} else {
		r.server = redistest.Start(t, args...)
	}
	r.proxy = redistest.NewProxy(t, r.server.Addr())
	r.cluster = redistest.StartCluster(t, program, shards, 1)
	for _, n := range r.cluster.Nodes() {
		// Only failovers in good order lose no acknowledged write.
		if err := n.Admin().ConfigSet(context.Background(), "cluster-replica-no-failover", "yes").Err(); err != nil {
			t.Fatal(err)
		}
	}

	testclock.Set(func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) })
	sides := r.clients()
	testclock.Set(nil)
	var wg sync.WaitGroup
	seeded := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) }
	for i, s := range sides {
		n := uint64(i+1) * 1000
		for g := range callers {
			w := &worker{side: s, name: fmt.Sprint(s.name, g), seat: i*callers + g, rnd: seeded(n + uint64(g))}
			wg.Go(w.run)
		}
		for range 2 {
			wg.Go(s.pop)
		}
		wg.Go(func() { s.listen(seeded(n + 500)) })
		wg.Go(func() { s.operate(seeded(n + 501)) })
	}
	did := r.trouble(rnd, d)
	close(r.stop)
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(60 * time.Second):
		t.Fatal("not all callers have come back within a minute of the last fault")
	}
	r.publishedOnce(sides[2])
	r.proxy.CutAll() // what is half-open has no end of its own
	r.recovered(sides)

	for _, s := range sides {
		if told, n := s.told.sum(), s.rdb.RetryStats().UnknownOutcomes; told != n {
			t.Errorf("%s: callers were told of %d unknown outcomes %v, and the client counted %d %v", s.name, told, &s.told, n, &s.logged)
		}
		t.Logf("%s: %d calls, %d errors, endings %v, %+v", s.name, s.calls.Load(), s.errs.Load(), s.rdb.CloseReasons(), s.rdb.RetryStats())
		r.shut(s)
	}
	r.settled()
	single, admin := sides[0], r.server.Admin()
	for _, s := range sides {
		if s.book == single.book && s != single {
			continue
		}
		t.Logf("%s: %v", s.name, s.book.reconcile(t, s.ask(admin)))
		t.Logf("%s: %s", s.name, s.history.check(t))
	}
	t.Log(r.queued.reconcile(&r.bad, r.left(admin)))
	if n, err := admin.Exists(context.Background(), "never").Result(); n != 0 || err != nil {
		t.Errorf("what was left in an open MULTI was carried out (%d, %v)", n, err)
	}
	r.bad.report(t)
	names := slices.Sorted(maps.Keys(did))
	line := ""
	for _, n := range names {
		line += fmt.Sprintf("; %d %s", did[n], n)
	}
	t.Logf("%s, %v: %d messages heard, %d leases forgotten%s", program, d, r.heard.Load(), r.forgot.Load(), line)
}

func programs() []string {
	list := []string{"redis-server"}
	if _, err := exec.LookPath("valkey-server"); err == nil || os.Getenv("LIFEGUARD_VALKEY_BIN") != "" {
		list = append(list, "valkey-server")
	}
	return list
}

// clients makes the clients: one of a single server with everything, one that
// has a client-side cache, and one of a cluster.
func (r *round) clients() []*side {
	opt := r.server.Options()
	opt.Addr = r.proxy.Addr()
	opt.PoolSize, opt.PipelinePoolSize = poolSize, 4
	opt.ReadTimeout, opt.DialTimeout, opt.PoolTimeout = 400*time.Millisecond, 500*time.Millisecond, time.Second

	one := &side{name: "one", tags: []string{""}, book: newBook(), history: newHistory()}
	rdb, err := managed.New(opt, append(r.options(one), managed.WithBlockingPool(3))...)
	if err != nil {
		r.t.Fatal(err)
	}
	cached := &side{name: "cached", tags: []string{""}, book: one.book, history: one.history, caching: true}
	opt.ClientSideCacheConfig = &redis.ClientSideCacheConfig{MaxEntries: 500}
	crdb, err := managed.New(opt, r.options(cached)...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.setSingle(one, rdb)
	r.setSingle(cached, crdb)

	copt := r.cluster.Options()
	copt.PoolSize, copt.PipelinePoolSize = poolSize, 4
	copt.ReadTimeout, copt.DialTimeout, copt.PoolTimeout = 400*time.Millisecond, 500*time.Millisecond, time.Second
	many := &side{name: "cluster", book: newBook(), history: newHistory()}
	for i := range shards {
		many.tags = append(many.tags, r.cluster.Key(i, ""))
	}
	nodes, err := managed.NewCluster(copt, r.options(many)...)
	if err != nil {
		r.t.Fatal(err)
	}
	many.rdb, many.batches = nodes, nodes.Adaptive()
	if many.always, err = nodes.Batched(); err != nil {
		r.t.Fatal(err)
	}
	many.leases = leaser{nodes.Acquire, nodes.TryAcquire, nodes.AcquireFunc}
	sides := []*side{one, cached, many}
	for _, s := range sides {
		r.t.Cleanup(func() { _ = s.rdb.Close() })
	}
	// go-redis's first handshakes with a server race each other when they hang for
	// longer than lifeguard keeps them apart: they are over before anything fails.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, rdb := range []*managed.Client{rdb, crdb} {
		if err := rdb.Ping(ctx).Err(); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := nodes.ForEachShard(ctx, func(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() }); err != nil {
		r.t.Fatal(err)
	}
	return sides
}

func (r *round) setSingle(s *side, rdb *managed.Client) {
	var err error
	s.rdb, s.batches = rdb, rdb.Adaptive()
	if s.always, err = rdb.Batched(); err != nil {
		r.t.Fatal(err)
	}
	s.leases = leaser{
		acquire: func(ctx context.Context, _ string) (*managed.Conn, error) { return rdb.Acquire(ctx) },
		try:     func(ctx context.Context, _ string) (*managed.Conn, error) { return rdb.TryAcquire(ctx) },
		with: func(ctx context.Context, _ string, fn func(*managed.Conn) error) error {
			return rdb.AcquireFunc(ctx, fn)
		},
	}
}

// options returns the options of every client; what its callbacks get is checked.
func (r *round) options(s *side) []managed.Option {
	s.round = r
	var last monitor.Stats
	active := map[string]bool{}
	return []managed.Option{
		managed.WithLogger(slog.New(&s.logged)),
		managed.WithMaxAge(2 * time.Second),
		managed.WithLeakThreshold(20 * time.Second),
		managed.WithEventHandler(s.events.add),
		managed.WithMonitor(
			monitor.WithInterval(100*time.Millisecond),
			monitor.Threshold{Name: "use", Metric: monitor.PoolUse, Limit: 0.5, CoolDown: -1},
			monitor.Threshold{Name: "unknown", Metric: monitor.UnknownOutcomes, Limit: 1, CoolDown: -1},
			monitor.WithStatsHandler(func(now monitor.Stats) {
				s.checkStats(last, now)
				last = now
			}),
			monitor.WithAlertHandler(func(a monitor.Alert) {
				if k := a.Name + " " + a.Node; active[k] == a.Active {
					r.bad.add("%s: alert %s: active %v twice in a row", s.name, k, a.Active)
				} else {
					active[k] = a.Active
				}
			}),
		),
	}
}

// perCommand counts by command. It is a slog.Handler that counts what the client
// logs of unknown outcomes.
type perCommand struct {
	mu sync.Mutex
	n  map[string]uint64
}

func (p *perCommand) add(command string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n == nil {
		p.n = map[string]uint64{}
	}
	p.n[command]++
}

func (p *perCommand) sum() (n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.n {
		n += m
	}
	return n
}

func (p *perCommand) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprint(p.n)
}

func (p *perCommand) Enabled(context.Context, slog.Level) bool { return true }
func (p *perCommand) WithAttrs([]slog.Attr) slog.Handler       { return p }
func (p *perCommand) WithGroup(string) slog.Handler            { return p }

func (p *perCommand) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "lifeguard/retry: outcome unknown" {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "command" {
				p.add(a.Value.String())
			}
			return true
		})
	}
	return nil
}

// tally counts the events that the event handler got.
type tally struct {
	mu sync.Mutex
	n  map[hooks.EventKind]uint64
}

func (e *tally) add(x hooks.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n == nil {
		e.n = map[hooks.EventKind]uint64{}
	}
	e.n[x.Kind]++
}

func (e *tally) of(k hooks.EventKind) uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.n[k]
}
