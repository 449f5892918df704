package lifeguard_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/retry"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// The Go blocks of README.md are below, each between "// README" and "// end",
// word for word but for the address.

func fiveLines(ctx context.Context, addr string) error {
	// README
	rdb := managed.NewClient(&redis.Options{Addr: addr}) // was: redis.NewClient
	defer rdb.Close()

	conn, err := rdb.Acquire(ctx) // one connection, for this caller alone
	if err != nil {
		return err
	}
	defer conn.Release()
	return conn.Set(ctx, "greeting", "hello", time.Minute).Err()
	// end
}

func leaseOfAFunction(ctx context.Context, rdb *managed.Client) error {
	// README
	err := rdb.AcquireFunc(managed.WithLabel(ctx, "nightly report"), func(conn *managed.Conn) error {
		ctx := conn.Context() // an Acquire with it on a full pool fails at once, instead of waiting for itself
		return conn.Set(ctx, "report", "done", time.Hour).Err()
	})
	// end
	return err
}

func exhausted(ctx context.Context, rdb *managed.Client) error {
	// README
	_, err := rdb.TryAcquire(ctx)
	var full *managed.ExhaustedError // errors.Is(err, redis.ErrPoolTimeout) holds too
	if errors.As(err, &full) {
		for _, lease := range full.Leases {
			log.Printf("%s held for %v by %s", lease.Label, lease.Age, lease.Site)
		}
	}
	// end
	return err
}

func unknownOutcome(ctx context.Context, rdb *managed.Client) error {
	// README
	err := rdb.Incr(ctx, "visits").Err()
	if errors.Is(err, retry.ErrUnknownOutcome) {
		log.Print("it may have been counted, or not: look before you repeat it")
	}
	// end
	return err
}

func events(opt *redis.Options) (*managed.Client, error) {
	// README
	rdb, err := managed.New(opt, managed.WithEventHandler(func(e hooks.Event) {
		switch e.Kind {
		case hooks.Closed:
			log.Printf("connection %d ended: %s, %v old", e.ConnID, e.Reason, e.Age)
		case hooks.Leaked:
			log.Printf("leaked by %s:\n%s", e.Site, e.Stack)
		}
	}))
	// end
	return rdb, err
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
	require.NoError(t, fiveLines(ctx, s.Addr()))

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
	l.want(t, `ended: shutdown`)

	proxy := redistest.NewProxy(t, s.Addr())
	lossy, err := managed.New(&redis.Options{Addr: proxy.Addr()})
	require.NoError(t, err)
	defer lossy.Close()
	require.NoError(t, unknownOutcome(ctx, lossy))
	proxy.OnReply(func(int, []byte) redistest.Action { return redistest.CutBefore })
	require.ErrorIs(t, unknownOutcome(ctx, lossy), retry.ErrUnknownOutcome)
	l.want(t, `look before you repeat it`)
	require.Equal(t, "2", s.Admin().Get(ctx, "visits").Val())
}

func TestEveryGoBlockOfTheREADMEIsTheCodeOfATest(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	this, err := os.ReadFile("readme_test.go")
	require.NoError(t, err)

	var want, got []string
	for _, m := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		want = append(want, strings.ReplaceAll(m[1], `"localhost:6379"`, "addr"))
	}
	for _, m := range regexp.MustCompile(`(?s)\n\t// README\n(.*?)\t// end\n`).FindAllStringSubmatch(string(this), -1) {
		var b strings.Builder
		for line := range strings.Lines(m[1]) {
			b.WriteString(strings.TrimPrefix(line, "\t"))
		}
		got = append(got, b.String())
	}
	require.NotEmpty(t, want)
	require.ElementsMatch(t, want, got)
}

func TestTheREADMEHasEveryOption(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	var want, got []string
	files, err := filepath.Glob("managed/*.go")
	require.NoError(t, err)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !fn.Name.IsExported() || fn.Type.Results == nil {
				continue
			}
			if r, ok := fn.Type.Results.List[0].Type.(*ast.Ident); ok && r.Name == "Option" {
				want = append(want, fn.Name.Name)
			}
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(With\\w+)` \\|").FindAllStringSubmatch(string(readme), -1) {
		got = append(got, m[1])
	}
	require.ElementsMatch(t, want, got, "the table of options and package managed differ")
}
