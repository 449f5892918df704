package prom_test

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/monitor"
	"github.com/lifeguard-redis/lifeguard/monitor/prom"
)

func TestMain(m *testing.M) { redistest.MainWithoutLeaks(m) }

var bg = context.Background()

func newCollector(t testing.TB, m *monitor.Monitor, client string, opts ...prom.Option) *prom.Collector {
	t.Helper()
	c, err := prom.NewCollector(m, client, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func gather(t testing.TB, cs ...prometheus.Collector) []*dto.MetricFamily {
	t.Helper()
	families, err := registry(t, cs...).Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}
