package managed_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/hooks"
	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/retry"
)

// exampleCluster is a cluster for the examples, exampleRing two servers,
// exampleSentinels what has a master that is called mymaster.
var exampleCluster, exampleRing, exampleSentinels []string

func TestExamplesOfASingleServer(t *testing.T) {
	exampleURL = "redis://" + redistest.Start(t).Addr()
	defer func() { exampleURL = "" }()
	for name, x := range map[string]struct {
		run  func()
		want string
	}{
		"Adaptive":        {ExampleClient_Adaptive, "1000\n"},
		"Batched":         {ExampleClient_Batched, "100\n"},
		"CloseGracefully": {ExampleClient_CloseGracefully, "1 lease was still held: nightly report\n"},
		"Warm":            {ExampleClient_Warm, "5 connections are ready\n"},
		"SetMaxAge":       {ExampleClient_SetMaxAge, "closed: age\n"},
		"Reset":           {ExampleClient_Reset, "0 connections open, 1 ended by reset\n"},
		"Stats":           {ExampleClient_Stats, "1 of 8 open, 0 in use, 0 callers wait\n"},
		"PoolMonitor":     {ExampleClient_PoolMonitor, "leases: 1\n"},
		"BlockingPool":    {ExampleWithBlockingPool, "the others are not in the way: PONG\n"},
		"ConnLimit":       {ExampleWithConnLimit, "4 at most: true\n"},
		"MaxAge":          {ExampleWithMaxAge, "PONG\n"},
		"MaxIdle":         {ExampleWithMaxIdle, "PONG\n"},
		"Heartbeat":       {ExampleWithHeartbeat, "PONG\n"},
		"Suspicion":       {ExampleWithFailureDetection, "PONG\n"},
		"Retry":           {ExampleWithRetry, "PONG\n"},
		"WithMonitor":     {ExampleWithMonitor, "PONG\n"},
		"Label":           {ExampleWithLabel, "import\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := output(t, x.run); got != x.want {
				t.Errorf("the example prints %q, want %q", got, x.want)
			}
		})
	}
}

func TestExamplesOfManyServers(t *testing.T) {
	exampleCluster = redistest.StartCluster(t, "redis-server", 3, 0).Addrs()
	exampleRing = []string{redistest.Start(t).Addr(), redistest.Start(t).Addr()}
	exampleSentinels = redistest.StartSentinel(t, "redis-server").Options().SentinelAddrs
	defer func() { exampleCluster, exampleRing, exampleSentinels = nil, nil, nil }()
	for name, x := range map[string]struct {
		run  func()
		want string
	}{
		"NewCluster":         {ExampleNewCluster, "1 2\n"},
		"NewClusterClient":   {ExampleNewClusterClient, "PONG\n"},
		"NewRing":            {ExampleNewRing, "v\n"},
		"NewFailoverClient":  {ExampleNewFailoverClient, "PONG\n"},
		"NewUniversalClient": {ExampleNewUniversalClient, "PONG 1 connection\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := output(t, x.run); got != x.want {
				t.Errorf("the example prints %q, want %q", got, x.want)
			}
		})
	}
}

// Many goroutines, a few connections: commands go together while many are in
// flight, and one by one while few are.
func ExampleClient_Adaptive() {
	ctx := context.Background()
	rdb := managed.NewClient(options())
	defer rdb.Close()
	defer rdb.Del(ctx, "adaptive")

	fast := rdb.Adaptive() // make one and keep it
	done := make(chan error)
	for range 100 {
		go func() {
			for range 9 {
				fast.Incr(ctx, "adaptive")
			}
			done <- fast.Incr(ctx, "adaptive").Err()
		}()
	}
	for range 100 {
		if err := <-done; err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(rdb.Get(ctx, "adaptive").Val())
}

// go-redis's AutoPipeliner over the managed client: always in batches.
func ExampleClient_Batched() {
	ctx := context.Background()
	rdb := managed.NewClient(options())
	defer rdb.Close()
	defer rdb.Del(ctx, "batched")

	ap, err := rdb.Batched(managed.WithBatchSize(100))
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan error)
	for range 100 {
		go func() { done <- ap.Incr(ctx, "batched").Err() }()
	}
	for range 100 {
		if err := <-done; err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(rdb.Get(ctx, "batched").Val())
}

// Commands and leases may finish; the error names those that did not.
func ExampleClient_CloseGracefully() {
	rdb := managed.NewClient(options())
	conn, _ := rdb.Acquire(managed.WithLabel(context.Background(), "nightly report"))
	defer conn.Release()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	err := rdb.CloseGracefully(ctx)
	var held *managed.HeldError
	if errors.As(err, &held) {
		for _, l := range held.Leases {
			fmt.Println(len(held.Leases), "lease was still held:", l.Label)
		}
	}
}

// Connections before the first callers come.
func ExampleClient_Warm() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	rdb := managed.NewClient(options())
	defer rdb.Close()

	n, err := rdb.Warm(ctx, 5)
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(n, "connections are ready")
}

// A limit of age at run time, effective for open connections too.
func ExampleClient_SetMaxAge() {
	ctx := context.Background()
	closed := make(chan hooks.Reason, 1)
	rdb := managed.NewClient(options(), managed.WithHeartbeat(0), managed.WithEventHandler(func(e hooks.Event) {
		if e.Kind == hooks.Closed {
			select {
			case closed <- e.Reason:
			default:
			}
		}
	}))
	defer rdb.Close()
	rdb.Ping(ctx)

	rdb.SetMaxAge(time.Millisecond)
	fmt.Println("closed:", <-closed)
}

// All connections are made anew: what is idle ends now, the others when they come
// back.
func ExampleClient_Reset() {
	ctx := context.Background()
	rdb := managed.NewClient(options(), managed.WithHeartbeat(0))
	defer rdb.Close()
	rdb.Ping(ctx)

	rdb.Reset(ctx)
	fmt.Printf("%d connections open, %d ended by reset\n", len(rdb.Conns()), rdb.CloseReasons()[hooks.ReasonReset])
}

// The numbers of now.
func ExampleClient_Stats() {
	opt := options()
	opt.PoolSize = 8
	rdb := managed.NewClient(opt, managed.WithHeartbeat(0))
	defer rdb.Close()
	rdb.Ping(context.Background())

	s := rdb.Stats()
	fmt.Printf("%d of %d open, %d in use, %d callers wait\n", s.Main.Open, s.Main.Size, s.Main.InUse, s.Waiting)
}

// Callbacks for numbers and alerts.
func ExampleClient_PoolMonitor() {
	rdb := managed.NewClient(options(), managed.WithMonitor(monitor.WithInterval(10*time.Millisecond)))
	defer rdb.Close()
	conn, _ := rdb.Acquire(context.Background())
	defer conn.Release()

	told := make(chan int, 1)
	remove := rdb.PoolMonitor().OnStats(func(s monitor.Stats) {
		select {
		case told <- s.Leases:
		default:
		}
	})
	defer remove()
	fmt.Println("leases:", <-told)
}

// Consumers that wait for hours hold connections of their own.
func ExampleWithBlockingPool() {
	ctx := context.Background()
	opt := options()
	opt.PoolSize = 1
	rdb := managed.NewClient(opt, managed.WithBlockingPool(2))
	defer rdb.Close()

	began, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		close(began)
		rdb.BLPop(ctx, time.Second, "no such queue")
	}()
	<-began
	fmt.Println("the others are not in the way:", rdb.Ping(ctx).Val())
	<-ended
}

// No more than four connections, whatever they are for.
func ExampleWithConnLimit() {
	ctx := context.Background()
	rdb := managed.NewClient(options(), managed.WithConnLimit(4), managed.WithLogger(slog.New(slog.DiscardHandler)))
	defer rdb.Close()
	done := make(chan error)
	for range 20 {
		go func() { done <- rdb.Ping(ctx).Err() }()
	}
	for range 20 {
		if err := <-done; err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println("4 at most:", len(rdb.Conns()) <= 4)
}

// Connections live for half an hour, less up to a fifth of it, so that they do not
// all end at once.
func ExampleWithMaxAge() {
	rdb := managed.NewClient(options(), managed.WithMaxAge(30*time.Minute), managed.WithMaxAgeJitter(0.2))
	defer rdb.Close()
	fmt.Println(rdb.Ping(context.Background()).Val())
}

// The pool shrinks to what was needed in the last five minutes, and two.
func ExampleWithMaxIdle() {
	opt := options()
	opt.MinIdleConns = 2
	rdb := managed.NewClient(opt, managed.WithMaxIdle(5*time.Minute))
	defer rdb.Close()
	fmt.Println(rdb.Ping(context.Background()).Val())
}

// A load balancer closes connections that are idle for five minutes.
func ExampleWithHeartbeat() {
	rdb := managed.NewClient(options(), managed.WithHeartbeat(4*time.Minute))
	defer rdb.Close()
	fmt.Println(rdb.Ping(context.Background()).Val())
}

// Commands that take a second are normal here.
func ExampleWithFailureDetection() {
	rdb := managed.NewClient(options(), managed.WithFailureDetection(managed.FailureDetection{After: 3 * time.Second}))
	defer rdb.Close()
	fmt.Println(rdb.Ping(context.Background()).Val())
}

// Nothing is repeated that was sent, but reads.
func ExampleWithRetry() {
	p := retry.Default()
	p.NoRepeatWrites = true
	rdb := managed.NewClient(options(), managed.WithRetry(p))
	defer rdb.Close()
	fmt.Println(rdb.Ping(context.Background()).Val())
}

// An alert when three quarters of the pool are in use for a minute.
func ExampleWithMonitor() {
	rdb := managed.NewClient(options(), managed.WithMonitor(
		monitor.WithInterval(10*time.Second),
		monitor.Threshold{Metric: monitor.PoolUse, Limit: 0.75, For: time.Minute},
		monitor.WithAlertHandler(func(a monitor.Alert) { slog.Warn(a.String()) }),
	))
	defer rdb.Close()
	fmt.Println(rdb.Ping(context.Background()).Val())
}

// A name for a lease, in errors, events and tables.
func ExampleWithLabel() {
	rdb := managed.NewClient(options())
	defer rdb.Close()
	conn, _ := rdb.Acquire(managed.WithLabel(context.Background(), "import"))
	defer conn.Release()
	fmt.Println(rdb.Leases()[0].Label)
}

// A floor for CPU-bound work.
func ExampleSuggestPoolSize() {
	fmt.Println(managed.SuggestPoolSize(2), managed.SuggestPoolSize(0))
	// Output: 2 1
}

// What an exhausted pool says of itself.
func ExampleExhaustedError() {
	err := &managed.ExhaustedError{Addr: "localhost:6379", PoolSize: 1, InUse: 1, Leased: 1, Waited: 300 * time.Millisecond, Cause: redis.ErrPoolTimeout,
		Leases: []managed.LeaseInfo{{ID: 4, Label: "nightly report", Age: time.Minute}}}
	fmt.Println(err)
	fmt.Println(errors.Is(err, redis.ErrPoolTimeout))
	// Output:
	// lifeguard/managed: pool of localhost:6379 exhausted: 1 of 1 connections in use, gave up after 300ms: 1 leased, 0 with a command in flight; lease 4 held 1m0s (nightly report): redis: connection pool timeout
	// true
}

// A lease belongs to the master that owns the key; keys with the same {tag} are
// together.
func ExampleNewCluster() {
	ctx := context.Background()
	rdb, err := managed.NewCluster(&redis.ClusterOptions{Addrs: exampleCluster, PoolSize: 5}, managed.WithConnLimit(60))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer rdb.Close()
	err = rdb.AcquireFunc(ctx, "{ann}:a", func(conn *managed.Conn) error {
		_, err := conn.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, "{ann}:a", 1, 0)
			p.Set(ctx, "{ann}:b", 2, 0)
			return nil
		})
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(rdb.Get(ctx, "{ann}:a").Val(), rdb.Get(ctx, "{ann}:b").Val())
}

// Replace redis.NewClusterClient.
func ExampleNewClusterClient() {
	rdb := managed.NewClusterClient(&redis.ClusterOptions{Addrs: exampleCluster})
	defer rdb.Close()
	fmt.Println(rdb.Ping(context.Background()).Val())
}

// Replace redis.NewRing.
func ExampleNewRing() {
	ctx := context.Background()
	rdb := managed.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": exampleRing[0], "b": exampleRing[1]}})
	defer rdb.Close()
	rdb.Set(ctx, "k", "v", time.Minute)
	fmt.Println(rdb.Get(ctx, "k").Val())
}

// Replace redis.NewFailoverClient: Sentinels say who the master is.
func ExampleNewFailoverClient() {
	rdb := managed.NewFailoverClient(&redis.FailoverOptions{MasterName: "mymaster", SentinelAddrs: exampleSentinels})
	defer rdb.Close()
	fmt.Println(rdb.Ping(context.Background()).Val())
}

// Replace redis.NewUniversalClient: one address is a server, several are a
// cluster, a MasterName is a Sentinel's.
func ExampleNewUniversalClient() {
	rdb := managed.NewUniversalClient(&redis.UniversalOptions{Addrs: exampleRing[:1]}, managed.WithHeartbeat(0))
	defer rdb.Close()
	pong := rdb.Ping(context.Background()).Val()
	fmt.Println(strings.TrimSpace(pong), len(rdb.Conns()), "connection")
}
