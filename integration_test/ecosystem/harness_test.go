package ecosystem_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// soon is how long tests wait for something that takes milliseconds on an idle
// machine.
const soon = 10 * time.Second

// library is what is tried of one library.
type library struct {
	name string
	// play calls it once for each thing that it does, one call after the other.
	play func(p *play)
	// load gives what callers do at the same time while connections are killed.
	load func(l *load)
	// polls: it asks again and again in the background, so that how often it does
	// is a matter of time.
	polls bool
	// varies: the arguments of its commands differ from run to run (times).
	varies bool
}

func libraries() []library {
	return []library{
		redsyncLibrary(), redislockLibrary(), redisRateLibrary(), cacheLibrary(), limiterLibrary(), throttledLibrary(),
		asynqLibrary(), watermillLibrary(), fiberLibrary(),
	}
}

// side is one of the two clients that are compared.
type side struct {
	name string
	open func(t testing.TB, s *redistest.Server) redis.UniversalClient
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func sides() []side {
	return []side{
		{"bare", func(_ testing.TB, s *redistest.Server) redis.UniversalClient { return redis.NewClient(s.Options()) }},
		{"managed", func(t testing.TB, s *redistest.Server) redis.UniversalClient {
			c, err := managed.New(s.Options(), managed.WithLogger(quiet))
			if err != nil {
				t.Fatal(err)
			}
			return c
		}},
	}
}

// play is one run of library.play.
type play struct {
	t      testing.TB
	rdb    redis.UniversalClient
	before func() // each step
	killed bool   // connections are killed before each step
	said   []string
}

// step does one thing and notes what it gave.
func (p *play) step(what string, f func(ctx context.Context) (any, error)) {
	p.t.Helper()
	p.before()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	v, err := f(ctx)
	p.said = append(p.said, fmt.Sprintf("%s: %v, %v", what, v, err))
}

// load is one run of library.load. The function is called before the traffic.
type load struct {
	t   testing.TB
	rdb redis.UniversalClient
	// call is made by each of several callers again and again. What the library
	// says in the normal course of things ("lock taken") is no error.
	call func(ctx context.Context, caller int) error
	// check, if any, is run when the connections are left alone again.
	check func()
	// end, if any, ends what the library runs.
	end func()
}

// witness is a user's hook that notes what it sees.
type witness struct {
	mu   sync.Mutex
	seen []string
}

func (w *witness) note(cmds ...redis.Cmder) {
	names := make([]string, len(cmds))
	for i, c := range cmds {
		names[i] = c.FullName()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, strings.Join(names, " "))
}

func (w *witness) DialHook(next redis.DialHook) redis.DialHook { return next }

func (w *witness) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		w.note(cmd)
		return next(ctx, cmd)
	}
}

func (w *witness) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		w.note(cmds...)
		return next(ctx, cmds)
	}
}

// perform plays a library on one side: what it said, and what a hook saw.
func perform(t *testing.T, s *redistest.Server, lib library, who side, kill bool) (said, seen []string) {
	t.Helper()
	empty(t, s)
	noGoroutineLeft(t, func() {
		rdb := who.open(t, s)
		defer rdb.Close()
		w := new(witness)
		rdb.AddHook(w)
		p := &play{t: t, rdb: rdb, killed: kill, before: func() {
			if kill {
				s.KillClients(t)
			}
		}}
		lib.play(p)
		said, seen = p.said, w.seen
	})
	return said, seen
}

// empty removes the data and the scripts of a server.
func empty(t *testing.T, s *redistest.Server) {
	t.Helper()
	for _, do := range []func() error{
		func() error { return s.Admin().FlushAll(t.Context()).Err() },
		func() error { return s.Admin().ScriptFlush(t.Context()).Err() },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
}

// unknown reports whether a command may have been carried out. Some libraries (asynq)
// leave only the text of an error.
func unknown(err error) bool {
	return errors.Is(err, retry.ErrUnknownOutcome) || strings.Contains(err.Error(), "outcome unknown")
}

// strain has eight callers use a library for a while, and kills connections.
func strain(t *testing.T, s *redistest.Server, lib library, who side) {
	t.Helper()
	empty(t, s)
	noGoroutineLeft(t, func() {
		rdb := who.open(t, s)
		defer rdb.Close()
		l := &load{t: t, rdb: rdb}
		lib.load(l)
		var (
			mu            sync.Mutex
			calls, failed int
		)
		call := func(caller int) error {
			ctx, cancel := context.WithTimeout(context.Background(), soon)
			defer cancel()
			return l.call(ctx, caller)
		}
		var callers sync.WaitGroup
		stop := make(chan struct{})
		for i := range 8 {
			callers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					err := call(i)
					mu.Lock()
					calls++
					if err != nil {
						failed++
						if who.name == "managed" && !unknown(err) {
							t.Errorf("caller %d, while connections are killed: %v", i, err)
						}
					}
					mu.Unlock()
				}
			})
		}
		killed := 0
		for range 15 {
			killed += s.KillClients(t)
			time.Sleep(20 * time.Millisecond)
		}
		close(stop)
		callers.Wait()
		for i := range 8 {
			if err := call(i); err != nil {
				t.Errorf("caller %d, after the connections were left alone: %v", i, err)
			}
		}
		if l.check != nil {
			l.check()
		}
		if l.end != nil {
			l.end()
		}
		if killed == 0 || calls == 0 {
			t.Errorf("%d connections were killed under %d calls: nothing was tried", killed, calls)
		}
		t.Logf("%s: %d calls, %d connections killed, %d calls failed", who.name, calls, killed, failed)
	})
}
