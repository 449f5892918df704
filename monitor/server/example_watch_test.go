package server_test

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/monitor/server"
)

// Every minute: who was rejected, and who was evicted?
func ExampleWatch() {
	rdb := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	defer rdb.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()

	last := map[string]server.Sample{}
	err := server.Watch(ctx, rdb, time.Minute, func(samples []server.Sample, err error) {
		if err != nil {
			fmt.Println(err) // samples has what could be seen
		}
		for _, s := range samples {
			if before, ok := last[s.Node]; ok {
				d := s.Since(before)
				fmt.Println(s.Node, d.Rejected, "rejected,", d.Evicted, "evicted")
			}
			last[s.Node] = s
		}
	})
	fmt.Println(err) // ctx's
}
