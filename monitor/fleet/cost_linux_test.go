package fleet_test

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
)

// BenchmarkPublish is what it costs an instance with ten connections to publish once: the
// processor's time, of this process and of the server together; the share of a core
// that 300 instances take which publish every 10 s; and the server's memory.
func BenchmarkPublish(b *testing.B) {
	s := redistest.Start(b)
	rdb, m := member(b, s.Options())
	var conns []*redis.Conn
	for range 10 {
		c := rdb.Conn()
		conns = append(conns, c)
		if err := c.Ping(bg).Err(); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range conns {
		_ = c.Close()
	}
	p := publishOf(b, m, rdb, fleet.WithInterval(time.Hour), fleet.WithLostAfter(3*time.Hour), fleet.WithRetention(4*time.Hour), fleet.WithClientNames("orders"))
	if err := p.Now(bg); err != nil {
		b.Fatal(err)
	}
	from := ours(b) + servers(b, s)
	for b.Loop() {
		if err := p.Now(bg); err != nil {
			b.Fatal(err)
		}
	}
	each := (ours(b) + servers(b, s) - from) / time.Duration(b.N)
	b.ReportMetric(float64(each.Microseconds()), "cpu-µs/word")
	b.ReportMetric(30*each.Seconds()*100, "%core/300")
	size, err := s.Admin().MemoryUsage(bg, keyOf(b, s, "*:instance:*"), 0).Result()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(size), "B/instance")
}

// ours is the processor's time of this process.
func ours(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// servers is the server's.
func servers(b *testing.B, s *redistest.Server) (sum time.Duration) {
	b.Helper()
	text, err := s.Admin().Info(bg, "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(text) {
		for _, name := range []string{"used_cpu_sys:", "used_cpu_user:"} {
			if v, found := strings.CutPrefix(line, name); found {
				f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
				if err != nil {
					b.Fatal(err)
				}
				sum += time.Duration(f * float64(time.Second))
			}
		}
	}
	return sum
}
