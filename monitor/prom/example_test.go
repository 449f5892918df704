package prom_test

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/prom"
)

// A plain go-redis client in a registry. Of a managed client, take its Monitor.
func Example() {
	rdb := redis.NewClient(&redis.Options{Addr: "localhost:6379", PoolSize: 20})
	defer func() { _ = rdb.Close() }()
	src := monitor.FromClient(rdb)
	rdb.AddHook(src.Hook()) // to time commands and dials, too
	m, err := monitor.New(src)
	if err != nil {
		panic(err)
	}
	defer func() { _ = m.Close() }()

	c, err := prom.NewCollector(m, "cache")
	if err != nil {
		panic(err)
	}
	reg := prometheus.NewRegistry() // or prometheus.MustRegister(c)
	reg.MustRegister(c)

	families, err := reg.Gather() // promhttp.HandlerFor(reg, ...) does it
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		if f.GetName() == "redis_client_connections_limit" {
			for _, m := range f.GetMetric() {
				fmt.Println(f.GetName(), m.GetLabel()[2].GetValue(), m.GetGauge().GetValue())
			}
		}
	}
	// Output:
	// redis_client_connections_limit main 20
	// redis_client_connections_limit pipeline 10
}
