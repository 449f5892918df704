package retry_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// faults makes a proxy lose the replies to requests that contain a word.
type faults struct {
	proxy *redistest.Proxy

	mu    sync.Mutex
	word  []byte
	left  int          // how many are still to be lost
	doom  map[int]bool // connections whose next reply is lost
	seen  int          // requests with the word
	lose  redistest.Action
	early bool // cut the request instead
}

func newFaults(t testing.TB, target string) *faults {
	f := &faults{proxy: redistest.NewProxy(t, target), doom: map[int]bool{}}
	f.proxy.OnRequest(func(n int, b []byte) redistest.Action {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.word) == 0 || !bytes.Contains(bytes.ToLower(b), f.word) {
			return redistest.Forward
		}
		f.seen++
		if f.left == 0 {
			return redistest.Forward
		}
		f.left--
		if f.early {
			return f.lose
		}
		f.doom[n] = true
		return redistest.Forward
	})
	f.proxy.OnReply(func(n int, b []byte) redistest.Action {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !f.doom[n] {
			return redistest.Forward
		}
		delete(f.doom, n)
		return f.lose
	})
	return f
}

// reply loses the next n replies to requests with word, by the given action.
func (f *faults) reply(word string, n int, a redistest.Action) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.word, f.left, f.lose, f.early, f.seen = []byte("\r\n"+word+"\r\n"), n, a, false, 0
}

// request loses the next n requests with word.
func (f *faults) request(word string, n int, a redistest.Action) {
	f.reply(word, n, a)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.early = true
}

// sent is how many requests with the word there were.
func (f *faults) sent() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen
}

// bare are options for a client whose go-redis repeats nothing by itself.
func bare(s *redistest.Server, addr string) *redis.Options {
	opt := s.Options()
	opt.Addr = addr
	opt.MaxRetries = -1
	opt.DialerRetries = 1
	opt.DialTimeout = time.Second
	opt.ReadTimeout = 500 * time.Millisecond
	opt.PoolSize = 8
	return opt
}

// quick is the default policy, without limits that a test does not ask for.
func quick() retry.Policy {
	p := retry.Default()
	p.Backoff = retry.FullJitter(time.Millisecond, 20*time.Millisecond)
	p.Budget = retry.NewBudget(-1, 0)
	return p
}

func attach(t testing.TB, opt *redis.Options, p retry.Policy, opts ...retry.Option) (*redis.Client, *retry.Hook) {
	t.Helper()
	rdb := redis.NewClient(opt)
	t.Cleanup(func() { rdb.Close() })
	h, err := retry.Attach(rdb, p, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return rdb, h
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// tracked is what a connection does that keeps go-redis from repeating by
// itself: while a reply is outstanding its errors cannot be recognised, and an
// error before anything was written says so.
type tracked struct {
	net.Conn
	mu          sync.Mutex
	outstanding bool
}

type opaque struct{ real error }

func (e *opaque) Error() string { return "opaque: " + e.real.Error() }
func (e *opaque) Real() error   { return e.real }

func (c *tracked) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.mu.Lock()
	c.outstanding = c.outstanding || n > 0
	c.mu.Unlock()
	return n, err
}

func (c *tracked) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.outstanding = false
	} else if c.outstanding && !(errors.Is(err, os.ErrDeadlineExceeded) && n > 0) {
		err = &opaque{err}
	}
	return n, err
}

func trackedDialer(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &tracked{Conn: c}, nil
}
