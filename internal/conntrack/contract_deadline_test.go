package conntrack_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
)

// conn.go takes the first SetReadDeadline after a write for that of the replies,
// and a second one for a look for push frames, after which no reply is owed.
func TestContractTheReadDeadlineIsSetOncePerCommandAndAfterItsWrites(t *testing.T) {
	s := redistest.Start(t)
	big := strings.Repeat("x", 300<<10) // several writes
	for _, protocol := range []int{2, 3} {
		for _, x := range []struct {
			name    string
			timeout time.Duration
			want    string
			n       int
		}{
			{"default", 0, "SetReadDeadline", 1},
			{"none (-1)", -1, "SetReadDeadline(zero)", 1},
			{"not touched (-2)", -2, "", 0},
		} {
			opt := s.Options()
			opt.Protocol = protocol
			opt.ReadTimeout = x.timeout
			opt.WriteTimeout = time.Second
			c, rs := bare(t, opt)
			conn := c.Conn()
			defer conn.Close()
			if err := conn.Ping(bg).Err(); err != nil {
				t.Fatal(err)
			}
			r := rs.list()[0]
			for _, cmd := range []struct {
				name string
				run  func() error
			}{
				{"a command", func() error { return conn.Set(bg, "k", "v", 0).Err() }},
				{"a large command", func() error { return conn.Set(bg, "k", big, 0).Err() }},
				{"a large reply", func() error { return conn.Get(bg, "k").Err() }},
				{"a pipeline", func() error {
					_, err := conn.Pipelined(bg, func(p redis.Pipeliner) error {
						for range 50 {
							p.Set(bg, "k", big[:20<<10], 0)
							p.Get(bg, "k")
						}
						return nil
					})
					return err
				}},
				{"a transaction", func() error {
					_, err := conn.TxPipelined(bg, func(p redis.Pipeliner) error {
						for range 20 {
							p.Get(bg, "k")
						}
						return nil
					})
					return err
				}},
			} {
				r.take()
				if err := cmd.run(); err != nil {
					t.Fatalf("%s: %v", cmd.name, err)
				}
				calls := r.take()
				checkOnce(t, protocol, x.name, cmd.name, calls, x.want, x.n)
			}

			// BLPOP 0 has no deadline at all.
			r.take()
			done := make(chan error, 1)
			go func() { done <- conn.BLPop(bg, 0, "list").Err() }()
			redistest.Eventually(t, "BLPOP waits", soon, func() bool {
				for _, i := range s.ClientList(t) {
					if strings.Contains(i.Flags, "b") {
						return true
					}
				}
				return false
			})
			s.Admin().RPush(bg, "list", "x")
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			want := "SetReadDeadline(zero)"
			checkOnce(t, protocol, x.name, "BLPOP 0", r.take(), want, 1)
		}
	}
}

// checkOnce looks at what happens between the last write and the last read of a
// command; a look for push frames before and after it may set deadlines too.
func checkOnce(t *testing.T, protocol int, timeout, cmd string, calls []call, want string, n int) {
	t.Helper()
	lastWrite, lastRead := -1, -1
	for i, c := range calls {
		switch c.name {
		case "Write":
			lastWrite = i
		case "Read":
			lastRead = i
		}
	}
	if lastWrite < 0 || lastRead < lastWrite {
		t.Fatalf("%s: writes and reads are mixed up: %v", cmd, names(calls))
	}
	sets := 0
	for _, c := range calls[lastWrite:lastRead] {
		if c.name == "SetReadDeadline" {
			sets++
			if c.String() != want {
				t.Errorf("RESP%d, ReadTimeout %s: go-redis calls %s for %s, want %s", protocol, timeout, c, cmd, want)
			}
		}
	}
	if sets != n {
		t.Errorf("RESP%d, ReadTimeout %s: go-redis sets the read deadline of %s %d times between its last write and its last read, want %d: conn.go would take an owed reply for none (or the reverse), and hide or show the wrong errors",
			protocol, timeout, cmd, sets, n)
	}
}
