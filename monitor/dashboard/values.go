package dashboard

import (
	"math"
	"strconv"
	"time"

	"github.com/lifeguard-redis/lifeguard/monitor"
)

// The values of a point, for each node. The page gets the names, in this order, and then arrays.
const (
	vOpen = iota
	vIdle
	vInUse
	vWaiting
	vLeases
	vOverdue
	vSubscribed
	vUse
	vMainInUse
	vMainSize
	vMainWaiting
	vPipeInUse
	vPipeSize
	vPipeWaiting
	vPeak
	vBreakers
	vCommands
	vRefused
	vCommandP50
	vCommandP99
	vWaits
	vWaitP99
	vTimeouts
	vRetries
	vOutcomes
	vDialErrors
	vDialed
	vClosed
	vLeaks
	numValues
)

var valueNames = [numValues]string{
	"open", "idle", "inUse", "waiting", "leases", "overdue", "subscribed", // current values
	"use",                                  // of the fullest pool, in percent of its size: pointOf sets it
	"mainInUse", "mainSize", "mainWaiting", // in all: of all nodes together
	"pipeInUse", "pipeSize", "pipeWaiting",
	"peak", "breakers",
	"commands",                 // per second, as are all those without another unit
	"refused",                  // by an open breaker
	"commandP50", "commandP99", // ms
	"waits",
	"waitP99", // ms
	"timeouts", "retries", "outcomes", "dialErrors", "dialed", "closed",
	"leaks", // since the client was made
}

// values are the values of a point; NaN means unknown.
type values [numValues]float64

var unknown = math.NaN()

// fields are the fields from which the values are computed, by the names of [monitor.Fields].
var fields = [numValues]string{"open", "idle", "in_use", "waiting", "leases", "leases_overdue", "subscribed",
	"main", "main", "main", "main", "pipeline", "pipeline", "pipeline", "peak_in_use", "breakers_open",
	"command", "breaker_refusals", "command", "command", "waits", "wait", "pool_timeouts", "retries", "unknown_outcomes", "dial_errors", "dialed", "closed", "leaks"}

// mask says which values are known.
type mask [numValues]bool

// maskOf returns the mask of the whole client for an empty prefix, and of nodes for "nodes.".
func maskOf(s *monitor.Stats, prefix string) (m mask) {
	for i, f := range fields {
		m[i] = len(s.Unknown) == 0 || s.Known(prefix+f)
	}
	return m
}

// valuesOf makes a point from the current numbers and those of d before, limited to known values.
func valuesOf(now, before *monitor.Numbers, d time.Duration, known *mask) (v values) {
	return valuesSince(now, now, before, d, known)
}

// valuesOfPeriod makes a point from the current numbers and those of the Monitor's period.
func valuesOfPeriod(now, recent *monitor.Numbers, period time.Duration, known *mask) values {
	return valuesSince(now, recent, &monitor.Numbers{}, period, known)
}

// valuesSince makes a point from the gauges in gauges, and from the counts between before and now,
// over the duration d.
func valuesSince(gauges, now, before *monitor.Numbers, d time.Duration, known *mask) (v values) {
	for i := range v {
		v[i] = unknown
	}
	g := gauges
	v[vOpen], v[vIdle], v[vInUse], v[vWaiting] = float64(g.Open), float64(g.Idle), float64(g.InUse), float64(g.Waiting)
	v[vLeases], v[vOverdue], v[vSubscribed], v[vPeak] = float64(g.Leases), float64(g.LeasesOverdue), float64(g.Subscribed), float64(g.PeakInUse)
	v[vBreakers], v[vLeaks] = float64(g.BreakersOpen), float64(g.Leaks)
	if p := g.Main; p != (monitor.Pool{}) {
		v[vMainInUse], v[vMainSize], v[vMainWaiting] = float64(p.InUse), float64(p.Size), float64(p.Waiting)
	}
	if p := g.Pipeline; p != (monitor.Pool{}) {
		v[vPipeInUse], v[vPipeSize], v[vPipeWaiting] = float64(p.InUse), float64(p.Size), float64(p.Waiting)
	}
	if sec := d.Seconds(); sec > 0 {
		rate := func(n, b uint64) float64 {
			if n < b { // counting has restarted
				return unknown
			}
			return math.Round(float64(n-b)/sec*100) / 100
		}
		v[vCommands], v[vRefused] = rate(now.Command.Count, before.Command.Count), rate(now.BreakerRefusals, before.BreakerRefusals)
		v[vCommandP50], v[vCommandP99] = quantiles(now.Command, before.Command)
		if v[vRefused] > 0 { // a call that was refused took no server time
			if v[vCommands] = max(v[vCommands]-v[vRefused], 0); v[vCommands] == 0 {
				v[vCommandP50], v[vCommandP99] = unknown, unknown
			}
		}
		v[vWaits] = rate(now.Waits, before.Waits)
		_, v[vWaitP99] = quantiles(now.Wait, before.Wait)
		v[vTimeouts] = rate(now.PoolTimeouts, before.PoolTimeouts)
		v[vRetries] = rate(now.RetriesAll(), before.RetriesAll())
		v[vOutcomes] = rate(now.UnknownOutcomes, before.UnknownOutcomes)
		v[vDialErrors] = rate(now.DialErrors, before.DialErrors)
		v[vDialed] = rate(now.Dialed, before.Dialed)
		v[vClosed] = rate(now.ClosedAll(), before.ClosedAll())
	}
	for i := range v {
		if !known[i] {
			v[i] = unknown
		}
	}
	return v
}

func percent(share float64) float64 { return math.Round(share*1000) / 10 }

// quantiles returns the quantiles of the new values, in milliseconds; unknown if there are none.
func quantiles(now, before monitor.Distribution) (p50, p99 float64) {
	if now.Count <= before.Count {
		return unknown, unknown
	}
	d := now.Sub(before)
	ms := func(d time.Duration) float64 { return math.Round(d.Seconds()*1e6) / 1e3 }
	return ms(d.P50), ms(d.P99)
}

// appendTo writes an array; unknown values are null.
func (v *values) appendTo(b []byte) []byte {
	b = append(b, '[')
	for i, x := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendFloat(b, x, 64)
	}
	return append(b, ']')
}

func appendFloat(b []byte, x float64, bits int) []byte {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return append(b, "null"...)
	}
	return strconv.AppendFloat(b, x, 'f', -1, bits)
}
