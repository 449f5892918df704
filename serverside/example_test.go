package serverside_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/serverside"
)

func ExampleList() {
	rdb := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	defer rdb.Close()

	clients, err := serverside.List(context.Background(), rdb, serverside.Filter{
		Library: "go-redis*", Addr: "10.0.0.0/8", MinIdle: time.Hour,
	})
	if err != nil {
		fmt.Println(err) // and clients has what could be seen
	}
	for _, c := range clients {
		fmt.Println(c)
	}
}

func ExampleParse() {
	clients, err := serverside.Parse(
		"id=7 addr=10.1.2.3:51342 name=web-1 age=86400 idle=301 flags=N cmd=get user=ci new-field=5\n" +
			"id=8 addr=10.1.2.4:5134\x00\x00 age=1h\n")
	for _, c := range clients {
		fmt.Println(c, c.Unknown, c.Has("resp"))
	}
	var torn *serverside.MalformedError
	if errors.As(err, &torn) {
		fmt.Println(torn.Skipped, "line left out:", torn.Lines[0].Why)
	}
	// Output:
	// client 7 10.1.2.3:51342 name="web-1" user="ci" age=24h0m0s idle=5m1s cmd="get" [{new-field 5}] false
	// 1 line left out: age is no number that it can have
}

func ExampleReaper() {
	rdb := redis.NewClient(&redis.Options{Addr: "localhost:6379", ClientName: "reaper"})
	defer rdb.Close()

	r, err := serverside.NewReaper(rdb, serverside.Policy{
		User:    "ci",
		MaxAge:  2 * time.Hour,
		MaxIdle: 10 * time.Minute,
		Spare:   serverside.SpareNames("web-*", "reaper"),
		DryRun:  true, // first see what it would close
	}, serverside.WithKillHandler(func(k serverside.Kill) { fmt.Println(k.Reason, k.Client) }),
		serverside.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	report, err := r.Once(ctx)
	fmt.Println(report, err)
}

func ExampleNewReaper_badPolicy() {
	rdb := redis.NewClient(&redis.Options{})
	defer rdb.Close()
	_, err := serverside.NewReaper(rdb, serverside.Policy{User: "ci", MaxAge: 1500 * time.Millisecond})
	fmt.Println(err)
	// Output: lifeguard/serverside: Policy.MaxAge: 1.5s: servers count in whole seconds
}
