package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/monitor/server"
)

func ExampleGet() {
	rdb := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	defer rdb.Close()

	s, err := server.Get(context.Background(), rdb)
	if err != nil {
		fmt.Println(err) // no answer
		return
	}
	if share, ok := s.ShareOfMaxClients(); ok && share > 0.8 {
		fmt.Printf("%s is nearly full: %v of %v clients\n", s.Node, s.ConnectedClients, s.MaxClients)
	}
	for _, g := range s.Gaps {
		fmt.Println(g.Source, "is not known:", g.Why)
	}
}

func ExampleOpt() {
	var timeout server.Opt[time.Duration] // CONFIG is forbidden
	b, _ := json.Marshal(map[string]any{
		"timeout": timeout, "keepalive": server.Some(5 * time.Minute), "rejected": server.Some[int64](0),
	})
	fmt.Println(string(b), timeout, timeout.Or(time.Minute))
	// Output: {"keepalive":300,"rejected":0,"timeout":null} ? 1m0s
}

func ExampleSample_Since() {
	before := server.Sample{At: time.Unix(0, 0), RejectedConnections: server.Some[int64](10)}
	now := server.Sample{At: time.Unix(60, 0), RejectedConnections: server.Some[int64](13)}
	d := now.Since(before)
	fmt.Println(d.Rejected, "rejected and", d.Evicted, "evicted in", d.Elapsed)
	// Output: 3 rejected and ? evicted in 1m0s
}

func ExampleSample_String() {
	s := server.Sample{
		Node: "10.0.0.1:6379", Product: server.Some("redis"), Version: server.Some("8.0.2"), Role: server.Some("master"),
		Uptime: server.Some(time.Hour), ConnectedClients: server.Some[int64](812), MaxClients: server.Some[int64](1000),
		Gaps: []server.Gap{{Source: "CONFIG GET timeout", Why: "NOPERM", Denied: true}},
	}
	fmt.Println(s)
	// Output: 10.0.0.1:6379 redis 8.0.2 master up 1h0m0s: 812 of 1000 clients (81.2 %), ? blocked, ? rejected, ? evicted, memory of clients ?, timeout ?, tcp-keepalive ?; not reported: CONFIG GET timeout
}
