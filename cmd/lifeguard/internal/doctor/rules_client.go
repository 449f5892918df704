package doctor

import (
	"fmt"
	"math"
	"time"

	"github.com/lifeguard-redis/lifeguard/cmd/lifeguard/internal/show"
	"github.com/lifeguard-redis/lifeguard/internal/errtext"
	"github.com/lifeguard-redis/lifeguard/monitor/server"
)

// goTime formats a duration as Go code.
func goTime(d time.Duration) string {
	for _, u := range []struct {
		d    time.Duration
		name string
	}{{time.Hour, "time.Hour"}, {time.Minute, "time.Minute"}, {time.Second, "time.Second"}, {time.Millisecond, "time.Millisecond"}} {
		if d >= u.d && d%u.d == 0 {
			if d == u.d {
				return u.name
			}
			return fmt.Sprintf("%d * %s", d/u.d, u.name)
		}
	}
	return fmt.Sprintf("%d * time.Microsecond", d/time.Microsecond)
}

// bothRules check a node together with the clients' configuration.
func bothRules(s server.Sample, rtt RoundTrip, e Effective) []Finding {
	return rules(s, rtt, e, idleAgainstTimeout, poolsAgainstMaxClients)
}

// timeRules compare the configuration with the round trip, for a cluster with the slowest.
func timeRules(rtt RoundTrip, e Effective) []Finding {
	return rules(server.Sample{}, rtt, e, readTimeout, carries)
}

func rules(s server.Sample, rtt RoundTrip, e Effective, all ...func(server.Sample, RoundTrip, Effective) (Finding, bool)) []Finding {
	var out []Finding
	for _, rule := range all {
		if f, ok := rule(s, rtt, e); ok {
			out = append(out, f)
		}
	}
	return out
}

func idleAgainstTimeout(s server.Sample, _ RoundTrip, e Effective) (Finding, bool) {
	timeout, known := s.Timeout.Get()
	if !known {
		return Finding{}, false
	}
	f := Finding{ID: "timeout"}
	ours := "ConnMaxIdleTime " + idleTime(e.MaxIdle)
	switch {
	case timeout == 0:
		f.What = "timeout is 0: the server closes no idle connections"
	case e.Managed && e.Heartbeat < 0:
		f.What = fmt.Sprintf("timeout is %s, and the managed client sends a heartbeat every %s", show.Seconds(timeout), show.Seconds(timeout*3/4))
	case e.Managed && e.Heartbeat > 0 && e.Heartbeat < timeout:
		f.What = fmt.Sprintf("timeout is %s, and the heartbeat is %s", show.Seconds(timeout), show.Seconds(e.Heartbeat))
	case e.Managed:
		f.Severity = Warning
		f.What = fmt.Sprintf("the server closes connections that are idle for %s (timeout), and the heartbeat is %s", show.Seconds(timeout), idleTime(e.Heartbeat))
		f.Why = "the server closes idle connections; each costs a caller a new connection, or an error if its command is in flight at that moment"
		f.Change = "managed.WithHeartbeat(-1)   (automatic, which is the default)"
	case e.MaxIdle == 0 || e.MaxIdle >= timeout:
		f.Severity = Warning
		f.What = fmt.Sprintf("the server closes connections that are idle for %s (timeout), the client keeps them for longer (%s)", show.Seconds(timeout), ours)
		f.Why = "a command that is sent while the server closes the connection gets EOF, and nobody knows whether it was executed. The client has to close first"
		shorter := max(timeout*3/4, time.Second)
		f.Change = or(goLine("ConnMaxIdleTime", goTime(shorter.Truncate(time.Second)), "conn_max_idle_time="+shorter.Truncate(time.Second).String()),
			"managed.NewClient(opt)   (its heartbeat keeps idle connections open)", serverLine("timeout", 0))
	default:
		f.What = fmt.Sprintf("timeout is %s, and the client closes idle connections before that (%s)", show.Seconds(timeout), ours)
	}
	return f, true
}

func idleTime(d time.Duration) string {
	if d == 0 {
		return "none"
	}
	return show.Seconds(d)
}

func poolsAgainstMaxClients(s server.Sample, rtt RoundTrip, e Effective) (Finding, bool) {
	limit, known := s.MaxClients.Get()
	if !known || limit == 0 {
		return Finding{}, false
	}
	wanted, _, _ := needed(rtt, e)
	size := fmt.Sprintf("PoolSize %d", e.PoolSize)
	if wanted > e.PoolSize && e.ConnLimit == 0 { // else following the advice about PoolSize would exceed maxclients
		size = fmt.Sprintf("PoolSize %d, which is needed", wanted)
		e.PerInstance += wanted - e.PoolSize
		e.PoolSize = wanted
	}
	need := int64(e.Instances) * int64(e.PerInstance)
	sum := fmt.Sprintf("%s x %s (%s + PipelinePoolSize %d", errtext.Count(e.Instances, "instance"), errtext.Count(e.PerInstance, "connection"), size, e.PipelinePoolSize)
	if e.BlockingPool > 0 {
		sum += fmt.Sprintf(" + blocking pool %d", e.BlockingPool)
	}
	if e.ConnLimit > 0 {
		sum += fmt.Sprintf(", at most %d by WithConnLimit", e.ConnLimit)
	}
	f := Finding{ID: "maxclients", What: fmt.Sprintf("%s) = %d, of %d that the server takes (maxclients)", sum, need, limit)}
	share := 8 // maximum share of maxclients, in tenths
	if need*10 <= limit*8 {
		share = 5
	}
	f.Change = or(fitting(int(limit)*share/10/e.Instances, wanted, e), serverLine("maxclients", roundUp(need*10/int64(share))))
	switch {
	case need > limit:
		f.Severity = Critical
		f.Why = "when all pools are full, which is when there is trouble, new connections get \"max number of clients reached\", those of your own tools included. Subscriptions come on top"
	case need*10 > limit*8:
		f.Severity = Warning
		f.Why = "that is above 80 %: subscriptions, replicas and tools come on top"
	case need*2 > limit:
		f.Severity = Note
		f.Why = "there is no room for twice as many: during a rolling update, old and new instances are connected at once"
	default:
		f.Why, f.Change = "", ""
	}
	return f, true
}

// fitting returns smaller sizes for all pools of a process that fit into room connections together:
// in the same proportions, or with a smaller pipeline pool, down to none, if PoolSize has to be
// wanted. It returns "" if there are none, or if they are not smaller.
func fitting(room, wanted int, e Effective) string {
	all := e.PoolSize + e.PipelinePoolSize + e.BlockingPool
	if room < 1 || room >= all {
		return ""
	}
	if e.ConnLimit > 0 {
		return fmt.Sprintf("managed.WithConnLimit(%d)", room)
	}
	pipeline, blocking := room*e.PipelinePoolSize/all, room*e.BlockingPool/all
	if e.BlockingPool > 0 && blocking == 0 && room > 1 {
		blocking = 1
	}
	if e.PipelinePoolSize > 0 && pipeline == 0 && room-blocking > 1 {
		pipeline = 1
	}
	if lacks := wanted - (room - pipeline - blocking); lacks > 0 {
		pipeline = max(pipeline-lacks, 0) // without a pool of their own, pipelines use the main one
	}
	main := room - pipeline - blocking
	if main < 1 || wanted > main {
		return ""
	}
	options, url := fmt.Sprintf("PoolSize: %d", main), fmt.Sprintf("pool_size=%d", main)
	if e.PipelinePoolSize > 0 {
		if pipeline == 0 {
			pipeline = -1 // 0 is go-redis's default
		}
		options += fmt.Sprintf(", PipelinePoolSize: %d", pipeline)
		url += fmt.Sprintf("&pipeline_pool_size=%d", pipeline)
	}
	line := fmt.Sprintf("redis.Options{%s}", options)
	switch {
	case e.BlockingPool > 0 && blocking == 0:
		line += " without managed.WithBlockingPool"
	case e.BlockingPool > 0:
		line += fmt.Sprintf(" and managed.WithBlockingPool(%d)", blocking)
	}
	return line + "   (in a URL: " + url + ")"
}

func roundUp(n int64) int64 {
	step := int64(1)
	for step*100 <= n {
		step *= 10
	}
	return (n + step - 1) / step * step
}

func readTimeout(_ server.Sample, rtt RoundTrip, e Effective) (Finding, bool) {
	f := Finding{ID: "read-timeout"}
	switch {
	case e.ReadTimeout == 0:
		f.Severity = Warning
		f.What = "there is no ReadTimeout"
		f.Why = "when a host disappears silently, commands wait until the operating system gives up, after 15 minutes or more"
		f.Change = goLine("ReadTimeout", "3 * time.Second", "read_timeout=3s")
	case rtt.Count > 0 && e.ReadTimeout < 5*rtt.P99:
		f.Severity = Warning
		f.What = fmt.Sprintf("ReadTimeout %s is short: an idle server takes %s (99 %% of %d PINGs)", show.Short(e.ReadTimeout), show.Short(rtt.P99), rtt.Count)
		f.Why = "a reply that is a little late costs the connection and a new one, TLS included, just when the server is busy"
		d := max(10*rtt.P99.Round(10*time.Millisecond), 100*time.Millisecond)
		f.Change = goLine("ReadTimeout", goTime(d), "read_timeout="+d.String())
	case e.PoolTimeout < e.ReadTimeout:
		f.Severity, f.ID = Note, "pool-timeout"
		f.What = fmt.Sprintf("PoolTimeout %s is shorter than ReadTimeout %s", show.Short(e.PoolTimeout), show.Short(e.ReadTimeout))
		f.Why = "while the server is slow, callers get a pool timeout, which hides the reason"
		f.Change = goLine("PoolTimeout", goTime(e.ReadTimeout+time.Second), "pool_timeout="+(e.ReadTimeout+time.Second).String())
	default:
		f.What = fmt.Sprintf("ReadTimeout %s is long enough", show.Short(e.ReadTimeout))
		if rtt.Count > 0 {
			f.What += " for a round trip of " + show.Short(rtt.Median)
		}
	}
	return f, true
}

// near is the round trip up to which a connection waits for processors more than for the network.
const near = time.Millisecond

// needed returns how many connections a process needs, and why; 0 if unknown: it is computed from
// callers, or their rate, and the round trip. atLeast means that more may be needed: near the
// server only the rate shows how many callers wait at once.
func needed(rtt RoundTrip, e Effective) (n int, why string, atLeast bool) {
	if rtt.Count == 0 {
		return 0, "", false
	}
	switch {
	case e.Concurrency == 0:
	case rtt.Median > near && e.Rate == 0:
		n = e.Concurrency
		why = fmt.Sprintf("at a round trip of %s each of %s may wait for the network; with --rate doctor computes the size", show.Short(rtt.Median), errtext.Count(n, "caller"))
	default:
		n = rule(e.Concurrency, e.Processors)
		atLeast = e.Rate == 0 && n < e.Concurrency
		why = fmt.Sprintf("at a round trip of %s the CPU is the bound, and the floor min(callers, 2 x processors + 1) is %d for %s and %s", show.Short(rtt.Median), n, errtext.Count(e.Concurrency, "caller"), errtext.Count(e.Processors, "processor"))
	}
	if e.Rate > 0 {
		little := max(int(math.Ceil(e.Rate*rtt.Median.Seconds()*1.25)), 1)
		text := fmt.Sprintf("%.0f commands a second at %s each keep %.2g connections busy (Little's law), with a quarter for spikes %d", e.Rate, show.Short(rtt.Median),
			e.Rate*rtt.Median.Seconds(), little)
		if why != "" {
			why += "; "
		}
		why += text
		n = max(n, little)
	}
	return n, why, atLeast
}

// serverBound is how many commands a second about one server carries: pools that could carry more
// are not the bound.
const serverBound = 100_000

const poolSize = "pool-size"

// carries compares PoolSize with the rule and the measured round trip.
func carries(_ server.Sample, rtt RoundTrip, e Effective) (Finding, bool) {
	f := Finding{ID: poolSize, What: fmt.Sprintf("PoolSize %d", e.PoolSize)}
	if !e.PoolSizeIsGiven {
		f.What += fmt.Sprintf(" (go-redis's default, 10 for each of %s)", errtext.Count(e.Processors, "processor"))
	}
	capacity := ""
	if rtt.Count > 0 && float64(e.PoolSize)/rtt.Median.Seconds() < serverBound {
		capacity = fmt.Sprintf("at a round trip of %s, the limit of %s is %.0f commands a second", show.Short(rtt.Median), errtext.Count(e.PoolSize, "connection"), math.Floor(float64(e.PoolSize)/rtt.Median.Seconds()/100)*100)
	}
	n, why, atLeast := needed(rtt, e)
	change := func(n int) string {
		return goLine("PoolSize", n, fmt.Sprintf("pool_size=%d", n))
	}
	join := func(a, b string) string {
		if a == "" || b == "" {
			return a + b
		}
		return a + "; " + b
	}
	switch {
	case e.MinIdleConns > e.PoolSize:
		f.Severity = Warning
		f.What = fmt.Sprintf("MinIdleConns %d is above PoolSize %d", e.MinIdleConns, e.PoolSize)
		f.Why = "there can never be so many idle connections"
		f.Change = goLine("MinIdleConns", e.PoolSize, fmt.Sprintf("min_idle_conns=%d", e.PoolSize))
	case n > e.PoolSize && atLeast:
		f.Severity = Warning
		f.What += fmt.Sprintf(" is too small, at least %d are needed", n)
		f.Why = why + ": with fewer, callers wait for each other, and time out in the pool"
		f.Change = fmt.Sprintf("--rate N: from the commands a second of each process doctor computes the size, %d or more", n)
	case n > e.PoolSize:
		f.Severity = Warning
		f.What += fmt.Sprintf(" is too small, %d are needed", n)
		f.Why = why + ": with fewer, callers wait for each other, and time out in the pool"
		f.Change = change(n)
	case n == 0:
		f.What += " is not judged"
		f.What += ": that takes the callers (--concurrency, or --monitor with the page of a running program) and the round trip"
		if capacity != "" {
			f.What += "; " + capacity
		}
	case atLeast && e.PoolSize > 2*e.Concurrency && e.PoolSize > 2*rule(math.MaxInt, e.Processors):
		f.Severity = Note
		f.What += fmt.Sprintf(" is more than %s can use", errtext.Count(e.Concurrency, "caller"))
		f.Why = "each extra connection costs the server memory and counts against maxclients, in each instance"
		f.Change = change(e.Concurrency)
	case atLeast:
		f.What += fmt.Sprintf(" is not judged: between %d and %d fit; with --rate doctor computes the size", n, e.Concurrency)
		f.What = join(f.What, capacity)
	case e.PoolSize > 2*max(n, rule(math.MaxInt, e.Processors)) && e.Concurrency > 0:
		f.Severity = Note
		f.What += fmt.Sprintf(" is more than the %d that are needed", n)
		f.Why = join(why, "each extra connection costs the server memory and counts against maxclients, in each instance")
		f.Change = change(n)
	default:
		f.What += " fits"
		if why = join(why, capacity); why != "" {
			f.What += ": " + why
		}
	}
	return f, true
}

// clientRules check the configuration alone.
func clientRules(e Effective) []Finding {
	var out []Finding
	add := func(f Finding) { out = append(out, f) }
	age := Finding{ID: "max-age"}
	switch {
	case e.MaxAge == 0:
		if age.Severity = Warning; e.Managed {
			age.Severity = Note // the client itself detects that a node is no longer the master
		}
		age.What = "connections have no maximum age"
		age.Why = "old connections stay with their host after a failover, a DNS change, a scaled-out proxy or a changed password"
		if age.Change = goLine("ConnMaxLifetime", "time.Hour, ConnMaxLifetimeJitter: 6 * time.Minute", "conn_max_lifetime=1h&conn_max_lifetime_jitter=6m"); e.Managed {
			age.Change = "managed.WithMaxAge(time.Hour)"
		}
	case e.MaxAge < 30*time.Second:
		age.Severity = Note
		age.What = "connections live for " + show.Short(e.MaxAge) + " only"
		age.Why = "each connection closed costs a dial, with TLS and AUTH"
		age.Change = goLine("ConnMaxLifetime", "time.Hour", "conn_max_lifetime=1h")
	case !e.AgeJitter:
		age.Severity, age.ID = Note, "max-age-jitter"
		age.What = "connections that were opened together are closed together: ConnMaxLifetime " + show.Seconds(e.MaxAge) + " without ConnMaxLifetimeJitter"
		age.Why = "after a restart all instances dial again at the same moment, again and again"
		age.Change = goLine("ConnMaxLifetimeJitter", goTime((e.MaxAge / 10).Truncate(time.Second)), "conn_max_lifetime_jitter="+(e.MaxAge/10).Truncate(time.Second).String())
	default:
		age.What = "connections are closed at an age of " + show.Seconds(e.MaxAge) + ", spread out"
	}
	add(age)
	if !e.Managed {
		if e.MaxRetries > 0 {
			add(Finding{ID: "retries", Severity: Note, What: fmt.Sprintf("go-redis retries commands that may have been executed (MaxRetries %d)", e.MaxRetries),
				Why:    "an INCR or an RPUSH whose reply got lost is executed twice, without an error",
				Change: or("managed.NewClient(opt)   (retries only what is safe, and says where the outcome is unknown)", goLine("MaxRetries", -1, "max_retries=-1"))})
		}
		if !e.ContextTimeout {
			add(Finding{ID: "context-timeout", Severity: Note, What: "a deadline of a context does not bound the wait for a reply",
				Why:    fmt.Sprintf("without ContextTimeoutEnabled a command waits for ReadTimeout (%s), however little time its caller has", show.Short(e.ReadTimeout)),
				Change: goLine("ContextTimeoutEnabled", true, "")})
		}
	}
	return out
}
