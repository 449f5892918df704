package conntrack_test

import (
	"testing"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// BenchmarkVisit is the price of looking at one idle connection; "ping" has a
// real PING in it, for comparison.
func BenchmarkVisit(b *testing.B) {
	s := redistest.Start(b)
	for _, conns := range []int{1, 100} {
		opt := s.Options()
		opt.PoolSize = 100
		r := newRig(b, opt, conntrack.Config{})
		r.fill(b, conns)
		name := map[int]string{1: "1 connection", 100: "100 connections"}[conns]
		b.Run("keep/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := r.visit(hooks.PoolMain); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("ping/"+name, func(b *testing.B) {
			all := r.conns()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				all[i%len(all)].Validate()
				if _, _, err := r.visit(hooks.PoolMain); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Six allocations are what a visit may cost.
func TestAVisitAllocatesLittle(t *testing.T) {
	s := redistest.Start(t)
	r := newRig(t, s.Options(), conntrack.Config{})
	r.fill(t, 1)
	n := testing.AllocsPerRun(500, func() {
		if _, _, err := r.visit(hooks.PoolMain); err != nil {
			t.Fatal(err)
		}
	})
	if n > 6 {
		t.Errorf("a visit allocates %v times, want at most 6", n)
	}
}
