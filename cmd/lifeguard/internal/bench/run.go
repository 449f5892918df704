package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/target"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
	"github.com/lifeguard-redis/lifeguard/managed"
)

const (
	keys   = 64        // many, so that a cluster's nodes all have some
	keyTTL = time.Hour // if they are not deleted at the end
)

// clients are the clients that are measured.
type clients struct {
	bare, managed, control, adaptive op
	close                            func()
}

// Side is the result of a client with that many callers; medians over the rounds.
type Side struct {
	PerSecond float64       `json:"per_second"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
}

// Line is the result for one number of callers. Ratios are those within the rounds.
type Line struct {
	Callers  int   `json:"callers"`
	Rounds   int   `json:"rounds"`
	Commands int64 `json:"commands"`
	Bare     Side  `json:"bare"`
	Managed  Side  `json:"managed"`
	Adaptive *Side `json:"adaptive,omitempty"`

	Throughput         Estimate  `json:"throughput_ratio"` // managed / bare
	Control            Estimate  `json:"control_ratio"`    // bare / bare: the noise
	P99                Estimate  `json:"p99_ratio"`        // managed / bare
	AdaptiveThroughput *Estimate `json:"adaptive_throughput_ratio,omitempty"`
}

// Result is the result of the whole benchmark. It is a value.
type Result struct {
	Server     string        `json:"server"`
	Command    string        `json:"command"`
	Size       int           `json:"size_bytes"`
	RoundTrip  time.Duration `json:"round_trip_ns"` // median of a few PINGs
	Slice      time.Duration `json:"slice_ns"`      // of each client in each round, at most
	PoolSize   int           `json:"pool_size"`
	Processors int           `json:"processors"`
	Early      bool          `json:"ended_early"`
	Lines      []Line        `json:"lines"`
}

// Run measures, and calls each with every line as soon as it is complete. If ctx ends, that is not
// an error: the result has what was measured until then.
func Run(ctx context.Context, t *target.Target, c Config, begin func(Result), each func(Line)) (Result, error) {
	res := Result{Server: t.Name, Command: c.Command, Size: c.Size, Slice: c.slice(), Processors: runtime.GOMAXPROCS(0), Lines: []Line{}}
	err := t.EachNode(ctx, func(ctx context.Context, node *redis.Client) error {
		if t.Cluster {
			return nil
		}
		all, err := target.RoundTrips(ctx, node, 21, time.Second)
		if len(all) > 0 {
			res.RoundTrip = all[len(all)/2]
		}
		return err
	})
	if err != nil && !redis.IsPermissionError(err) {
		return res, early(ctx, &res, t.Explain(err))
	}
	prefix := "lifeguard:bench:" + rand.Text()[:12] + ":"
	names := make([]string, keys)
	for i := range names {
		names[i] = fmt.Sprint(prefix, i)
	}
	of, size, err := c.clients(t, names)
	if err != nil {
		return res, err
	}
	defer of.close()
	res.PoolSize = size
	defer c.tidy(ctx, t, names)
	if err := c.fill(ctx, t, names); err != nil {
		return res, early(ctx, &res, t.Explain(err))
	}
	begin(res)
	for _, n := range c.Callers {
		rs, err := c.rounds(ctx, n, of)
		if len(rs) > 1 {
			line := c.line(n, rs)
			res.Lines = append(res.Lines, line)
			each(line)
		}
		if err != nil {
			return res, early(ctx, &res, t.Explain(err))
		}
	}
	return res, nil
}

// early returns nil for an error that the user caused by ending the run.
func early(ctx context.Context, res *Result, err error) error {
	if ctx.Err() != nil {
		res.Early = true
		return nil
	}
	return err
}

func (c Config) clients(t *target.Target, names []string) (clients, int, error) {
	opt := *t.Options
	if c.PoolSize > 0 {
		opt.PoolSize = c.PoolSize
	}
	var open []redis.UniversalClient
	closeAll := func() {
		for _, o := range open {
			_ = o.Close()
		}
	}
	bare := func() redis.UniversalClient {
		var b redis.UniversalClient
		if t.Cluster {
			b = redis.NewClusterClient(target.ClusterOptions(&opt))
		} else {
			clone := opt
			b = redis.NewClient(&clone)
		}
		open = append(open, b)
		return b
	}
	one, other := bare(), bare()
	var man, adaptive redis.UniversalClient
	if t.Cluster {
		m, err := managed.NewCluster(target.ClusterOptions(&opt))
		if err != nil {
			closeAll()
			return clients{}, 0, err
		}
		man, adaptive = m, m.Adaptive()
	} else {
		m, err := managed.New(&opt)
		if err != nil {
			closeAll()
			return clients{}, 0, err
		}
		man, adaptive = m, m.Adaptive()
	}
	open = append(open, man)
	size := opt.PoolSize
	if size == 0 {
		size = 10 * runtime.GOMAXPROCS(0)
		if t.Cluster {
			size = 5 * runtime.GOMAXPROCS(0)
		}
	}
	return clients{c.op(one, names), c.op(man, names), c.op(other, names), c.op(adaptive, names), closeAll}, size, nil
}

// op returns the operation that runs the command on a client.
func (c Config) op(rdb redis.UniversalClient, names []string) op {
	value := strings.Repeat("x", c.Size)
	switch c.Command {
	case "set":
		return func(ctx context.Context, n int) error { return rdb.Set(ctx, names[n%keys], value, keyTTL).Err() }
	case "incr":
		return func(ctx context.Context, n int) error { return rdb.Incr(ctx, names[n%keys]).Err() }
	case "ping":
		return func(ctx context.Context, _ int) error { return rdb.Ping(ctx).Err() }
	}
	return func(ctx context.Context, n int) error {
		got, err := rdb.Get(ctx, names[n%keys]).Result()
		if err == nil && got != value {
			err = errors.New("a wrong value came back")
		}
		return err
	}
}

func (c Config) fill(ctx context.Context, t *target.Target, names []string) error {
	value := strings.Repeat("x", c.Size)
	if c.Command == "incr" {
		value = "0"
	}
	if c.Command == "ping" {
		return nil
	}
	for _, name := range names {
		if err := t.Set(ctx, name, value, keyTTL).Err(); err != nil {
			return err
		}
	}
	return nil
}

// tidy deletes the keys, also when ctx has ended. Keys that it cannot delete expire.
func (c Config) tidy(ctx context.Context, t *target.Target, names []string) {
	if c.Command == "ping" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, _ = t.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, name := range names {
			p.Del(ctx, name)
		}
		return nil
	})
}

func (c Config) line(callers int, rs []round) Line {
	side := func(of func(round) sample) Side {
		at := func(f func(sample) float64) float64 {
			return estimate(rs, func(r round) float64 { return f(of(r)) }).Median
		}
		return Side{at(sample.perSecond), time.Duration(at(func(s sample) float64 { return float64(s.p50) })), time.Duration(at(func(s sample) float64 { return float64(s.p99) }))}
	}
	l := Line{Callers: callers, Rounds: len(rs),
		Bare: side(func(r round) sample { return r.bare }), Managed: side(func(r round) sample { return r.managed }),
		Throughput: estimate(rs, func(r round) float64 { return r.managed.perSecond() / r.bare.perSecond() }),
		Control:    estimate(rs, func(r round) float64 { return r.control.perSecond() / r.bare.perSecond() }),
		P99:        estimate(rs, func(r round) float64 { return float64(r.managed.p99) / float64(max(r.bare.p99, 1)) })}
	for _, r := range rs {
		l.Commands += r.bare.ops + r.managed.ops + r.control.ops + r.adaptive.ops
	}
	if c.Adaptive {
		a := side(func(r round) sample { return r.adaptive })
		ratio := estimate(rs, func(r round) float64 { return r.adaptive.perSecond() / r.bare.perSecond() })
		l.Adaptive, l.AdaptiveThroughput = &a, &ratio
	}
	return l
}

// Header describes what is measured.
func (r Result) Header(c Config, style show.Style) string {
	what := strings.ToUpper(r.Command)
	if r.Command == "get" || r.Command == "set" {
		what += " of " + show.Bytes(int64(r.Size))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s", what, r.Server)
	if r.RoundTrip > 0 {
		fmt.Fprintf(&b, ", round trip %s", show.Short(r.RoundTrip))
	}
	fmt.Fprintf(&b, "; PoolSize %d, %s.\n", r.PoolSize, errtext.Count(r.Processors, "processor"))
	fmt.Fprintf(&b, "%s of %d x %s for each line, each round in a drawn order.\n\n", errtext.Count(c.Rounds, "round"), c.subjects(), show.Short(r.Slice))
	line := fmt.Sprintf("%7s  %9s  %9s  %15s  %15s  %8s  %8s  %15s", "CALLERS", "BARE/s", "MANAGED/s", "MANAGED / BARE", "BARE / BARE", "BARE p99", "MAN. p99", "MAN. / BARE p99")
	if c.Adaptive {
		line += fmt.Sprintf("  %10s  %15s", "ADAPTIVE/s", "ADAPTIVE / BARE")
	}
	b.WriteString(style.Bold(line))
	return b.String()
}

func (l Line) String() string {
	s := fmt.Sprintf("%7d  %9.0f  %9.0f  %15s  %15s  %8s  %8s  %15s", l.Callers, l.Bare.PerSecond, l.Managed.PerSecond, l.Throughput, l.Control,
		show.Short(l.Bare.P99), show.Short(l.Managed.P99), l.P99)
	if l.Adaptive != nil {
		s += fmt.Sprintf("  %10.0f  %15s", l.Adaptive.PerSecond, *l.AdaptiveThroughput)
	}
	return s
}

// Footer explains how to read the result.
func (r Result) Footer(c Config) string {
	var b strings.Builder
	if n := c.share(); n > 0 && n < 200 {
		fmt.Fprintf(&b, "\n--count leaves %s for each client in each round: too few to say much.\n", errtext.Count(n, "command"))
	}
	b.WriteString("\nMedians over the rounds of the ratio within each, ± two standard errors. BARE / BARE are two bare\nclients: what differs between them is noise, and so is a difference that is not larger.\n")
	for _, l := range r.Lines {
		off := l.Throughput.Median - 1
		noise := max(l.Throughput.TwoSE, l.Control.TwoSE, abs(l.Control.Median-1))
		word := "no difference that is larger than the noise"
		if abs(off) > noise {
			word = fmt.Sprintf("%+.1f %% throughput", off*100)
		}
		fmt.Fprintf(&b, "With %s: %s.\n", errtext.Count(l.Callers, "caller"), word)
	}
	if r.Early {
		b.WriteString("Ended early as asked.\n")
	}
	return b.String()
}

func abs(x float64) float64 { return max(x, -x) }
