package monitor

import (
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"time"
)

// Distribution holds what a [Histogram] has counted up to one moment, or between two. The zero
// value is empty. It is immutable, and it is a value.
type Distribution struct {
	Count uint64
	Sum   time.Duration
	Max   time.Duration // exact since the start; within 6.25 % if it comes from Sub
	P50   time.Duration // half of the values are not longer
	P95   time.Duration
	P99   time.Duration

	first  int      // bucket of counts[0]
	counts []uint64 // never modified once set; neither end is 0
}

func newDistribution(first int, counts []uint64, sum, longest time.Duration) Distribution {
	for len(counts) > 0 && counts[0] == 0 {
		first, counts = first+1, counts[1:]
	}
	for len(counts) > 0 && counts[len(counts)-1] == 0 {
		counts = counts[:len(counts)-1]
	}
	if len(counts) == 0 {
		return Distribution{}
	}
	d := Distribution{Sum: max(sum, 0), Max: longest, first: first, counts: counts}
	for _, n := range counts {
		d.Count += n
	}
	d.P50, d.P95, d.P99 = d.Quantile(0.5), d.Quantile(0.95), d.Quantile(0.99)
	return d
}

// Quantile returns a duration that the share q of all values does not exceed, 0 if there are none.
// q below 0 counts as 0, above 1 as 1, NaN as 1.
func (d Distribution) Quantile(q float64) time.Duration {
	if d.Count == 0 {
		return 0
	}
	if !(q < 1) {
		return d.Max
	}
	rank := max(uint64(math.Ceil(max(q, 0)*float64(d.Count))), 1)
	var seen uint64
	for i, n := range d.counts {
		if seen += n; seen >= rank {
			return min(middle(d.first+i), d.Max)
		}
	}
	return d.Max
}

// Mean returns the mean, 0 if there are no values.
func (d Distribution) Mean() time.Duration {
	if d.Count == 0 {
		return 0
	}
	return time.Duration(float64(d.Sum) / float64(d.Count))
}

// Below returns how many values do not exceed limit. Values within 12.5 % of it may be counted on
// the wrong side. The result never falls when limit rises, which cumulative buckets of an exporter
// require.
func (d Distribution) Below(limit time.Duration) uint64 {
	var n uint64
	for i, c := range d.counts {
		if min(middle(d.first+i), d.Max) > limit {
			break
		}
		n += c
	}
	return n
}

// Buckets yields the number of values of about each duration, in ascending order. Each value is
// within 6.25 % of the duration yielded for it.
func (d Distribution) Buckets() iter.Seq2[time.Duration, uint64] {
	return func(yield func(time.Duration, uint64) bool) {
		for i, n := range d.counts {
			if n > 0 && !yield(min(middle(d.first+i), d.Max), n) {
				return
			}
		}
	}
}

// Merge returns the distribution of the values of both.
func (d Distribution) Merge(o Distribution) Distribution {
	switch {
	case d.Count == 0:
		return o
	case o.Count == 0:
		return d
	}
	first := min(d.first, o.first)
	counts := make([]uint64, max(d.first+len(d.counts), o.first+len(o.counts))-first)
	for i, n := range d.counts {
		counts[d.first-first+i] += n
	}
	for i, n := range o.counts {
		counts[o.first-first+i] += n
	}
	return newDistribution(first, counts, d.Sum+o.Sum, max(d.Max, o.Max))
}

// Sub returns the distribution of the values that were added after earlier, a snapshot of the same
// Histogram. If earlier has values that d does not have, the Histogram is a new one: then Sub
// returns d.
func (d Distribution) Sub(earlier Distribution) Distribution {
	if earlier.Count == 0 {
		return d
	}
	if d.Count < earlier.Count || earlier.first < d.first || earlier.first+len(earlier.counts) > d.first+len(d.counts) {
		return d
	}
	counts := make([]uint64, len(d.counts))
	copy(counts, d.counts)
	top := -1
	for i, n := range earlier.counts {
		c := &counts[earlier.first-d.first+i]
		if *c < n {
			return d
		}
		*c -= n
	}
	for i, n := range counts {
		if n > 0 {
			top = i
		}
	}
	if top < 0 {
		return Distribution{}
	}
	longest := d.Max
	if longest == earlier.Max { // then the maximum may be an earlier value
		longest = min(longest, middle(d.first+top))
	}
	return newDistribution(d.first, counts, d.Sum-earlier.Sum, longest)
}

// String returns a short line: "n=812 p50=1.2ms p95=4ms p99=9ms max=31ms".
func (d Distribution) String() string {
	if d.Count == 0 {
		return "none"
	}
	return fmt.Sprintf("n=%d p50=%v p95=%v p99=%v max=%v", d.Count, short(d.P50), short(d.P95), short(d.P99), short(d.Max))
}

// short rounds to three digits.
func short(d time.Duration) time.Duration {
	for unit := time.Duration(1); ; unit *= 10 {
		if d.Abs() < 1000*unit || unit > time.Second {
			return d.Round(unit)
		}
	}
}

// distributionJSON has durations in nanoseconds. The quantiles are for the reader; the counts are
// what is read back.
type distributionJSON struct {
	Count  uint64   `json:"count"`
	Sum    int64    `json:"sum_ns"`
	Max    int64    `json:"max_ns"`
	P50    int64    `json:"p50_ns"`
	P95    int64    `json:"p95_ns"`
	P99    int64    `json:"p99_ns"`
	First  int      `json:"first_bucket,omitempty"`
	Counts []uint64 `json:"buckets,omitempty"`
}

// MarshalJSON writes everything, so that the value can be merged and subtracted after it is read
// back. Durations are in nanoseconds.
func (d Distribution) MarshalJSON() ([]byte, error) {
	return json.Marshal(distributionJSON{Count: d.Count, Sum: int64(d.Sum), Max: int64(d.Max), P50: int64(d.P50),
		P95: int64(d.P95), P99: int64(d.P99), First: d.first, Counts: d.counts})
}

// UnmarshalJSON reads what MarshalJSON wrote. Anything else is an error; the quantiles are
// recomputed.
func (d *Distribution) UnmarshalJSON(b []byte) error {
	var j distributionJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("lifeguard/monitor: distribution: %w", err)
	}
	if err := j.validate(); err != nil {
		return fmt.Errorf("lifeguard/monitor: distribution: %w", err)
	}
	*d = newDistribution(j.First, j.Counts, time.Duration(j.Sum), time.Duration(j.Max))
	return nil
}

func (j *distributionJSON) validate() error {
	if len(j.Counts) == 0 {
		if j.Count != 0 || j.Sum != 0 || j.Max != 0 || j.First != 0 {
			return fmt.Errorf("it counts %d values but has no buckets", j.Count)
		}
		return nil
	}
	last := j.First + len(j.Counts) - 1
	if j.First < 0 || last >= buckets || last < j.First {
		return fmt.Errorf("buckets %d to %d: there are %d", j.First, last, buckets)
	}
	var n uint64
	for _, c := range j.Counts {
		if n+c < n {
			return fmt.Errorf("its buckets overflow")
		}
		n += c
	}
	if low, _ := bounds(last); n != j.Count || j.Counts[0] == 0 || j.Counts[len(j.Counts)-1] == 0 || j.Sum < 0 || j.Max < low {
		return fmt.Errorf("its buckets and its other numbers contradict each other")
	}
	return nil
}
