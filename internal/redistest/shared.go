package redistest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.uber.org/goleak"

	"github.com/lifeguard-redis/lifeguard/internal/redistest/program"
)

// Provider starts the shared server in some other way, and says its URL and
// how to end it. An error means that this way is not open here, and why: the
// next one is tried. It is called once, and has to be bounded in time.
type Provider func() (url string, stop func(), err error)

var shared struct {
	mu       sync.Mutex
	provider Provider
	done     bool
	url      string
	source   string
	stop     func()
	err      error
	absent   bool // err is the want of any server, not the fault of one
}

// Register puts p between LIFEGUARD_REDIS_URL and a redis-server process.
// Call it in TestMain, before the first URL.
func Register(p Provider) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.provider = p
}

// URL is the shared server of this test process: LIFEGUARD_REDIS_URL; else
// what the registered Provider gives; else a redis-server process. It is
// started once. Where there is none the test skips with one line that says
// why, or fails with CI=true. Other packages' tests may be on the same server
// at the same time: use UniqueKey, and Start for anything that is felt by all.
func URL(t testing.TB) string {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if !shared.done {
		shared.done = true
		shared.err = resolve()
	}
	switch {
	case shared.err == nil:
	case shared.absent:
		Missing(t, shared.err.Error())
	default:
		t.Fatal(shared.err)
	}
	return shared.url
}

// Source says in a word or two where URL came from.
func Source(t testing.TB) string {
	t.Helper()
	URL(t)
	shared.mu.Lock()
	defer shared.mu.Unlock()
	return shared.source
}

// Options are new options for the server at URL.
func Options(t testing.TB) *redis.Options {
	t.Helper()
	opt, err := redis.ParseURL(URL(t))
	if err != nil {
		t.Fatalf("redistest: URL of the shared server: %v", err)
	}
	return opt
}

// Stop ends the shared server. It is for a TestMain that cannot use Main.
func Stop() {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.stop != nil {
		shared.stop()
		shared.stop = nil
	}
	shared.done, shared.url, shared.err, shared.absent = false, "", nil, false
}

// MainWithoutLeaks is Main that fails when a goroutine is left, but for the one
// that go-redis has in each process to keep the time.
func MainWithoutLeaks(m *testing.M) {
	code := run(m)
	if code == 0 {
		if err := leaks(); err != nil {
			fmt.Fprintln(os.Stderr, "after all tests have passed:", err)
			code = 1
		}
	}
	Stop()
	os.Exit(code)
}

// leaks looks longer than goleak does by itself: go-redis looks once a second
// whether a client that cannot dial has been closed (tryDial, pool.go).
func leaks() (err error) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		err = goleak.Find(goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.init.0.func1"))
		if err == nil {
			return nil
		}
	}
	return err
}

// Main is the body of a TestMain: it runs the tests, calls the functions it is
// given, ends the shared server and exits.
func Main(m *testing.M, after ...func()) {
	code := run(m)
	for _, f := range after {
		f()
	}
	Stop()
	os.Exit(code)
}

func run(m *testing.M) int {
	defer func() { shout(tellMissed()) }()
	defer watchStalls()()
	return m.Run()
}

func resolve() error {
	if url := os.Getenv("LIFEGUARD_REDIS_URL"); url != "" {
		if err := ping(url); err != nil {
			return fmt.Errorf("redistest: LIFEGUARD_REDIS_URL: %w", err)
		}
		shared.url, shared.source = url, "LIFEGUARD_REDIS_URL"
		return nil
	}
	var why error
	if shared.provider != nil {
		url, stop, err := provide(shared.provider)
		if err == nil {
			if err := ping(url); err != nil {
				stop()
				return fmt.Errorf("redistest: the provided server: %w", err)
			}
			shared.url, shared.stop, shared.source = url, stop, "provider"
			return nil
		}
		why = err
	}
	bin, err := findBinary(program.Redis.Name)
	if err != nil {
		shared.absent = os.Getenv(program.Redis.Env) == ""
		if why != nil {
			err = fmt.Errorf("%w; %w", err, why)
		}
		return fmt.Errorf("%w; or set LIFEGUARD_REDIS_URL", err)
	}
	s, err := launch(bin, nil, nil)
	if err != nil {
		return err
	}
	shared.url, shared.stop, shared.source = "redis://"+s.addr, s.end, "redis-server process"
	return nil
}

func provide(p Provider) (url string, stop func(), err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the provider panicked: %v", v)
		}
	}()
	url, stop, err = p()
	if stop == nil {
		stop = func() {}
	}
	if err == nil && url == "" {
		err = errors.New("the provider gave no URL")
	}
	return url, stop, err
}

// ping sees once that a server is there, so that a wrong URL is one clear
// failure and not as many timeouts as there are tests.
func ping(url string) error {
	opt, err := redis.ParseURL(url)
	if err != nil {
		return err
	}
	opt.MaxRetries, opt.DialerRetries = -1, 1
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c := redis.NewClient(opt)
	defer c.Close()
	if err := c.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("no answer from %s: %w", opt.Addr, err)
	}
	return nil
}
