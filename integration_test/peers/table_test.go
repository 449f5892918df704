package peers_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

var (
	measure = flag.Bool("measure", false, "measure for real; otherwise everything runs for a moment only")
	write   = flag.Bool("write", false, "put the tables into docs, besides the log")
	only    = flag.String("only", "", "only subjects whose name contains this")
)

func TestMain(m *testing.M) { redistest.Main(m) }

const callers = 64

// result is what one round gave.
type result struct {
	ok, errors       int // INCR
	twice            int // executions too many
	applied, perhaps int // of the errors: had been carried out; said that they might have been
	missed           int // had been carried out, and did not say so
	others           int // GET and SET
	otherErrors      int
	firsts           []time.Duration // by caller: its first success since the fault was over
	example, other   error           // of an error that had been carried out, of a GET or SET
}

func TestTheTableOfClientsAndFaults(t *testing.T) {
	d := 150 * time.Millisecond
	if *measure {
		d = 3 * time.Second
	}
	var out strings.Builder
	fmt.Fprintf(&out, "One run, %s, %d processors, %d goroutines.\n", runtime.Version(), runtime.GOMAXPROCS(0), callers)
	for i, f := range faults {
		fmt.Fprintf(&out, "\n**%s.** %s\n\n", strings.ToUpper(f.name[:1])+f.name[1:], f.about)
		out.WriteString("| | `INCR` that succeeded | executed once too often | errors | of these carried out | errors that say it may have been | `GET`, `SET` | errors | recovery: median, slowest caller |\n|---|---|---|---|---|---|---|---|---|\n")
		for j, c := range subjects() {
			if !*measure && i != j { // a glance at each of them
				continue
			}
			if !strings.Contains(c.name, *only) || c.endless {
				continue
			}
			r := round(t, f, c, d)
			perhaps, strict := "does not say", c.perhaps != nil
			if strict {
				perhaps = fmt.Sprint(r.perhaps)
			}
			fmt.Fprintf(&out, "| %s | %d | %d | %d | %d | %s | %d | %d | %s |\n", c.name, r.ok, r.twice, r.errors, r.applied, perhaps,
				r.others, r.otherErrors, r.recovery())
			t.Logf("%s, %s: %d INCR, %d too often, %d errors, %d carried out (such as %v); GET, SET %d of %d (such as %v); recovery %s",
				f.name, c.name, r.ok, r.twice, r.errors, r.applied, r.example, r.otherErrors, r.others, r.other, r.recovery())
			if strict && (r.twice > 0 || r.missed > 0) {
				t.Errorf("%s, %s: %d too often, %d errors do not say that it happened", f.name, c.name, r.twice, r.missed)
			}
		}
	}
	t.Log("\n" + out.String())
	if *write && *measure {
		put(t, "../../docs/RELIABILITY.md", "the tables", out.String())
	}
}

func (r result) recovery() string {
	if len(r.firsts) == 0 {
		return "none"
	}
	s := fmt.Sprintf("%v, %v", round2(r.firsts[len(r.firsts)/2]), round2(r.firsts[len(r.firsts)-1]))
	if n := callers - len(r.firsts); n > 0 {
		s += fmt.Sprintf(" (%d never)", n)
	}
	return s
}

func round2(d time.Duration) time.Duration {
	if d > 100*time.Millisecond {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Microsecond)
}

// round runs the callers through one fault.
func round(t *testing.T, f fault, sub subject, d time.Duration) result {
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "no", "--enable-debug-command", "yes")
	if err := s.Admin().Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	proxy := redistest.NewProxy(t, s.Addr())
	addr := s.Addr()
	if f.proxy {
		addr = proxy.Addr()
	}
	c := sub.open(t, addr)

	type success struct{ began, ended time.Time }
	var (
		r       result
		mu      sync.Mutex
		told    = map[string]error{}
		stop    atomic.Bool
		wg      sync.WaitGroup
		history [callers][]success
	)
	for g := range callers {
		wg.Go(func() {
			mine := fmt.Sprint("own:", g)
			var ok, others, otherErrors int
			var other error
			bad := map[string]error{}
			var keys []string
			call := func(f func(ctx context.Context) error) error {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				began := time.Now()
				err := f(ctx)
				if err != nil {
					time.Sleep(time.Millisecond) // as an application would: an error is not to be a reason to call more often
				} else {
					history[g] = append(history[g], success{began, time.Now()})
				}
				return err
			}
			for i := 0; !stop.Load(); i++ {
				key := fmt.Sprintf("n:%d:%d", g, i)
				err := call(func(ctx context.Context) error { return c.incr(ctx, key) })
				if keys = append(keys, key); err == nil {
					ok++
				} else {
					bad[key] = err
				}
				for _, err := range []error{
					call(func(ctx context.Context) error { return c.set(ctx, mine, key) }),
					call(func(ctx context.Context) error { return c.get(ctx, mine) }),
				} {
					if others++; err != nil {
						otherErrors++
						other = err
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			r.ok, r.others, r.otherErrors = r.ok+ok, r.others+others, r.otherErrors+otherErrors
			r.other = cmp.Or(other, r.other)
			for _, k := range keys {
				told[k] = bad[k]
			}
		})
	}
	time.Sleep(d / 10)
	over := f.run(t, s, proxy, d)
	time.Sleep(max(d/3, 100*time.Millisecond))
	stop.Store(true)
	wg.Wait()
	c.close()
	proxy.CutAll()
	redistest.Eventually(t, "the connections have ended", 30*time.Second, func() bool { return s.NumClients(t) == 0 })

	for _, h := range history {
		for _, x := range h {
			// What ends just after the fault may have been answered before it.
			if x.began.After(over) || x.ended.After(over.Add(20*time.Millisecond)) {
				r.firsts = append(r.firsts, x.ended.Sub(over))
				break
			}
		}
	}
	slices.Sort(r.firsts)
	keys := make([]string, 0, len(told))
	for k := range told {
		keys = append(keys, k)
	}
	for part := range slices.Chunk(keys, 1000) {
		counts, err := s.Admin().MGet(t.Context(), part...).Result()
		if err != nil {
			t.Fatal(err)
		}
		for i, k := range part {
			n := 0
			if v, is := counts[i].(string); is {
				_, _ = fmt.Sscan(v, &n)
			}
			r.twice += max(n-1, 0)
			err := told[k]
			if err == nil {
				if n == 0 {
					t.Errorf("%s, %s: %s succeeded, and is lost", f.name, sub.name, k)
				}
				continue
			}
			r.errors++
			said := sub.perhaps != nil && sub.perhaps(err)
			if said {
				r.perhaps++
			}
			if n > 0 {
				r.applied++
				r.example = cmp.Or(r.example, err)
				if !said {
					r.missed++
				}
			}
		}
	}
	return r
}

// put replaces what is between two marks of a file.
func put(t *testing.T, file, what, text string) {
	begin, end := "<!-- begin of "+what+" -->\n", "<!-- end of "+what+" -->"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(b), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for %s", file, what)
	}
	if err := os.WriteFile(file, []byte(head+begin+text+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}
