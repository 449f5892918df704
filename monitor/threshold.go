package monitor

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Level is the severity of an alert.
type Level int

const (
	Warning Level = iota + 1
	Critical
)

func (l Level) String() string {
	switch l {
	case Warning:
		return "warning"
	case Critical:
		return "critical"
	}
	return fmt.Sprintf("Level(%d)", int(l))
}

// MarshalText writes "warning" or "critical".
func (l Level) MarshalText() ([]byte, error) {
	if l != Warning && l != Critical {
		return nil, fmt.Errorf("lifeguard/monitor: there is no %v", l)
	}
	return []byte(l.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (l *Level) UnmarshalText(b []byte) error {
	for _, x := range []Level{Warning, Critical} {
		if string(b) == x.String() {
			*l = x
			return nil
		}
	}
	return fmt.Errorf("lifeguard/monitor: there is no level %q", b)
}

// Metric is the value that a Threshold watches.
type Metric string

const (
	// Evaluated for each node separately, because totals would hide a full one.

	PoolUse      Metric = "pool_use"      // share of the fullest pool that is in use, now: 0 to 1
	PoolPeak     Metric = "pool_peak"     // share of the pools' size that was in use at the peak since the last sample: 0 to 1
	Waiting      Metric = "waiting"       // callers that wait for a connection, now
	WaitP99      Metric = "wait_p99"      // 99 % of the waits for a connection since the last sample were not longer, in seconds
	CommandP99   Metric = "command_p99"   // the same of commands, in seconds
	HitRatio     Metric = "hit_ratio"     // share of connections that were wanted and found idle, since the last sample: 0 to 1; low is bad
	PoolTimeouts Metric = "pool_timeouts" // callers that got no connection, since the last sample
	DialFailures Metric = "dial_failures" // dials that failed, since the last sample
	MaxClients   Metric = "max_clients"   // share of the server's maxclients in use, by all clients if known, else by this client: 0 to 1

	LeasesOverdue Metric = "leases_overdue" // leases held for longer than the leak threshold, now
	BreakerOpen   Metric = "breaker_open"   // breakers that are open, now

	// Evaluated for the whole client.

	Churn           Metric = "churn"            // connections closed per second since the last sample
	UnknownOutcomes Metric = "unknown_outcomes" // commands with an unknown outcome, since the last sample
	InstancesLost   Metric = "instances_lost"   // of a fleet: instances that are lost, now
	Leaks           Metric = "leaks"            // leases found to be leaked, since the last sample: back to 0 in the next one, even if they are still held
)

// unit says how to write a value, and which values are valid.
type unit int

const (
	ratio unit = iota + 1
	count
	seconds
	perSecond
)

type metricInfo struct {
	unit    unit
	words   string
	one     string // for a count: the words for one
	perNode bool
	of      string                                                                     // the field it is computed from, as Stats.Known expects it
	value   func(now, recent *Numbers, interval time.Duration) (v float64, known bool) // nil: of PoolUse, which is about single pools
}

func counted(f func(*Numbers) uint64) func(now, recent *Numbers, _ time.Duration) (float64, bool) {
	return func(_, recent *Numbers, _ time.Duration) (float64, bool) { return float64(f(recent)), true }
}

var metrics = map[Metric]metricInfo{
	PoolUse: {ratio, "pool use", "", true, "in_use", nil},
	PoolPeak: {ratio, "peak pool use", "", true, "peak_in_use", func(now, _ *Numbers, _ time.Duration) (float64, bool) {
		size := now.Main.Size + now.Pipeline.Size
		return float64(now.PeakInUse) / float64(max(size, 1)), size > 0
	}},
	Waiting: {count, "waiting callers", "waiting caller", true, "waiting", func(now, _ *Numbers, _ time.Duration) (float64, bool) { return float64(now.Waiting), true }},
	WaitP99: {seconds, "p99 of waits for a connection", "", true, "wait", func(_, recent *Numbers, _ time.Duration) (float64, bool) {
		return recent.Wait.P99.Seconds(), recent.Wait.Count > 0 || recent.Waits == 0 // otherwise waits were not timed
	}},
	CommandP99: {seconds, "p99 of commands", "", true, "command", func(_, recent *Numbers, _ time.Duration) (float64, bool) {
		return recent.Command.P99.Seconds(), true
	}},
	HitRatio: {ratio, "hit ratio", "", true, "hits", func(_, recent *Numbers, _ time.Duration) (float64, bool) { return recent.HitRatio() }},
	MaxClients: {ratio, "share of the server's maxclients", "", true, "max_clients", func(now, _ *Numbers, _ time.Duration) (float64, bool) {
		return max(share(now), 0), now.MaxClients > 0
	}},
	PoolTimeouts:    {count, "pool timeouts", "pool timeout", true, "pool_timeouts", counted(func(n *Numbers) uint64 { return n.PoolTimeouts })},
	DialFailures:    {count, "failed dials", "failed dial", true, "dial_errors", counted(func(n *Numbers) uint64 { return n.DialErrors })},
	UnknownOutcomes: {count, "unknown outcomes", "unknown outcome", false, "unknown_outcomes", counted(func(n *Numbers) uint64 { return n.UnknownOutcomes })},
	InstancesLost: {count, "lost instances", "lost instance", false, "instances_lost", func(now, _ *Numbers, _ time.Duration) (float64, bool) {
		return float64(now.InstancesLost), now.Instances+now.InstancesLost > 0
	}},
	Leaks: {count, "leaked leases", "leaked lease", false, "leaks", counted(func(n *Numbers) uint64 { return n.Leaks })},
	Churn: {perSecond, "churn", "", false, "closed", func(_, recent *Numbers, interval time.Duration) (float64, bool) {
		return float64(recent.ClosedAll()) / max(interval.Seconds(), 1e-9), interval > 0
	}},
	LeasesOverdue: {count, "leases held past the leak threshold", "lease held past the leak threshold", true, "leases_overdue", func(now, _ *Numbers, _ time.Duration) (float64, bool) {
		return float64(now.LeasesOverdue), true
	}},
	BreakerOpen: {count, "open breakers", "open breaker", true, "breakers_open", func(now, _ *Numbers, _ time.Duration) (float64, bool) { return float64(now.BreakersOpen), true }},
}

// compute returns the value of a node, or of the whole client for "".
func (m *metricInfo) compute(s *Stats, node string, now, recent *Numbers) (v float64, known bool) {
	if m.value == nil {
		p, ok := s.FullestPool(node)
		return p.Use(), ok
	}
	return m.value(now, recent, s.Interval)
}

// describe writes a value with its metric: "main pool use is 90 %", "4 waiting callers".
func (m *metricInfo) describe(v float64, pool, instance string) string {
	words := m.words
	if pool != "" {
		words = pool + " " + words
	}
	if instance != "" {
		words += " of " + instance
	}
	switch {
	case m.unit == count && v == 1:
		return "1 " + m.one
	case m.unit == count:
		return m.unit.write(v) + " " + words
	}
	return words + " is " + m.unit.write(v)
}

// limit writes a limit, to follow a value: ", limit 80 %". A count that should be zero has none.
func (m *metricInfo) limit(v float64) string {
	if m.unit == count && v <= 1 {
		return ""
	}
	return ", limit " + m.unit.write(v)
}

// write writes a value with its unit.
func (u unit) write(v float64) string {
	switch u {
	case ratio:
		return fmt.Sprintf("%.3g %%", v*100)
	case seconds:
		return short(time.Duration(v * float64(time.Second))).String()
	case perSecond:
		return fmt.Sprintf("%.3g/s", v)
	}
	return fmt.Sprintf("%.6g", v)
}

// Threshold says when to raise an alert. It is an [Option] of [New], and starts the Monitor. One
// with the name of a default threshold replaces it.
//
//	monitor.Threshold{Metric: monitor.PoolUse, Limit: 0.7, For: time.Minute}
type Threshold struct {
	// Name must be unique. Default: metric and level, as in "pool_use_warning".
	Name string
	// Level is Warning (the default) or Critical.
	Level  Level
	Metric Metric
	// Limit is the lowest value that is past the limit; for HitRatio, the highest one. Its unit is
	// that of the Metric. Shares are above 0 and at most 1 (HitRatio: below 1); the others are
	// above 0.
	Limit float64
	// For is how long the value must have been past the limit, in every sample. Default 0: at
	// once. Negative is an error.
	For time.Duration
	// Samples is the number of consecutive samples in which the value must have been past the
	// limit, in addition to For. Default 0, which is the same as 1. Negative is an error.
	Samples int
	// Hysteresis is how far the value must recover for the alert to end, as a share of the limit:
	// with a limit of 0.8 and 0.1, below 0.72. For HitRatio it is a share of the distance from the
	// limit to 1. Default 0: 0.1. Negative: none, the limit itself. 1 and more is an error.
	Hysteresis float64
	// CoolDown is how long after its end the alert is not raised again. Default 0: one minute.
	// Negative: no cool-down.
	CoolDown time.Duration
}

const (
	// DefaultHysteresis is the Hysteresis of a Threshold that does not set it.
	DefaultHysteresis = 0.1
	// DefaultCoolDown is the CoolDown of a Threshold that does not set it.
	DefaultCoolDown = time.Minute
)

// DefaultThresholds returns the thresholds that a Monitor has unless [WithoutDefaults] is given:
// pool use (warning from 0.8, critical from 0.95 in 3 consecutive samples), overdue leases (warning
// from 1), dial failures (warning from 1, in 3 consecutive samples), open breakers (critical from
// 1).
func DefaultThresholds() []Threshold {
	return []Threshold{
		{Name: "pool_use_warning", Level: Warning, Metric: PoolUse, Limit: 0.8},
		{Name: "pool_use_critical", Level: Critical, Metric: PoolUse, Limit: 0.95, Samples: 3},
		{Name: "leases_overdue_warning", Level: Warning, Metric: LeasesOverdue, Limit: 1},
		{Name: "dial_failures_warning", Level: Warning, Metric: DialFailures, Limit: 1, Samples: 3},
		{Name: "breaker_open_critical", Level: Critical, Metric: BreakerOpen, Limit: 1},
	}
}

func (t Threshold) apply(s *settings) error {
	t.fill()
	if err := t.validate(); err != nil {
		return err
	}
	for _, o := range s.thresholds {
		if o.Name == t.Name {
			return fmt.Errorf("lifeguard/monitor: two thresholds have the name %q", t.Name)
		}
	}
	s.thresholds = append(s.thresholds, t)
	return nil
}

// fill sets the defaults, except for Hysteresis and CoolDown.
func (t *Threshold) fill() {
	if t.Level == 0 {
		t.Level = Warning
	}
	if t.Name == "" {
		t.Name = fmt.Sprintf("%s_%s", t.Metric, t.Level)
	}
}

func (t *Threshold) validate() error {
	bad := func(format string, a ...any) error {
		return fmt.Errorf("lifeguard/monitor: threshold %q: %w", t.Name, fmt.Errorf(format, a...))
	}
	m, ok := metrics[t.Metric]
	switch {
	case t.Metric == "":
		return fmt.Errorf("lifeguard/monitor: threshold: %w", errors.New("it has no Metric"))
	case !ok:
		return bad("there is no metric %q", t.Metric)
	case t.Level != Warning && t.Level != Critical:
		return bad("there is no %v", t.Level)
	case math.IsNaN(t.Limit), math.IsInf(t.Limit, 0), t.Limit <= 0:
		return bad("Limit is %v: it must be a number above 0", t.Limit)
	case m.unit == ratio && t.Limit > 1:
		return bad("Limit is %v: %s is a share, at most 1", t.Limit, m.words)
	case t.Metric == HitRatio && t.Limit == 1:
		return bad("Limit is 1: no hit ratio is better")
	case t.For < 0:
		return bad("For is %v: it must not be negative", t.For)
	case t.Samples < 0:
		return bad("Samples is %d: it must not be negative", t.Samples)
	case math.IsNaN(t.Hysteresis), t.Hysteresis >= 1:
		return bad("Hysteresis is %v: it must be below 1", t.Hysteresis)
	}
	return nil
}

// past reports whether a value is past the limit.
func (t *Threshold) past(v float64) bool {
	if t.Metric == HitRatio {
		return v <= t.Limit
	}
	return v >= t.Limit
}

// rounding keeps 0.72 from being less than 0.8 * 0.9.
const rounding = 1e-9

// back reports whether a value has recovered far enough for the alert to end.
func (t *Threshold) back(v float64) bool {
	h := t.Hysteresis
	switch {
	case h == 0:
		h = DefaultHysteresis
	case h < 0:
		return !t.past(v)
	}
	if t.Metric == HitRatio {
		return v > t.Limit+h*(1-t.Limit)
	}
	return v < t.Limit*(1-h)*(1-rounding)
}

func (t *Threshold) coolDown() time.Duration {
	if t.CoolDown == 0 {
		return DefaultCoolDown
	}
	return max(t.CoolDown, 0)
}
