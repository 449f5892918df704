package bench_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

const roomy = 128 << 10

// depth measures how much stack one call takes, down to the network.
type depth struct{ top, max atomic.Uintptr }

func (d *depth) mark() {
	n := d.top.Load() - here()
	for was := d.max.Load(); n > was && n < roomy; was = d.max.Load() { // otherwise it is another goroutine's
		if d.max.CompareAndSwap(was, n) {
			return
		}
	}
}

//go:noinline
func here() uintptr {
	var x byte
	return uintptr(unsafe.Pointer(&x))
}

// grow makes the stack large, so that it does not move while a call is measured.
//
//go:noinline
func grow(i int) byte {
	var room [roomy]byte
	fill(room[:])
	return room[i]
}

//go:noinline
func fill(b []byte) {
	for i := range b {
		b[i] = byte(i)
	}
}

func (d *depth) of(f func() error) (uintptr, error) {
	done := make(chan error)
	go func() {
		grow(len(done))
		d.top.Store(here())
		d.max.Store(0)
		done <- f()
	}()
	err := <-done
	return d.max.Load(), err
}

// deepConn is a connection that knows how deep the stack is.
type deepConn struct {
	net.Conn
	*depth
}

func (c deepConn) Read(b []byte) (int, error) {
	c.mark()
	return c.Conn.Read(b)
}

func (c deepConn) Write(b []byte) (int, error) {
	c.mark()
	return c.Conn.Write(b)
}

// A goroutine starts with a small stack, and one that is full is copied to one twice as large: a
// goroutine per request pays for each call that is deeper.
func TestACallTakesLittleMoreStackThanABareOne(t *testing.T) {
	s := redistest.Start(t)
	ctx := context.Background()
	var d depth
	options := func() *redis.Options {
		return &redis.Options{Addr: s.Addr(), Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			return deepConn{c, &d}, err
		}}
	}
	bare, man := redis.NewClient(options()), managed.NewClient(options())
	defer bare.Close()
	defer man.Close()
	if err := bare.Set(ctx, "stack", strings.Repeat("x", 64), 0).Err(); err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for _, way := range []string{"get", "pipeline", "lease"} {
		c := calls(ctx, "stack")[way]
		measured := map[string]uintptr{}
		for name, f := range map[string]func() error{"bare": c.bare(bare), "managed": c.managed(man)} {
			if err := f(); err != nil { // opens the connection
				t.Fatal(err)
			}
			n, err := d.of(f)
			if err != nil {
				t.Fatal(err)
			}
			measured[name] = n
		}
		fmt.Fprintf(&table, "| %s | %d | %d |\n", c.name, measured["bare"], measured["managed"])
		// With the race detector; about two thirds without it.
		if more := int(measured["managed"]) - int(measured["bare"]); more > map[string]int{"get": 1100, "pipeline": 2300, "lease": 800}[way] {
			t.Errorf("%s takes %d bytes of stack more than with a bare client", c.name, more)
		}
	}
	t.Log("\n| bytes of stack | bare | managed |\n|---|---|---|\n" + table.String())
}
