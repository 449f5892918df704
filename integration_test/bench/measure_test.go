package bench_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

var (
	measure = flag.Bool("measure", false, "measure for real; otherwise everything runs for a moment only")
	rounds  = flag.Int("rounds", 40, "rounds of bare, managed and bare again, for each line of the table")
	slice   = flag.Duration("slice", 25*time.Millisecond, "how long each of the three runs in a round")
	write   = flag.Bool("write", false, "put the table into docs/PERFORMANCE.md, besides the log")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if !*measure {
		*rounds, *slice = 3, 2*time.Millisecond
	}
	redistest.Main(m)
}

// sample is what one run of a subject gave.
type sample struct {
	ops    int
	took   time.Duration
	cpu    time.Duration // of the whole process; 0 where it is not known
	allocs uint64
	p99    time.Duration // of timed only
}

func (s sample) perSecond() float64 { return float64(s.ops) / s.took.Seconds() }
func (s sample) cpuPerOp() float64  { return float64(s.cpu) / float64(s.ops) }
func (s sample) ns() float64        { return float64(s.took) / float64(s.ops) }
func (s sample) allocsPerOp() float64 {
	return float64(s.allocs) / float64(s.ops)
}

// subject is something that runs for about d with n goroutines.
type subject func(d time.Duration) sample

// loop makes a subject of one operation.
func loop(t *testing.T, n int, op func() error) subject {
	return loops(t, n, func(int) func() error { return op })
}

// loops does with an operation for each goroutine.
func loops(t *testing.T, n int, of func(g int) func() error) subject {
	return func(d time.Duration) sample {
		var (
			stop  atomic.Bool
			total atomic.Int64
			wg    sync.WaitGroup
			fault atomic.Pointer[error]
			gate  = make(chan struct{})
			ready sync.WaitGroup
			warm  = make(chan struct{})
			m     runtime.MemStats
		)
		for g := range n {
			op := of(g)
			ready.Add(1)
			wg.Go(func() {
				<-warm
				err := op() // gives the goroutine a stack of the size that it needs, as most in a server have
				ready.Done()
				<-gate
				if err != nil {
					fault.Store(&err)
					return
				}
				ops := int64(0)
				for !stop.Load() {
					if err := op(); err != nil {
						fault.Store(&err)
						return
					}
					ops++
				}
				total.Add(ops)
			})
		}
		runtime.GC() // it also makes stacks smaller
		close(warm)
		ready.Wait()
		runtime.ReadMemStats(&m)
		allocs := m.Mallocs
		timer := time.AfterFunc(d, func() { stop.Store(true) })
		defer timer.Stop()
		began, used := time.Now(), processTime()
		close(gate)
		wg.Wait()
		s := sample{took: time.Since(began), cpu: processTime() - used, ops: int(total.Load())}
		runtime.ReadMemStats(&m)
		s.allocs = m.Mallocs - allocs
		if err := fault.Load(); err != nil {
			t.Fatal(*err)
		}
		if s.ops == 0 {
			s.ops = 1
		}
		return s
	}
}

// round has one run of each, made right after each other in a drawn order.
type round struct{ bare, managed, control sample }

// pair runs all rounds. bare and control are two clients of the same kind: what
// differs between them is the noise of the measurement.
func pair(bare, managed, control subject) []round {
	all := make([]round, *rounds)
	for _, s := range []subject{bare, managed, control} {
		s(*slice) // opens the connections
	}
	for i := range all {
		r := &all[i]
		runs := []func(){
			func() { r.bare = bare(*slice) },
			func() { r.managed = managed(*slice) },
			func() { r.control = control(*slice) },
		}
		rand.Shuffle(len(runs), func(i, j int) { runs[i], runs[j] = runs[j], runs[i] })
		for _, run := range runs {
			run()
		}
	}
	return all
}

// estimate is a median with two standard errors, by resampling.
type estimate struct{ median, twoSE float64 }

func estimated(rs []round, f func(round) float64) estimate {
	v := make([]float64, len(rs))
	for i, r := range rs {
		v[i] = f(r)
	}
	const resamples = 1000
	gen := rand.New(rand.NewPCG(1, 2))
	medians := make([]float64, resamples)
	again := make([]float64, len(v))
	for i := range medians {
		for j := range again {
			again[j] = v[gen.IntN(len(v))]
		}
		medians[i] = median(again)
	}
	mean, sq := 0.0, 0.0
	for _, m := range medians {
		mean += m / resamples
	}
	for _, m := range medians {
		sq += (m - mean) * (m - mean) / (resamples - 1)
	}
	return estimate{median(v), 2 * math.Sqrt(sq)}
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

func (e estimate) ratio() string { return fmt.Sprintf("%.3f ± %.3f", e.median, e.twoSE) }
func (e estimate) ns() string    { return fmt.Sprintf("%+.0f ns ± %.0f", e.median, e.twoSE) }

func (e estimate) count() string {
	return strings.Replace(fmt.Sprintf("%+.2f", e.median+0), "-0.00", "+0.00", 1)
}

func TestTheCostIsMeasuredBesideTheBareClient(t *testing.T) {
	ctx := t.Context()
	opt := redistest.Options(t)
	var clients []redis.UniversalClient
	defer func() {
		for _, c := range clients {
			_ = c.Close()
		}
	}()
	bareClient := func() *redis.Client { c := redis.NewClient(opt); clients = append(clients, c); return c }
	managedClient := func() *managed.Client {
		c, err := managed.New(opt)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
		return c
	}

	var table strings.Builder
	fmt.Fprintf(&table, "One run of %d rounds of 3 x %v for each line, %s, %d processors.\n\n", *rounds, *slice, runtime.Version(), runtime.GOMAXPROCS(0))
	key := redistest.UniqueKey(t, "get")
	value := strings.Repeat("x", 64)
	one, other, man := bareClient(), bareClient(), managedClient()
	if err := one.Set(ctx, key, value, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	defer one.Del(context.WithoutCancel(ctx), key)
	getOf := func(c redis.Cmdable) func() error {
		return func() error {
			got, err := c.Get(ctx, key).Result()
			if err == nil && got != value {
				err = errors.New("a wrong value came back")
			}
			return err
		}
	}
	fmt.Fprintf(&table, "| p99 of GET, 64 B | managed / bare | control: bare / bare |\n|---|---|---|\n")
	p99 := func(n int, c redis.Cmdable) subject { return timed(t, n, getOf(c)) }
	for _, n := range []int{1, 8, 64, 256} {
		rs := pair(p99(n, one), p99(n, man), p99(n, other))
		fmt.Fprintf(&table, "| %s | %s | %s |\n", goroutines(n),
			estimated(rs, func(r round) float64 { return float64(r.managed.p99) / float64(r.bare.p99) }).ratio(),
			estimated(rs, func(r round) float64 { return float64(r.control.p99) / float64(r.bare.p99) }).ratio())
	}

	fmt.Fprintf(&table, "\n| cost of one, 1 goroutine | time more | control | allocations more |\n|---|---|---|---|\n")
	cost := func(name string, rs []round) {
		fmt.Fprintf(&table, "| %s | %s | %s | %s |\n", name,
			estimated(rs, func(r round) float64 { return r.managed.ns() - r.bare.ns() }).ns(),
			estimated(rs, func(r round) float64 { return r.control.ns() - r.bare.ns() }).ns(),
			estimated(rs, func(r round) float64 { return r.managed.allocsPerOp() - r.bare.allocsPerOp() }).count())
	}
	sticky := func(c *redis.Client) subject {
		return loop(t, 1, func() error { return c.Conn().Close() })
	}
	cost("`Acquire` + `Release`, over go-redis's `Conn` + `Close`, which takes no connection yet", pair(sticky(one), loop(t, 1, func() error {
		conn, err := man.Acquire(ctx)
		if err != nil {
			return err
		}
		conn.Release()
		return nil
	}), sticky(other)))

	nothing := func() error { return nil }
	node, visited := visitable(t, opt)
	clients = append(clients, visited)
	cost("a visit of an idle connection, over an empty loop", pair(loop(t, 1, nothing), loop(t, 1, func() error {
		met, removed, err := node.Visit(hooks.PoolMain, 0)
		if err == nil && (met == nil || removed) {
			err = errors.New("a visit met no connection, or ended it")
		}
		return err
	}), loop(t, 1, nothing)))

	bare, lease := heapOfHeld(t)
	fmt.Fprintf(&table, "\n| a connection that is held | bytes of heap, besides the connection |\n|---|---|\n| go-redis's `Conn`, after one command | %.0f |\n| a lease, after one command | %.0f |\n", bare, lease)

	t.Logf("\n%s", table.String())
	if *write {
		replaceTable(t, "../../docs/PERFORMANCE.md", "the table", table.String())
	}
}

// replaceTable puts a new table into a file, in place of what is between the marks.
func replaceTable(t *testing.T, file, name, table string) {
	begin, end := "<!-- begin of "+name+" -->\n", "<!-- end of "+name+" -->\n"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	_, after, found2 := strings.Cut(rest, end)
	if !found || !found2 {
		t.Fatalf("%s has no place for %s", file, name)
	}
	if err := os.WriteFile(file, []byte(before+begin+table+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// visitable makes a client with one idle connection, and nothing else that
// would visit it.
func visitable(t *testing.T, opt *redis.Options) (*conntrack.Node, *redis.Client) {
	clone := *opt
	node := conntrack.NewTracker(conntrack.Config{}).NewNode(&clone)
	c := redis.NewClient(&clone)
	node.Bind(c)
	t.Cleanup(node.Close)
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	return node, c
}

func goroutines(n int) string {
	if n == 1 {
		return "1 goroutine"
	}
	return fmt.Sprintf("%d goroutines", n)
}
