package monitor_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lifeguard-redis/lifeguard/monitor"
)

func TestQuantilesAreWithin7PercentOfTheTruth(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for name, draw := range map[string]func() float64{
		"even":        func() float64 { return rng.Float64() * 1e9 },
		"exponential": func() float64 { return rng.ExpFloat64() * 3e5 },
		"long tail":   func() float64 { return math.Exp(rng.NormFloat64()*3 + 10) },
		"tiny":        func() float64 { return rng.Float64() * 40 },
	} {
		var h monitor.Histogram
		var all []time.Duration
		var sum time.Duration
		for range 20_000 {
			d := time.Duration(draw())
			h.Record(d)
			all, sum = append(all, d), sum+d
		}
		slices.Sort(all)
		d := h.Snapshot()
		if d.Count != 20_000 || d.Sum != sum || d.Max != all[len(all)-1] || d.Mean() != sum/20_000 {
			t.Errorf("%s: %v, sum %v", name, d, d.Sum)
		}
		for _, q := range []float64{0.01, 0.5, 0.9, 0.95, 0.99, 0.999} {
			want := all[int(math.Ceil(q*20_000))-1]
			if got := d.Quantile(q); math.Abs(float64(got-want)) > 0.07*float64(want)+1 {
				t.Errorf("%s: quantile %v is %v, want about %v", name, q, got, want)
			}
		}
		if d.P50 != d.Quantile(0.5) || d.P99 != d.Quantile(0.99) || d.Quantile(1) != d.Max || d.Quantile(math.NaN()) != d.Max {
			t.Errorf("%s: fields and Quantile disagree: %v", name, d)
		}
	}
}

func TestExtremeDurationsAreCounted(t *testing.T) {
	var h monitor.Histogram
	for _, d := range []time.Duration{-time.Second, 0, 1, math.MaxInt64 / 2} {
		h.Record(d)
	}
	if d := h.Snapshot(); d.Count != 4 || d.Max != math.MaxInt64/2 || d.Quantile(-1) != 0 || d.P50 != 0 {
		t.Errorf("%v", d)
	}
}

func TestSubtractingGivesWhatCameBetween(t *testing.T) {
	var h, want monitor.Histogram
	for i := range 1000 {
		h.Record(ms(i * 7))
	}
	first := h.Snapshot()
	if d := h.Snapshot().Sub(first); !reflect.DeepEqual(d, monitor.Distribution{}) {
		t.Errorf("nothing came: %v", d)
	}
	for i := range 100 {
		h.Record(ms(i + 3))
		want.Record(ms(i + 3))
	}
	d, w := h.Snapshot().Sub(first), want.Snapshot()
	if d.Count != w.Count || d.Sum != w.Sum || d.P50 != w.P50 || d.P95 != w.P95 {
		t.Errorf("got %v, want %v", d, w)
	}
	if e := math.Abs(float64(d.Max-w.Max)) / float64(w.Max); e > 0.0625 {
		t.Errorf("max %v, want about %v", d.Max, w.Max)
	}
	h.Record(time.Hour)
	if d := h.Snapshot().Sub(first); d.Max != time.Hour {
		t.Errorf("a new maximum is exact: %v", d.Max)
	}
	if d := w.Sub(first); !reflect.DeepEqual(d, w) {
		t.Errorf("a new histogram: %v", d)
	}
	var old, anew monitor.Histogram
	for _, n := range []int{3, 5, 5, 9} {
		old.Record(ms(n))
	}
	for _, n := range []int{3, 3, 3, 5, 9} {
		anew.Record(ms(n))
	}
	if d := anew.Snapshot(); !reflect.DeepEqual(d.Sub(old.Snapshot()), d) {
		t.Errorf("a new histogram with more values: %v", d.Sub(old.Snapshot()))
	}
}

func TestMergingIsLikeRecordingTogether(t *testing.T) {
	var a, b, both monitor.Histogram
	for i := range 500 {
		a.Record(ms(i))
		b.Record(time.Duration(i * i))
		both.Record(ms(i))
		both.Record(time.Duration(i * i))
	}
	if got, want := a.Snapshot().Merge(b.Snapshot()), both.Snapshot(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if d := a.Snapshot(); !reflect.DeepEqual(d.Merge(monitor.Distribution{}), d) || !reflect.DeepEqual((monitor.Distribution{}).Merge(d), d) {
		t.Error("merging with nothing changes it")
	}
}

func TestBucketsHaveAllValuesInOrder(t *testing.T) {
	var h monitor.Histogram
	for range 3 {
		h.Record(time.Second)
	}
	h.Record(time.Millisecond)
	var last time.Duration
	var n uint64
	for d, count := range h.Snapshot().Buckets() {
		if d <= last || d.Seconds() > 1.0625 || count != map[bool]uint64{true: 1, false: 3}[d < time.Second/2] {
			t.Errorf("%d of %v after %v", count, d, last)
		}
		last, n = d, n+count
	}
	if n != 4 {
		t.Errorf("%d values", n)
	}
	for range h.Snapshot().Buckets() {
		break
	}
}

func TestBelowCountsUpToTheLimitAndNeverFalls(t *testing.T) {
	var h monitor.Histogram
	for i := 1; i <= 100; i++ {
		h.Record(ms(i))
	}
	d, last := h.Snapshot(), uint64(0)
	for limit := ms(0); limit <= ms(200); limit += ms(1) {
		n := d.Below(limit)
		if n < last {
			t.Fatalf("Below(%v) falls from %d to %d", limit, last, n)
		}
		last = n
	}
	if n := d.Below(ms(50)); n < 44 || n > 57 {
		t.Errorf("Below(50 ms) = %d", n)
	}
	if d.Below(d.Max) != 100 || d.Below(0) != 0 {
		t.Errorf("%d, %d", d.Below(d.Max), d.Below(0))
	}
}

func TestNothingIsLostWhenManyRecordAtOnce(t *testing.T) {
	var h monitor.Histogram
	var p monitor.Peak
	var wg sync.WaitGroup
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		last := monitor.Distribution{}
		for {
			d := h.Snapshot()
			if d.Count < last.Count || d.Max < last.Max || d.P99 > d.Max {
				t.Errorf("%v after %v", d, last)
			}
			last = d
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	for i := range 8 {
		wg.Go(func() {
			for j := range 2000 {
				p.Enter()
				h.Record(time.Duration(i*j) * time.Microsecond)
				p.Leave()
			}
		})
	}
	wg.Wait()
	close(stop)
	<-done
	if d := h.Snapshot(); d.Count != 16000 || d.Max != 7*1999*time.Microsecond {
		t.Errorf("%v", d)
	}
	if n := p.Take(); p.Now() != 0 || n < 1 || n > 8 {
		t.Errorf("now %d, peak %d", p.Now(), n)
	}
}

func TestAShortSpikeIsInThePeakOnce(t *testing.T) {
	var p monitor.Peak
	for range 5 {
		p.Enter()
	}
	for range 4 {
		p.Leave()
	}
	if p.Now() != 1 || p.Take() != 5 || p.Take() != 1 {
		t.Error("want 1 now, a peak of 5, and then a peak of 1")
	}
}

func TestRecordingAllocatesNothing(t *testing.T) {
	var r monitor.Recorder
	if n := testing.AllocsPerRun(100, func() {
		r.Use.Enter()
		r.Command.Record(ms(3))
		r.Use.Leave()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzADistributionSurvivesJSON(f *testing.F) {
	var h monitor.Histogram
	for i := range 50 {
		h.Record(time.Duration(i * i * 1000))
	}
	good, _ := json.Marshal(h.Snapshot())
	f.Add(good)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"count":1,"max_ns":5,"first_bucket":5,"buckets":[1]}`))
	f.Add([]byte(`{"count":2,"max_ns":5,"first_bucket":-1,"buckets":[1,1]}`))
	f.Add([]byte(`{"count":0,"first_bucket":359,"buckets":[18446744073709551615,1]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var d, back monitor.Distribution
		if json.Unmarshal(b, &d) != nil {
			return
		}
		if d.P50 > d.P95 || d.P95 > d.P99 || d.P99 > d.Max || d.Mean() < 0 {
			t.Errorf("%q: %v", b, d)
		}
		out, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &back); err != nil || !reflect.DeepEqual(d, back) {
			t.Errorf("%s came back as %+v, %v", out, back, err)
		}
		_ = d.Merge(back).Sub(d)
	})
}

func TestADistributionThatCannotBeIsRefused(t *testing.T) {
	for _, bad := range []string{
		`{"count":1}`, `{"count":3,"max_ns":9,"first_bucket":5,"buckets":[1,1]}`, `{"count":1,"max_ns":1,"first_bucket":9999,"buckets":[1]}`,
		`{"count":1,"sum_ns":-1,"max_ns":9,"first_bucket":5,"buckets":[1]}`, `{"count":1,"max_ns":1,"first_bucket":50,"buckets":[1]}`, `[]`,
		`{"count":0,"max_ns":9,"first_bucket":5,"buckets":[18446744073709551615,1]}`, `{"count":1,"max_ns":5,"first_bucket":4,"buckets":[0,1]}`,
	} {
		var d monitor.Distribution
		if err := json.Unmarshal([]byte(bad), &d); err == nil {
			t.Errorf("%s was read as %v", bad, d)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	b.Run("alone", func(b *testing.B) {
		var h monitor.Histogram
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			h.Record(time.Duration(i&0xffff) * 100)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		var h monitor.Histogram
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				h.Record(time.Duration(i&0xffff) * 100)
			}
		})
	})
}

func BenchmarkPeak(b *testing.B) {
	var p monitor.Peak
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p.Enter()
			p.Leave()
		}
	})
}
