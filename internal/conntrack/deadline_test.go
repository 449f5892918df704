package conntrack_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/conntrack"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// stamped notes the deadlines that reach the connection below the tracked one.
type stamped struct {
	net.Conn
	read, write []time.Time
}

func (s *stamped) SetReadDeadline(t time.Time) error {
	s.read = append(s.read, t)
	return s.Conn.SetReadDeadline(t)
}

func (s *stamped) SetWriteDeadline(t time.Time) error {
	s.write = append(s.write, t)
	return s.Conn.SetWriteDeadline(t)
}

// stamping makes the Dialer of opt note deadlines.
func stamping(opt *redis.Options) *stamped {
	below := &stamped{}
	dial := redis.NewDialer(&redis.Options{DialTimeout: soon})
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		below.Conn = c
		return below, err
	}
	return below
}

func TestADeadlineThatIsHardlyLaterThanTheOneInForceIsNotPassedOn(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	below := stamping(opt)
	clock := time.Now()
	newRig(t, opt, conntrack.Config{Now: func() time.Time { return clock }})
	nc, err := opt.Dialer(bg, "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	base := time.Now().Round(0).Add(time.Hour)
	buf := make([]byte, 100)
	for _, x := range []struct {
		name string
		at   time.Time
		wait time.Duration // since the last one
		want bool
	}{
		{"the first", base, 0, true},
		{"the same", base, 0, false},
		{"a millisecond later", base.Add(time.Millisecond), time.Millisecond, false},
		{"five milliseconds later", base.Add(5 * time.Millisecond), 4 * time.Millisecond, true},
		{"an earlier one", base.Add(4 * time.Millisecond), 0, true},
		{"one that is hardly later, long afterwards", base.Add(5 * time.Millisecond), time.Second, true},
		{"none", time.Time{}, 0, true},
		{"none again", time.Time{}, 0, false},
		{"one again", base, 0, true},
		{"a short one", time.Now().Round(0).Add(2 * time.Second), 0, true},
		{"one after that of more than 1/1024 of it", time.Now().Round(0).Add(2*time.Second + 500*time.Millisecond), 0, true},
		{"one in the year 3000", time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC), 0, true},
	} {
		clock = clock.Add(x.wait)
		below.read, below.write = nil, nil
		if err := nc.SetWriteDeadline(x.at); err != nil {
			t.Fatal(err)
		}
		if len(below.write) > 0 {
			t.Errorf("%s: a write deadline was passed on before the write", x.name)
		}
		if _, err := nc.Write([]byte("*1\r\n$4\r\nPING\r\n")); err != nil {
			t.Fatal(err)
		}
		if err := nc.SetReadDeadline(x.at); err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Read(buf); err != nil {
			t.Fatal(err)
		}
		for _, got := range [][]time.Time{below.write, below.read} {
			if passed := len(got) == 1; passed != x.want {
				t.Errorf("%s: passed on %d times, want %v", x.name, len(got), x.want)
			} else if passed && !got[0].Equal(x.at) && x.at.Year() < 3000 {
				t.Errorf("%s: %v was passed on, want %v", x.name, got[0], x.at)
			} else if passed && x.at.Year() >= 3000 && got[0].Before(base) {
				t.Errorf("%s became one in the past, %v", x.name, got[0])
			}
		}
	}
}

func TestAVisitSetsNoDeadlineBelow(t *testing.T) {
	s := redistest.Start(t)
	opt := s.Options()
	below := stamping(opt)
	r := newRig(t, opt, conntrack.Config{})
	r.fill(t, 1)
	below.read, below.write = nil, nil
	if met, removed, err := r.visit(hooks.PoolMain); met == nil || removed || err != nil {
		t.Fatal(met, removed, err)
	}
	if len(below.read)+len(below.write) > 0 {
		t.Errorf("a visit that sends nothing set %d read and %d write deadlines", len(below.read), len(below.write))
	}
}
