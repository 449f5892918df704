package managed_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// exampleURL is where the examples find a server; TestExamples sets it, and
// without it they show their code only.
var exampleURL string

// The examples run here rather than by an Output comment, since they need a
// server, which may be absent.
func TestExamples(t *testing.T) {
	exampleURL = "redis://" + redistest.Start(t).Addr()
	defer func() { exampleURL = "" }()
	for name, x := range map[string]struct {
		run  func()
		want string
	}{
		"NewClient":    {ExampleNewClient, "world\n"},
		"New":          {ExampleNew, "lifeguard/managed: Options.PoolSize: -1: must be at least 0\n"},
		"Open":         {ExampleOpen, "PONG\n"},
		"Shared":       {ExampleShared, "one pool: true\n"},
		"Acquire":      {ExampleClient_Acquire, "1 lease held\n0 leases held\n"},
		"TryAcquire":   {ExampleClient_TryAcquire, "the pool is full: 1 of 1 in use\n"},
		"AcquireFunc":  {ExampleClient_AcquireFunc, "2\n"},
		"Leases":       {ExampleClient_Leases, "import has sent set\n"},
		"Conns":        {ExampleClient_Conns, "main idle get\n"},
		"Discard":      {ExampleConn_Discard, "0 connections open\n"},
		"EventHandler": {ExampleWithEventHandler, "dialed\nacquired\nreleased\nclosed shutdown\n"},
		"Logger":       {ExampleWithLogger, "ok\n"},
		"SelfDeadlock": {ExampleConn_Context, "self-deadlock found: true\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := output(t, x.run); got != x.want {
				t.Errorf("the example prints %q, want %q", got, x.want)
			}
		})
	}
}

// output is what f prints.
func output(t *testing.T, f func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	func() {
		defer func() { os.Stdout = stdout; w.Close() }()
		f()
	}()
	buf := make([]byte, 1<<16)
	n, _ := r.Read(buf)
	r.Close()
	return string(buf[:n])
}

func options() *redis.Options {
	opt, err := redis.ParseURL(exampleURL)
	if err != nil {
		panic(err)
	}
	return opt
}

// Replace redis.NewClient; everything else stays as it is.
func ExampleNewClient() {
	ctx := context.Background()
	rdb := managed.NewClient(options())
	defer rdb.Close()

	rdb.Set(ctx, "hello", "world", time.Minute)
	fmt.Println(rdb.Get(ctx, "hello").Val())
}

// Options that make no sense are an error that names them.
func ExampleNew() {
	_, err := managed.New(&redis.Options{Addr: "localhost:6379", PoolSize: -1})
	fmt.Println(err)
}

// Open connects at once, so that a wrong address or password shows here.
func ExampleOpen() {
	ctx := context.Background()
	rdb, err := managed.Open(ctx, exampleURL, managed.WithAcquireTimeout(time.Second))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rdb.Close()
	fmt.Println(rdb.Ping(ctx).Val())
}

// Packages that do not know of each other share one pool.
func ExampleShared() {
	a, _ := managed.Shared(exampleURL)
	defer a.Close()
	b, _ := managed.Shared(exampleURL)
	defer b.Close() // the last Close closes the client

	a.Ping(context.Background())
	b.Ping(context.Background())
	fmt.Println("one pool:", len(a.Conns()) == 1)
}

// A lease is one connection for one caller.
func ExampleClient_Acquire() {
	ctx := context.Background()
	rdb := managed.NewClient(options())
	defer rdb.Close()

	transfer := func() error {
		conn, err := rdb.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		fmt.Println(len(rdb.Leases()), "lease held")
		return conn.Set(ctx, "k", "v", 0).Err()
	}
	if err := transfer(); err != nil {
		fmt.Println(err)
	}
	fmt.Println(len(rdb.Leases()), "leases held")
}

// TryAcquire never waits. The error says who holds the connections.
func ExampleClient_TryAcquire() {
	ctx := context.Background()
	opt := options()
	opt.PoolSize = 1
	rdb := managed.NewClient(opt)
	defer rdb.Close()

	conn, _ := rdb.Acquire(managed.WithLabel(ctx, "nightly report"))
	defer conn.Release()
	_, err := rdb.TryAcquire(ctx)
	var full *managed.ExhaustedError
	if errors.As(err, &full) { // errors.Is(err, redis.ErrPoolTimeout) holds, too
		fmt.Printf("the pool is full: %d of %d in use\n", full.InUse, full.PoolSize)
	}
}

// AcquireFunc releases on every way out.
func ExampleClient_AcquireFunc() {
	ctx := context.Background()
	rdb := managed.NewClient(options())
	defer rdb.Close()

	err := rdb.AcquireFunc(ctx, func(conn *managed.Conn) error {
		conn.Del(ctx, "queue")
		n, err := conn.RPush(ctx, "queue", "a", "b").Result()
		fmt.Println(n)
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
}

// Leases shows who holds what.
func ExampleClient_Leases() {
	ctx := context.Background()
	rdb := managed.NewClient(options())
	defer rdb.Close()

	conn, _ := rdb.Acquire(managed.WithLabel(ctx, "import"))
	defer conn.Release()
	conn.Set(ctx, "k", "v", 0)
	for _, l := range rdb.Leases() {
		fmt.Println(l.Label, "has sent", l.Conn.LastCommand)
	}
}

// Conns describes every open connection.
func ExampleClient_Conns() {
	rdb := managed.NewClient(options(), managed.WithHeartbeat(0))
	defer rdb.Close()

	rdb.Get(context.Background(), "k")
	for _, c := range rdb.Conns() {
		fmt.Println(c.Pool, c.State, c.LastCommand)
	}
}

// A connection that is not to be used by others is discarded.
func ExampleConn_Discard() {
	ctx := context.Background()
	rdb := managed.NewClient(options())
	defer rdb.Close()

	conn, _ := rdb.Acquire(ctx)
	conn.Ping(ctx)
	conn.Discard()
	fmt.Println(len(rdb.Conns()), "connections open")
}

// An Acquire that could only wait for its own caller fails at once, if it is
// given the ctx of the lease.
func ExampleConn_Context() {
	opt := options()
	opt.PoolSize = 1
	rdb := managed.NewClient(opt)
	defer rdb.Close()

	err := rdb.AcquireFunc(context.Background(), func(conn *managed.Conn) error {
		return rdb.AcquireFunc(conn.Context(), func(*managed.Conn) error { return nil })
	})
	fmt.Println("self-deadlock found:", errors.Is(err, managed.ErrSelfDeadlock))
}

// An event handler is called for every connection and lease.
func ExampleWithEventHandler() {
	ctx := context.Background()
	done := make(chan struct{})
	rdb := managed.NewClient(options(), managed.WithHeartbeat(0), managed.WithEventHandler(func(e hooks.Event) {
		if e.Kind == hooks.Closed {
			fmt.Println(e.Kind, e.Reason)
			close(done)
			return
		}
		fmt.Println(e.Kind)
	}))
	conn, _ := rdb.Acquire(ctx)
	conn.Release()
	rdb.Close()
	<-done
}

// Leaks and other trouble go to a logger of one's own.
func ExampleWithLogger() {
	rdb := managed.NewClient(options(), managed.WithLogger(slog.New(slog.DiscardHandler)),
		managed.WithLeakThreshold(10*time.Second))
	defer rdb.Close()
	if rdb.Ping(context.Background()).Err() == nil {
		fmt.Println("ok")
	}
}
