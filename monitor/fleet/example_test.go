package fleet_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/fleet"
	"github.com/lifeguard-redis/lifeguard/serverside"
)

func Example() {
	ctx := context.Background()
	rdb := redis.NewClient(&redis.Options{Addr: "localhost:6379", ClientName: "web-1"})
	defer rdb.Close()
	m, err := monitor.New(monitor.FromClient(rdb))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()

	p, err := fleet.Publish(m, rdb, fleet.WithService("web"), fleet.WithClientNames("web-1"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()

	f, err := fleet.Read(ctx, rdb)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(f.Sum.Total, f.Sum.Active, f.Sum.Idle, f.Sum.Disconnected)
	for _, i := range f.Instances {
		fmt.Println(i)
	}
}

func ExampleNewSource() {
	rdb := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	defer rdb.Close()
	src, err := fleet.NewSource(rdb)
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := monitor.New(src, monitor.WithoutDefaults(),
		monitor.Threshold{Metric: monitor.MaxClients, Limit: 0.8, For: time.Minute},
		monitor.Threshold{Metric: monitor.MaxClients, Limit: 0.95, Level: monitor.Critical})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	m.OnAlert(func(a monitor.Alert) { slog.Warn(a.String()) })
}

func ExampleNewMembers() {
	rdb := redis.NewClient(&redis.Options{Addr: "localhost:6379"})
	defer rdb.Close()
	live, err := fleet.NewMembers(rdb)
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := serverside.NewReaper(rdb, serverside.Policy{User: "web", MaxIdle: time.Hour, Spare: serverside.SpareLive(live)})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = r.Run(ctx, 10*time.Second)
}
