package lifeguard_test

import (
	"context"
	"errors"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/dashboard"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
	"github.com/lifeguard-redis/lifeguard/retry"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// The Go blocks of README.md and docs/GUIDE.md are below, each between "// README"
// or "// GUIDE" and "// end", word for word but for the address.

func tenLines(ctx context.Context, addr string) error {
	// README
	rdb := managed.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()

	if err := rdb.Incr(ctx, "visits").Err(); errors.Is(err, retry.ErrUnknownOutcome) {
		log.Print("the reply was lost: the visit may have been counted")
	}
	conn, err := rdb.Acquire(ctx) // a lease: one connection for this caller alone
	if err != nil {
		return err // if the pool is exhausted, the error names who holds its connections
	}
	defer conn.Release()
	return conn.Set(ctx, "greeting", "hello", time.Minute).Err()
	// end
}

func leaseOfAFunction(ctx context.Context, rdb *managed.Client) error {
	// GUIDE
	err := rdb.AcquireFunc(managed.WithLabel(ctx, "nightly report"), func(conn *managed.Conn) error {
		ctx := conn.Context() // an Acquire with it on a full pool fails at once, instead of waiting for itself
		return conn.Set(ctx, "report", "done", time.Hour).Err()
	})
	// end
	return err
}

func exhausted(ctx context.Context, rdb *managed.Client) error {
	// GUIDE
	_, err := rdb.TryAcquire(ctx)
	var full *managed.ExhaustedError // errors.Is(err, redis.ErrPoolTimeout) holds too
	if errors.As(err, &full) {
		for _, lease := range full.Leases {
			log.Printf("%s held for %v by %s", lease.Label, lease.Age, lease.Site())
		}
	}
	// end
	return err
}

func unknownOutcome(ctx context.Context, rdb *managed.Client) error {
	// GUIDE
	err := rdb.Incr(ctx, "visits").Err()
	if errors.Is(err, retry.ErrUnknownOutcome) {
		log.Print("it may have been counted, or not: check before you repeat it")
	}
	// end
	return err
}

func events(opt *redis.Options) (*managed.Client, error) {
	// GUIDE
	rdb, err := managed.New(opt, managed.WithEventHandler(func(e hooks.Event) {
		switch e.Kind {
		case hooks.Closed:
			log.Printf("connection %d closed: %s, %v old", e.ConnID, e.Reason, e.Age)
		case hooks.Leaked:
			log.Printf("leaked by %s:\n%s", e.Site, e.Stack)
		}
	}))
	// end
	return rdb, err
}

func cluster(ctx context.Context, addrs []string) error {
	// GUIDE
	rdb, err := managed.NewCluster(&redis.ClusterOptions{Addrs: addrs, PoolSize: 5},
		managed.WithConnLimit(60), // over all nodes, pipeline pools included
		managed.WithBlockingPool(4))
	if err != nil {
		return err
	}
	defer rdb.Close()
	err = rdb.AcquireFunc(ctx, "{ann}:account", func(conn *managed.Conn) error {
		_, err := conn.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.DecrBy(ctx, "{ann}:account", 30)
			p.IncrBy(ctx, "{ann}:savings", 30) // the same {tag}, so the same node
			return nil
		})
		return err
	})
	// end
	return err
}

func manyCallers(ctx context.Context, rdb *managed.Client) (int64, error) {
	// GUIDE
	fast := rdb.Adaptive() // a redis.UniversalClient: make one and keep it
	n, err := fast.Incr(ctx, "visits").Result()
	// end
	return n, err
}

func whatIsGoingOn(rdb *managed.Client) {
	// GUIDE
	m := rdb.PoolMonitor()
	m.OnStats(func(s monitor.Stats) { log.Print(s) }) // every 10 s
	m.OnAlert(func(a monitor.Alert) { log.Print("ALERT ", a) })

	s := rdb.Stats() // at any time
	log.Printf("%d of %d in use, %d waiting, p99 of commands %v", s.Main.InUse, s.Main.Size, s.Waiting, s.Command.P99)
	log.Print(m.Advice()) // about the pool's size, with the reason
	// end
}

func livePage(rdb *managed.Client, mux *http.ServeMux) error {
	// README
	page, err := dashboard.New(rdb.PoolMonitor())
	if err != nil {
		return err
	}
	mux.Handle("/debug/redis", page) // like net/http/pprof, it has no login of its own
	// end
	return nil
}

func published(ctx context.Context, rdb *managed.Client) error {
	// GUIDE
	p, err := fleet.Publish(rdb.PoolMonitor(), rdb, fleet.WithService("web")) // in Redis, by every instance
	if err != nil {
		return err
	}
	defer p.Close()
	all, err := fleet.Read(ctx, rdb) // by anyone
	if err != nil {
		return err
	}
	log.Printf("%d instances: %d connections, %d active", len(all.Instances), all.Sum.Total, all.Sum.Active)
	// end
	return nil
}

func reaper(ctx context.Context, rdb *managed.Client) error {
	// GUIDE
	r, err := serverside.NewReaper(rdb, serverside.Policy{
		User: "ci", MaxAge: 2 * time.Hour, Spare: serverside.SpareNames("web-*"), DryRun: true,
	})
	if err != nil {
		return err
	}
	report, err := r.Once(ctx) // or Run, every minute; one at a time in a fleet
	log.Print(report)
	// end
	return err
}

func plainClient(ctx context.Context, addr string) error {
	// GUIDE
	rdb := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1}) // go-redis's own retries off
	defer rdb.Close()
	hook, err := retry.Attach(rdb, retry.Default())
	if err != nil {
		return err
	}
	err = rdb.Incr(ctx, "visits").Err()
	log.Printf("%d sent again", hook.Stats().Retries)
	// end
	return err
}

// logLines collects what the log package writes during the test.
type logLines chan string

func logged(t *testing.T) logLines {
	l := make(logLines, 1000)
	log.SetOutput(l)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	return l
}

func (l logLines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// want waits for a line.
func (l logLines) want(t *testing.T, pattern string) {
	t.Helper()
	late := time.After(10 * time.Second)
	for re := regexp.MustCompile(pattern); ; {
		select {
		case s := <-l:
			if re.MatchString(s) {
				return
			}
		case <-late:
			t.Fatalf("no line that matches %q was logged", pattern)
		}
	}
}

func TestTheCodeOfTheREADMEDoesWhatItSays(t *testing.T) {
	s := redistest.Start(t)
	ctx, l := t.Context(), logged(t)
	require.NoError(t, tenLines(ctx, s.Addr()))

	opt := s.Options()
	opt.PoolSize = 1
	rdb, err := events(opt)
	require.NoError(t, err)
	require.NoError(t, leaseOfAFunction(ctx, rdb))
	require.Equal(t, "hello", rdb.Get(ctx, "greeting").Val())
	require.Equal(t, "done", rdb.Get(ctx, "report").Val())

	conn, err := rdb.Acquire(managed.WithLabel(ctx, "the holder"))
	require.NoError(t, err)
	require.ErrorIs(t, exhausted(ctx, rdb), redis.ErrPoolTimeout)
	l.want(t, `the holder held for .* by .*readme_test.go`)
	conn.Release()
	require.NoError(t, rdb.Close())
	l.want(t, `closed: shutdown`)

	proxy := redistest.NewProxy(t, s.Addr())
	lossy, err := managed.New(&redis.Options{Addr: proxy.Addr()})
	require.NoError(t, err)
	defer lossy.Close()
	require.NoError(t, unknownOutcome(ctx, lossy))
	proxy.OnReply(func(int, []byte) redistest.Action { return redistest.CutBefore })
	require.ErrorIs(t, unknownOutcome(ctx, lossy), retry.ErrUnknownOutcome)
	l.want(t, `check before you repeat it`)
	require.Equal(t, "3", s.Admin().Get(ctx, "visits").Val())
}

func TestTheOtherPartsOfTheREADMEDoWhatTheySay(t *testing.T) {
	s := redistest.Start(t)
	ctx, l := t.Context(), logged(t)
	rdb, err := managed.New(s.Options())
	require.NoError(t, err)
	defer rdb.Close()

	n, err := manyCallers(ctx, rdb)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	require.NoError(t, plainClient(ctx, s.Addr()))
	l.want(t, `0 sent again`)
	require.Equal(t, "2", s.Admin().Get(ctx, "visits").Val())

	whatIsGoingOn(rdb)
	l.want(t, `[01] of \d+ in use, 0 waiting, p99 of commands \d`)
	l.want(t, `pool size \d+: too little was seen`)

	mux := http.NewServeMux()
	require.NoError(t, livePage(rdb, mux))
	require.NoError(t, published(ctx, rdb))
	l.want(t, `[01] instances: \d+ connections`)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/debug/redis", nil))
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), "<html")

	require.NoError(t, reaper(ctx, rdb))
	l.want(t, `would close 0 of \d+ clients`)
}

func TestTheClusterOfTheREADMEDoesWhatItSays(t *testing.T) {
	c := redistest.StartCluster(t, "redis-server", 3, 0)
	ctx := t.Context()
	require.NoError(t, cluster(ctx, c.Addrs()))
	rdb := redis.NewClusterClient(c.Options())
	defer rdb.Close()
	require.Equal(t, []any{"-30", "30"}, rdb.MGet(ctx, "{ann}:account", "{ann}:savings").Val())
}

func TestEveryGoBlockOfTheREADMEAndTheGuideIsTheCodeOfATest(t *testing.T) {
	this, err := os.ReadFile("readme_test.go")
	require.NoError(t, err)
	for page, mark := range map[string]string{"README.md": "README", "docs/GUIDE.md": "GUIDE"} {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		var want, got []string
		for _, m := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
			want = append(want, strings.ReplaceAll(m[1], `"localhost:6379"`, "addr"))
		}
		for _, m := range regexp.MustCompile(`(?s)\n\t// `+mark+`\n(.*?)\t// end\n`).FindAllStringSubmatch(string(this), -1) {
			var b strings.Builder
			for line := range strings.Lines(m[1]) {
				b.WriteString(strings.TrimPrefix(line, "\t"))
			}
			got = append(got, b.String())
		}
		require.NotEmpty(t, want)
		require.ElementsMatch(t, want, got, page)
	}
}

// A reader should see on one screen what it is, for whom, and how to begin.
func TestTheREADMEIsShortAndBeginsWithWhatItIs(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	require.LessOrEqual(t, strings.Count(string(text), "\n"), 150)
	require.Regexp(t, `^# lifeguard\n\nlifeguard is a drop-in replacement for the go-redis client`, string(text))
}
