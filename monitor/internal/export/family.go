package export

import (
	"maps"
	"slices"
	"time"

	"github.com/lifeguard-redis/lifeguard/monitor"
)

// Kind says how the value of a metric changes.
type Kind int

const (
	Gauge     Kind = iota + 1 // goes up and down; a sum over nodes has no meaning
	UpDown                    // goes up and down; values of several nodes can be added
	Counter                   // only goes up
	Histogram                 // counts durations
)

// Family is a metric with all its label values. It is immutable.
type Family struct {
	Prom   string // its name in Prometheus
	Otel   string // its name in OpenTelemetry
	Unit   string // in OpenTelemetry's notation; "s" means a time in seconds
	Kind   Kind
	Help   string
	Node   bool     // there is one value per node
	Labels []string // names of its other labels

	fields []string // fields of Numbers from which it is computed
	unless string   // a field: if it is known, its histogram has the same information
	// whole: it may belong to no node, as retries do. Its zero is then shown also without a node:
	// if a counter appears with its first value, the increase is not seen.
	whole bool
	read  func(n *monitor.Numbers, put func(v float64, labels ...string))
	dist  func(n *monitor.Numbers) monitor.Distribution
}

// Families returns all metrics, in the order in which they are documented. They must not be
// modified.
func Families() []*Family { return slices.Clone(families) }

var families = slices.Concat(connectionFamilies, usageFamilies, trafficFamilies, durationFamilies, clientFamilies)

var connectionFamilies = []*Family{
	{Prom: "redis_client_connections", Otel: "db.client.connection.count", Unit: "{connection}", Kind: UpDown, Node: true, Labels: []string{"pool", "state"},
		Help:   "Open connections by pool (main, pipeline, pubsub) and state (idle, in_use, subscribed); all together are what the server's CLIENT LIST shows.",
		fields: []string{"open", "main", "pipeline", "subscribed"},
		read: func(n *monitor.Numbers, put func(float64, ...string)) {
			eachPool(n, func(name string, p monitor.Pool) {
				put(float64(p.Idle), name, "idle")
				put(float64(p.InUse), name, "in_use")
			})
			put(float64(n.Subscribed), "pubsub", "subscribed")
		}},
	{Prom: "redis_client_connections_limit", Otel: "db.client.connection.max", Unit: "{connection}", Kind: UpDown, Node: true, Labels: []string{"pool"},
		Help:   "Connections of the pool that callers can use at once.",
		fields: []string{"main", "pipeline"},
		read: func(n *monitor.Numbers, put func(float64, ...string)) {
			eachPool(n, func(name string, p monitor.Pool) {
				if p.Size > 0 {
					put(float64(p.Size), name)
				}
			})
		}},
	{Prom: "redis_client_connections_idle_max", Otel: "db.client.connection.idle.max", Unit: "{connection}", Kind: UpDown, Node: true, Labels: []string{"pool"},
		Help:   "Idle connections of the pool beyond which one is closed.",
		fields: []string{"main", "pipeline"},
		read: func(n *monitor.Numbers, put func(float64, ...string)) {
			eachPool(n, func(name string, p monitor.Pool) {
				if p.MaxIdle > 0 {
					put(float64(p.MaxIdle), name)
				}
			})
		}},
	{Prom: "redis_client_connections_idle_min", Otel: "db.client.connection.idle.min", Unit: "{connection}", Kind: UpDown, Node: true, Labels: []string{"pool"},
		Help:   "Idle connections of the pool that are kept ready.",
		fields: []string{"main", "pipeline"},
		read: func(n *monitor.Numbers, put func(float64, ...string)) {
			eachPool(n, func(name string, p monitor.Pool) {
				if p.MaxIdle > 0 {
					put(float64(p.MinIdle), name)
				}
			})
		}},
	{Prom: "redis_client_waiting_callers", Otel: "db.client.connection.pending_requests", Unit: "{request}", Kind: UpDown, Node: true, Labels: []string{"pool"},
		Help:   "Callers that wait for a connection, or for it to be dialed.",
		fields: []string{"main", "pipeline"},
		read: func(n *monitor.Numbers, put func(float64, ...string)) {
			eachPool(n, func(name string, p monitor.Pool) { put(float64(p.Waiting), name) })
		}},
	{Prom: "redis_client_connections_opened_total", Otel: "lifeguard.connection.opened", Unit: "{connection}", Kind: Counter, Node: true,
		Help: "Connections opened.", fields: []string{"dialed"}, read: number(func(n *monitor.Numbers) uint64 { return n.Dialed })},
	{Prom: "redis_client_connections_closed_total", Otel: "lifeguard.connection.closed", Unit: "{connection}", Kind: Counter, Node: true, Labels: []string{"reason"},
		Help: "Connections closed, by reason; a reason is there once it has occurred.", fields: []string{"closed"},
		read: byReason(func(n *monitor.Numbers) map[string]uint64 { return n.Closed })},
	{Prom: "redis_client_dials_in_progress", Otel: "lifeguard.dial.active", Unit: "{dial}", Kind: UpDown, Node: true,
		Help: "Dials under way.", fields: []string{"dialing"}, read: gauge(func(n *monitor.Numbers) int { return n.Dialing })},
	{Prom: "redis_client_dial_errors_total", Otel: "lifeguard.dial.errors", Unit: "{error}", Kind: Counter, Node: true,
		Help: "Dials that failed.", fields: []string{"dial_errors"}, read: number(func(n *monitor.Numbers) uint64 { return n.DialErrors })},
	{Prom: "redis_client_health_changes_total", Otel: "lifeguard.node.health_changes", Unit: "{change}", Kind: Counter, Node: true, Labels: []string{"to"},
		Help:   "Changes of a node's health, by the state entered (healthy, degraded, unreachable, refusing, recovering); a state is there once it was entered.",
		fields: []string{"health_changes"}, read: byReason(func(n *monitor.Numbers) map[string]uint64 { return n.HealthChanges })},
	{Prom: "redis_client_server_max_clients", Otel: "lifeguard.server.max_clients", Unit: "{client}", Kind: Gauge, Node: true,
		Help: "The server's maxclients.", fields: []string{"max_clients"}, read: ifKnown(func(n *monitor.Numbers) int { return n.MaxClients })},
	{Prom: "redis_client_server_clients", Otel: "lifeguard.server.clients", Unit: "{client}", Kind: Gauge, Node: true,
		Help: "Clients that the server has, everybody's.", fields: []string{"server_clients"}, read: ifKnown(func(n *monitor.Numbers) int { return n.ServerClients })},
}

var usageFamilies = []*Family{
	{Prom: "redis_client_pool_requests_total", Otel: "lifeguard.pool.requests", Unit: "{request}", Kind: Counter, Node: true, Labels: []string{"result"},
		Help: "Connections that were wanted, by result: hit (an idle one was there), miss (none was idle).", fields: []string{"hits", "misses"},
		read: func(n *monitor.Numbers, put func(float64, ...string)) {
			put(float64(n.Hits), "hit")
			put(float64(n.Misses), "miss")
		}},
	{Prom: "redis_client_waits_total", Otel: "lifeguard.pool.waits", Unit: "{wait}", Kind: Counter, Node: true,
		Help: "Connections that had to be waited for, of a client whose waits are not timed; else see the histogram of waits.", fields: []string{"waits"}, unless: "wait",
		read: number(func(n *monitor.Numbers) uint64 { return n.Waits })},
	{Prom: "redis_client_wait_duration_seconds_total", Otel: "lifeguard.pool.wait_time", Unit: "s", Kind: Counter, Node: true,
		Help: "Time of all waits together, of a client whose waits are not timed; else see the histogram of waits.", fields: []string{"wait_time_ns"}, unless: "wait",
		read: func(n *monitor.Numbers, put func(float64, ...string)) { put(n.WaitTime.Seconds()) }},
	{Prom: "redis_client_pool_timeouts_total", Otel: "db.client.connection.timeouts", Unit: "{timeout}", Kind: Counter, Node: true, Labels: []string{"reason"},
		Help: "Waits that got no connection, by reason: timeout (PoolTimeout passed), ctx (the caller's ctx ended before).", fields: []string{"pool_timeouts", "pool_timeouts_ctx"},
		read: func(n *monitor.Numbers, put func(float64, ...string)) {
			put(float64(n.PoolTimeouts-min(n.PoolTimeouts, n.PoolTimeoutsCtx)), "timeout")
			put(float64(n.PoolTimeoutsCtx), "ctx")
		}},
	{Prom: "redis_client_peak_connections_in_use", Otel: "lifeguard.connection.in_use.peak", Unit: "{connection}", Kind: Gauge, Node: true,
		Help: "Most connections in use at once in the last minutes, short spikes included.", fields: []string{"peak_in_use"},
		read: gauge(func(n *monitor.Numbers) int { return n.PeakInUse })},
	{Prom: "redis_client_peak_demand", Otel: "lifeguard.connection.demand.peak", Unit: "{request}", Kind: Gauge, Node: true,
		Help: "Most callers that had or wanted a connection at once in the last minutes, short spikes included.", fields: []string{"peak_demand"},
		read: gauge(func(n *monitor.Numbers) int { return n.PeakDemand })},
	{Prom: "redis_client_leases", Otel: "lifeguard.lease.count", Unit: "{lease}", Kind: UpDown, Node: true,
		Help: "Connections that callers hold by Acquire.", fields: []string{"leases"}, read: gauge(func(n *monitor.Numbers) int { return n.Leases })},
	{Prom: "redis_client_leases_overdue", Otel: "lifeguard.lease.overdue", Unit: "{lease}", Kind: UpDown, Node: true,
		Help: "Of these, held for longer than the leak threshold.", fields: []string{"leases_overdue"}, read: gauge(func(n *monitor.Numbers) int { return n.LeasesOverdue })},
	{Prom: "redis_client_instances", Otel: "lifeguard.fleet.instances", Unit: "{instance}", Kind: UpDown, Node: true, Labels: []string{"instance_state"},
		Help: "Instances of a fleet, by state (alive, lost).", fields: []string{"instances", "instances_lost"},
		read: func(n *monitor.Numbers, put func(float64, ...string)) {
			if n.Instances+n.InstancesLost > 0 { // otherwise it is not a fleet
				put(float64(n.Instances), "alive")
				put(float64(n.InstancesLost), "lost")
			}
		}},
	{Prom: "redis_client_lease_leaks_total", Otel: "lifeguard.lease.leaks", Unit: "{lease}", Kind: Counter, Node: true,
		Help: "Leases held for too long, or dropped without Release.", fields: []string{"leaks"}, read: number(func(n *monitor.Numbers) uint64 { return n.Leaks })},
}

var trafficFamilies = []*Family{
	{Prom: "redis_client_retries_total", Otel: "lifeguard.retry.count", Unit: "{retry}", Kind: Counter, Node: true, whole: true, Labels: []string{"reason"},
		Help: "Commands sent again, by reason; a reason is there once it has occurred.", fields: []string{"retries"},
		read: byReason(func(n *monitor.Numbers) map[string]uint64 { return n.Retries })},
	{Prom: "redis_client_retry_budget_refusals_total", Otel: "lifeguard.retry.budget_refusals", Unit: "{retry}", Kind: Counter, Node: true, whole: true,
		Help: "Retries that the budget did not allow.", fields: []string{"budget_refusals"}, read: number(func(n *monitor.Numbers) uint64 { return n.BudgetRefusals })},
	{Prom: "redis_client_unknown_outcomes_total", Otel: "lifeguard.command.unknown_outcomes", Unit: "{command}", Kind: Counter, Node: true, whole: true,
		Help: "Commands of which nobody knows whether they were executed.", fields: []string{"unknown_outcomes"},
		read: number(func(n *monitor.Numbers) uint64 { return n.UnknownOutcomes })},
	{Prom: "redis_client_breakers_open", Otel: "lifeguard.breaker.open", Unit: "{breaker}", Kind: UpDown, Node: true, whole: true,
		Help: "Circuit breakers that let nothing through.", fields: []string{"breakers_open"}, read: gauge(func(n *monitor.Numbers) int { return n.BreakersOpen })},
	{Prom: "redis_client_breaker_transitions_total", Otel: "lifeguard.breaker.transitions", Unit: "{transition}", Kind: Counter, Node: true, whole: true, Labels: []string{"to"},
		Help: "Changes of circuit breakers to open and to closed.", fields: []string{"breaker_opened", "breaker_closed"},
		read: func(n *monitor.Numbers, put func(float64, ...string)) {
			put(float64(n.BreakerOpened), "open")
			put(float64(n.BreakerClosed), "closed")
		}},
	{Prom: "redis_client_breaker_refusals_total", Otel: "lifeguard.breaker.refusals", Unit: "{call}", Kind: Counter, Node: true, whole: true,
		Help: "Calls that an open circuit breaker did not let through.", fields: []string{"breaker_refusals"},
		read: number(func(n *monitor.Numbers) uint64 { return n.BreakerRefusals })},
}

var durationFamilies = []*Family{
	{Prom: "redis_client_dial_duration_seconds", Otel: "db.client.connection.create_time", Unit: "s", Kind: Histogram, Node: true,
		Help: "How long dials took, failed ones as well.", fields: []string{"dial"}, dist: func(n *monitor.Numbers) monitor.Distribution { return n.Dial }},
	{Prom: "redis_client_acquire_wait_duration_seconds", Otel: "db.client.connection.wait_time", Unit: "s", Kind: Histogram, Node: true,
		Help: "How long a connection was waited for, by those that got none as well.", fields: []string{"wait"}, dist: func(n *monitor.Numbers) monitor.Distribution { return n.Wait }},
	{Prom: "redis_client_lease_hold_duration_seconds", Otel: "db.client.connection.use_time", Unit: "s", Kind: Histogram, Node: true,
		Help: "How long leases were held.", fields: []string{"hold"}, dist: func(n *monitor.Numbers) monitor.Distribution { return n.Hold }},
	{Prom: "redis_client_command_duration_seconds", Otel: "db.client.operation.duration", Unit: "s", Kind: Histogram, Node: true,
		Help:   "How long commands and pipelines took, failed ones and waits as well.",
		fields: []string{"command"}, dist: func(n *monitor.Numbers) monitor.Distribution { return n.Command }},
}

var (
	suggested = &Family{Prom: "redis_client_suggested_pool_size", Otel: "lifeguard.pool.size.suggested", Unit: "{connection}", Kind: Gauge, Node: true,
		Help: "Advice for the size of the main pool, from what was seen; of a cluster, at the node that needs the most."}
	alerts = &Family{Prom: "redis_client_alerts_active", Otel: "lifeguard.alert.count", Unit: "{alert}", Kind: UpDown, Labels: []string{"level"},
		Help: "Alerts of the monitor that are not over, by level (warning, critical)."}
	alert = &Family{Prom: "redis_client_alert_active", Otel: "lifeguard.alert.active", Unit: "{alert}", Kind: Gauge, Node: true, Labels: []string{"alert", "level", "metric"},
		Help: "1 for each alert of the monitor that is not over."}
	gaps = &Family{Prom: "redis_client_monitor_gaps", Otel: "lifeguard.monitor.gaps", Unit: "{gap}", Kind: Gauge,
		Help: "Things the monitor could not find out; what is not known is left out."}

	clientFamilies = []*Family{suggested, alerts, alert, gaps}
)

func eachPool(n *monitor.Numbers, fn func(name string, p monitor.Pool)) {
	for _, p := range []struct {
		name string
		monitor.Pool
	}{{"main", n.Main}, {"pipeline", n.Pipeline}} {
		if p.Pool != (monitor.Pool{}) { // otherwise there is no such pool
			fn(p.name, p.Pool)
		}
	}
}

func gauge(get func(*monitor.Numbers) int) func(*monitor.Numbers, func(float64, ...string)) {
	return func(n *monitor.Numbers, put func(float64, ...string)) { put(float64(get(n))) }
}

// ifKnown is for gauges whose zero means unknown.
func ifKnown(get func(*monitor.Numbers) int) func(*monitor.Numbers, func(float64, ...string)) {
	return func(n *monitor.Numbers, put func(float64, ...string)) {
		if v := get(n); v > 0 {
			put(float64(v))
		}
	}
}

func number(get func(*monitor.Numbers) uint64) func(*monitor.Numbers, func(float64, ...string)) {
	return func(n *monitor.Numbers, put func(float64, ...string)) { put(float64(get(n))) }
}

func byReason(get func(*monitor.Numbers) map[string]uint64) func(*monitor.Numbers, func(float64, ...string)) {
	return func(n *monitor.Numbers, put func(float64, ...string)) {
		m := get(n)
		for _, reason := range slices.Sorted(maps.Keys(m)) {
			put(float64(m[reason]), reason)
		}
	}
}

const us, ms = time.Microsecond, time.Millisecond

var (
	latencies = []time.Duration{100 * us, 250 * us, 500 * us, ms, 2500 * us, 5 * ms, 10 * ms, 25 * ms, 50 * ms, 100 * ms, 250 * ms, 500 * ms,
		time.Second, 2500 * ms, 5 * time.Second, 10 * time.Second}
	holds = []time.Duration{ms, 5 * ms, 25 * ms, 100 * ms, 500 * ms, time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second,
		time.Minute, 5 * time.Minute}
)

// Buckets returns the default upper limits of the buckets of a Histogram. They must not be
// modified.
func (f *Family) Buckets() []time.Duration {
	if f.Prom == "redis_client_lease_hold_duration_seconds" {
		return holds
	}
	return latencies
}
