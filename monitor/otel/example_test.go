package otel_test

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/otel"
)

// A plain go-redis client shown to a provider. Of a managed client, take its Monitor.
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

	producer, err := otel.NewProducer(m, "cache")
	if err != nil {
		panic(err)
	}
	reader := metric.NewManualReader(metric.WithProducer(producer)) // or NewPeriodicReader(exporter, ...)
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	defer func() { _ = provider.Shutdown(context.Background()) }()

	var rm metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &rm); err != nil { // a periodic one does it by itself
		panic(err)
	}
	for _, scope := range rm.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Histogram[float64]:
				fmt.Println(m.Name, d.DataPoints[0].Count)
			case metricdata.Sum[int64]:
				if m.Name == "db.client.connection.max" {
					fmt.Println(m.Name, len(d.DataPoints), "pools")
				}
			}
		}
	}
	// Output:
	// db.client.connection.max 2 pools
	// db.client.connection.create_time 0
	// db.client.operation.duration 0
}
