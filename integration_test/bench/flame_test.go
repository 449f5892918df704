package bench_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"html"
	"maps"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// Where the time of a GET goes: a CPU profile of 8 callers, by whose code is the
// innermost that is not Go's own, and as a flame graph.
func TestProfileOfWhatTheDecorationCosts(t *testing.T) {
	d := 50 * time.Millisecond
	if *measure {
		d = 10 * time.Second
	}
	s := redistest.Start(t)
	rdb := managed.NewClient(&redis.Options{Addr: s.Addr()})
	defer rdb.Close()
	ctx := context.Background()
	if err := rdb.Set(ctx, "k", strings.Repeat("x", 64), 0).Err(); err != nil {
		t.Fatal(err)
	}
	run := loop(t, 8, func() error { return rdb.Get(ctx, "k").Err() })
	run(10 * time.Millisecond)

	var buf bytes.Buffer
	if err := pprof.StartCPUProfile(&buf); err != nil {
		t.Fatal(err)
	}
	ran := run(d)
	pprof.StopCPUProfile()
	p, err := profile.Parse(&buf)
	if err != nil {
		t.Fatal(err)
	}

	owners, root := map[string]int64{}, &frame{name: "all"}
	for _, sample := range p.Sample {
		var stack []string // outermost first
		for _, loc := range slices.Backward(sample.Location) {
			for _, line := range slices.Backward(loc.Line) {
				stack = append(stack, line.Function.Name)
			}
		}
		if i := slices.IndexFunc(stack, ours); i >= 0 {
			stack = stack[i:] // what measures is not measured
		} else {
			stack = append([]string{"Go's own: scheduler, network poller, garbage collector"}, stack...)
		}
		owners[owner(stack)] += sample.Value[1]
		root.add(stack, sample.Value[1])
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%d GETs by 8 callers, %s, %d processors. The time is that of the code named, and of what it calls of Go's own.\n\n| | of the CPU time |\n|---|---|\n", ran.ops, runtime.Version(), runtime.GOMAXPROCS(0))
	for _, name := range slices.SortedFunc(maps.Keys(owners), func(a, b string) int { return cmp.Compare(owners[b], owners[a]) }) {
		fmt.Fprintf(&out, "| %s | %.1f %% |\n", name, 100*float64(owners[name])/float64(max(root.value, 1)))
	}
	t.Log("\n" + out.String())
	if *write && *measure {
		replaceTable(t, "../../docs/PERFORMANCE.md", "the profile", out.String())
		if err := os.WriteFile("../../docs/images/get-flame.svg", []byte(root.svg()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const (
	module  = "github.com/lifeguard-redis/lifeguard/"
	goRedis = "github.com/redis/go-redis/"
)

func library(fn string) bool {
	return strings.HasPrefix(fn, module) && !strings.HasPrefix(fn, module+"integration_test") && !strings.HasPrefix(fn, module+"internal/redistest")
}

func ours(fn string) bool { return library(fn) || strings.HasPrefix(fn, goRedis) }

// owner is whose code is the innermost that is not Go's own.
func owner(stack []string) string {
	system := false
	for _, fn := range slices.Backward(stack) {
		system = system || strings.HasPrefix(fn, "internal/runtime/syscall.") || strings.HasPrefix(fn, "syscall.")
		switch {
		case system && ours(fn):
			return "reading and writing of sockets"
		case library(fn):
			return "lifeguard"
		case strings.HasPrefix(fn, goRedis):
			return "go-redis"
		}
	}
	return "Go's own, for nobody: scheduler, network poller, garbage collector"
}

// frame is a function with all that it called.
type frame struct {
	name  string
	value int64
	calls []*frame
}

func (f *frame) add(stack []string, value int64) {
	f.value += value
	if len(stack) == 0 {
		return
	}
	i := slices.IndexFunc(f.calls, func(c *frame) bool { return c.name == stack[0] })
	if i < 0 {
		i, f.calls = len(f.calls), append(f.calls, &frame{name: stack[0]})
	}
	f.calls[i].add(stack[1:], value)
}

const (
	wide   = 1200.0
	row    = 17.0
	narrow = 0.7 // what is narrower is left out
)

// svg draws the callers above what they call. The title of a box has the whole
// name and the share.
func (f *frame) svg() string {
	var b strings.Builder
	deepest := f.draw(&b, f.value, 0, 0)
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="monospace" font-size="11">
<rect width="100%%" height="100%%" fill="#fff"/>
%s</svg>
`, wide, row*float64(deepest+1), b.String())
}

func (f *frame) draw(b *strings.Builder, all int64, x float64, depth int) (deepest int) {
	w := wide * float64(f.value) / float64(max(all, 1))
	if w < narrow {
		return depth
	}
	color := "#d9d9d9"
	switch {
	case library(f.name):
		color = "#f28e2b"
	case strings.HasPrefix(f.name, goRedis):
		color = "#9ec5e8"
	}
	short := f.name[strings.LastIndex(f.name, "/")+1:]
	fmt.Fprintf(b, `<g><title>%s, %.1f %%</title><rect x="%.1f" y="%.0f" width="%.1f" height="%.0f" fill="%s" stroke="#fff" stroke-width="0.5"/>`,
		html.EscapeString(f.name), 100*float64(f.value)/float64(max(all, 1)), x, row*float64(depth), w, row-1, color)
	if letters := int(w / 6.8); letters > 3 {
		if len(short) > letters {
			short = short[:letters-1] + "…"
		}
		fmt.Fprintf(b, `<text x="%.1f" y="%.0f">%s</text>`, x+2, row*float64(depth)+12, html.EscapeString(short))
	}
	b.WriteString("</g>\n")
	slices.SortFunc(f.calls, func(a, b *frame) int { return cmp.Compare(a.name, b.name) })
	deepest = depth
	for _, c := range f.calls {
		deepest = max(deepest, c.draw(b, all, x, depth+1))
		x += wide * float64(c.value) / float64(max(all, 1))
	}
	return deepest
}
