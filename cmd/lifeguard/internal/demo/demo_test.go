package demo_test

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/demo"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

// facts are what the demo must have shown.
var facts = []string{
	"1. Commands and leases, mixed", "LEASED TO", " main ", " pipeline ",
	`Found: "nightly report" holds connection`, "demo.takeAndForget", "It came back after all",
	"The garbage collector found it", "demo.takeAndDrop", "is closed (reason: leak)",
	"3 of 3 connections in use", "import of orders", "export of invoices", "blpop in flight", "redis: connection pool timeout",
	"TryAcquire does not wait", "self-deadlock",
	"connections cut at once",
	"calls of INCR", "executed twice", "the managed one 0 of",
	"A burst has opened 20 connections", "(MinIdleConns: 2)", "were closed (reason: idle)",
	"none may be older than", "have been replaced after", "maximum age: ",
	"3 of the bare client's are cut. None of the managed client's is", "0 of 3 of the managed one",
	"warning pool_full", "(mail merge)", "is over after",
	"Summary after", "leases, 0 failed", "0 leased", "connections cut: 0 failed commands",
}

// plain is text without its line breaks and columns.
func plain(text string) string { return " " + strings.Join(strings.Fields(text), " ") + " " }

// firstWrite tells when something is written for the first time.
type firstWrite struct {
	bytes.Buffer
	at time.Time
}

func (w *firstWrite) Write(b []byte) (int, error) {
	if w.at.IsZero() {
		w.at = time.Now()
	}
	return w.Buffer.Write(b)
}

func TestTheDemoShowsThreeActsBeforeAndAfterAndEndsWithWhatToChange(t *testing.T) {
	var out firstWrite
	began := time.Now()
	require.NoError(t, demo.Run(t.Context(), demo.Config{For: 2 * time.Second, Out: &out}), out.String)
	require.Less(t, out.at.Sub(began), time.Second, "the first output")
	rest := plain(out.String())
	for _, want := range []string{
		"1. A connection is never given back",
		"go-redis: From then on every call fails", "redis: connection pool timeout",
		"lifeguard: The leak is found", `"checkout handler" never released connection`, "acquired by acts.go:", "the next call succeeds",
		"2. The pool is exhausted",
		"go-redis: The request fails, and nobody knows why: redis: connection pool timeout",
		"lifeguard: The same error", "import of orders", "export of invoices", "blpop in flight",
		"3. Replies get lost", "go-redis lifeguard", "executed twice", "lifeguard: No increment was counted twice",
		"Change two lines", "- rdb := redis.NewClient(opt)", "+ rdb := managed.NewClient(opt)",
		"Where to look next", "demo --all", "doctor", "docs/GUIDE.md",
	} {
		before, after, ok := strings.Cut(rest, want)
		require.True(t, ok, "%q does not come after %q", want, before)
		rest = after
	}
	for line := range strings.Lines(out.String()) {
		require.LessOrEqual(t, len(line), 81, line)
	}
	require.NotRegexp(t, `\d\.\d{2,}(s|ms)`, out.String(), "times are rounded")
}

func TestTheActsEndEarlyAndLeaveNoKeyOnAServer(t *testing.T) {
	s := redistest.Start(t)
	for _, after := range []time.Duration{50 * time.Millisecond, time.Second, time.Minute} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		var out bytes.Buffer
		require.NoError(t, demo.Run(ctx, demo.Config{For: 2 * time.Second, Out: &out, Addr: s.Addr()}), out.String)
		require.Equal(t, ctx.Err() != nil, strings.Contains(out.String(), "ended early as asked"))
		cancel()
	}
	require.Zero(t, s.Admin().DBSize(t.Context()).Val())
}

func TestTheDemoShowsWhatItPromisesOnTheEmbeddedServer(t *testing.T) {
	var out bytes.Buffer
	began := time.Now()
	require.NoError(t, demo.Run(t.Context(), demo.Config{For: time.Second, Out: &out, All: true}), out.String)
	require.Greater(t, time.Since(began), 900*time.Millisecond)
	for _, f := range facts {
		require.Contains(t, plain(out.String()), f)
	}
}

func TestTheDemoShowsTheSameOnARealServerAndLeavesNoKeyBehind(t *testing.T) {
	s := redistest.Start(t, "--timeout", "600") // so that there are heartbeats
	for _, cfg := range []demo.Config{{Addr: s.Addr(), All: true}, {URL: "redis://" + s.Addr() + "/1", All: true}} {
		var out bytes.Buffer
		cfg.For, cfg.Out = time.Second, &out
		require.NoError(t, demo.Run(t.Context(), cfg), out.String)
		for _, f := range facts {
			require.Contains(t, plain(out.String()), f)
		}
		require.Contains(t, out.String(), s.Addr())
	}
	for db := range 2 {
		opt := s.Options()
		opt.DB = db
		c := redis.NewClient(opt)
		defer c.Close()
		require.Zero(t, c.DBSize(t.Context()).Val())
	}
}

func TestTheDemoEndsEarlyWithinAnyPhase(t *testing.T) {
	for after := 50 * time.Millisecond; after < 3*time.Second; after += 350 * time.Millisecond {
		var out bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), after)
		require.NoError(t, demo.Run(ctx, demo.Config{For: 4 * time.Second, Out: &out, All: true}), out.String())
		cancel()
		require.Contains(t, out.String(), "ended early as asked")
		require.Contains(t, out.String(), "0 leased")
	}
}

func TestAVeryShortDemoStillShowsEverything(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, demo.Run(t.Context(), demo.Config{For: time.Millisecond, Out: &out, All: true}), out.String)
	for _, f := range []string{"demo.takeAndForget", "demo.takeAndDrop", "3 of 3 connections", "cut at once", "(MinIdleConns: 2)", "have been replaced",
		"None of the managed client's is", "is over after"} {
		require.Contains(t, plain(out.String()), f)
	}
}

// shownAt keeps what is written, and tells the address of the live page and when a
// round begins.
type shownAt struct {
	buf    bytes.Buffer
	page   chan string
	rounds chan struct{}
}

func (w *shownAt) Write(b []byte) (int, error) {
	if _, after, ok := strings.Cut(string(b), "The live page: "); ok {
		w.page <- strings.TrimSpace(after)
	}
	if strings.Contains(string(b), "1. Commands and leases") {
		select {
		case w.rounds <- struct{}{}:
		default:
		}
	}
	return w.buf.Write(b)
}

func TestTheDemoServesTheLivePageAndGoesOnUntilItIsEnded(t *testing.T) {
	out := &shownAt{page: make(chan string, 1), rounds: make(chan struct{}, 3)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- demo.Run(ctx, demo.Config{For: 100 * time.Millisecond, HTTP: ":0", Loop: true, Out: out})
	}()
	url := <-out.page
	require.Contains(t, url, "http://localhost:")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	stream, err := client.Get(url + "?get=stream&want=leases")
	require.NoError(t, err)
	defer stream.Body.Close()
	lines := bufio.NewScanner(stream.Body)
	lines.Buffer(nil, 1<<20)
	leased := 0
	for leased < 3 && lines.Scan() { // leases come and go
		if strings.HasPrefix(lines.Text(), `data: {"known":true,"rows":[[`) {
			leased++
		}
	}
	require.Equal(t, 3, leased, lines.Err())
	for range cap(out.rounds) {
		select {
		case <-out.rounds:
		case err := <-ended:
			t.Fatalf("it did not begin again: %v", err)
		}
	}
	cancel() // with a stream open
	require.NoError(t, <-ended)
}

func TestAPageThatCannotBeServedEndsTheDemo(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	var out bytes.Buffer
	require.ErrorContains(t, demo.Run(t.Context(), demo.Config{For: time.Second, HTTP: ln.Addr().String(), Out: &out}), ": address already in use")
}
