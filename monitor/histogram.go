package monitor

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A Histogram has 8 buckets for every power of two, so the middle of a bucket is
// within 6.25 % of every value in it. Below 8 ns each value has a bucket.
const (
	subBits = 3
	subs    = 1 << subBits
	maxExp  = 46 // values from 2^47 ns (39 h) on are counted in the last bucket
	buckets = subs + (maxExp-subBits+1)*subs
)

// Histogram counts durations. The zero value is ready for use. Record takes no lock and allocates
// nothing; a quantile read from a Histogram is within 6.25 % of the true one, up to 39 hours. Its
// size is fixed (less than 3 KiB). It is safe for concurrent use and must not be copied.
type Histogram struct {
	max    atomic.Int64
	sum    atomic.Int64
	counts [buckets]atomic.Uint64
}

// Record counts d. A negative d, possible after a clock was set back, counts as 0.
func (h *Histogram) Record(d time.Duration) { h.RecordN(d, 1) }

// RecordN counts d n times, for n values of which only the mean is known.
func (h *Histogram) RecordN(d time.Duration, n uint32) {
	if n == 0 {
		return
	}
	v := max(int64(d), 0)
	// The maximum first: a reader who sees a value in its bucket also sees the maximum.
	for m := h.max.Load(); v > m && !h.max.CompareAndSwap(m, v); {
		m = h.max.Load()
	}
	h.sum.Add(v * int64(n))
	h.counts[bucketOf(v)].Add(uint64(n))
}

// Snapshot returns what has been counted so far. It may or may not include values that are recorded
// at the same time.
func (h *Histogram) Snapshot() Distribution {
	var all [buckets]uint64
	first, last := buckets, -1
	for i := range h.counts {
		if n := h.counts[i].Load(); n > 0 {
			all[i] = n
			first, last = min(first, i), i
		}
	}
	if last < 0 {
		return Distribution{}
	}
	counts := make([]uint64, last-first+1)
	copy(counts, all[first:])
	return newDistribution(first, counts, time.Duration(h.sum.Load()), time.Duration(h.max.Load()))
}

// bucketOf returns the bucket of v >= 0.
func bucketOf(v int64) int {
	if v < subs {
		return int(v)
	}
	e := bits.Len64(uint64(v)) - 1
	if e > maxExp {
		return buckets - 1
	}
	return subs + (e-subBits)*subs + int(v>>(e-subBits))&(subs-1)
}

// bounds returns the least value of a bucket and that of the next one.
func bounds(bucket int) (low, next int64) {
	if bucket < subs {
		return int64(bucket), int64(bucket) + 1
	}
	e := (bucket - subs) / subs
	low = int64(subs+(bucket-subs)%subs) << e
	return low, low + 1<<e
}

// middle returns the value that represents a bucket.
func middle(bucket int) time.Duration {
	low, next := bounds(bucket)
	return time.Duration(low + (next-low)/2)
}
