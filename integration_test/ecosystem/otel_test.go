package ecosystem_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/extra/redisotel/v9"
	"github.com/redis/go-redis/v9"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/lifeguard-redis/lifeguard/internal/redistest"
	"github.com/lifeguard-redis/lifeguard/managed"
)

// trace has redisotel trace a client of either side.
func trace(rdb redis.UniversalClient, tp *sdktrace.TracerProvider) error {
	with := func(target redis.UniversalClient) error {
		return redisotel.InstrumentTracing(target, redisotel.WithTracerProvider(tp), redisotel.WithCallerEnabled(false), redisotel.WithDBStatement(true))
	}
	switch c := rdb.(type) {
	case *managed.Client:
		return c.Instrument(func(target *redis.Client) error { return with(target) })
	case *managed.ClusterClient:
		return c.Instrument(func(target *redis.ClusterClient) error { return with(target) })
	case *managed.Ring:
		return c.Instrument(func(target *redis.Ring) error { return with(target) })
	}
	return with(rdb)
}

// spans are those of a library's play, a line each.
func spans(t *testing.T, s *redistest.Server, lib library, who side) (lines []string) {
	t.Helper()
	empty(t, s)
	exporter := tracetest.NewInMemoryExporter()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	noGoroutineLeft(t, func() {
		rdb := who.open(t, s)
		defer rdb.Close()
		if err := trace(rdb, tp); err != nil {
			t.Fatal(err)
		}
		lib.play(&play{t: t, rdb: rdb, before: func() {}})
	})
	all := exporter.GetSpans()
	names := map[string]string{}
	for _, span := range all {
		names[span.SpanContext.SpanID().String()] = span.Name
	}
	for _, span := range all {
		attrs := map[string]string{}
		for _, a := range span.Attributes {
			if lib.varies && a.Key == "db.statement" {
				continue
			}
			attrs[string(a.Key)] = a.Value.String()
		}
		lines = append(lines, fmt.Sprintf("%s in %q, %s, %d events, %v", span.Name, names[span.Parent.SpanID().String()], span.Status.Code, len(span.Events), attrs))
	}
	if err := tp.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	return lines
}

func TestRedisotelGivesTheSameSpansOneByOne(t *testing.T) {
	s := redistest.Start(t)
	for _, lib := range libraries() {
		t.Run(lib.name, func(t *testing.T) {
			var got [][]string
			for _, who := range sides() {
				lines := spans(t, s, lib, who)
				if lib.polls {
					for i, line := range lines {
						lines[i], _, _ = strings.Cut(line, " in ")
					}
					slices.Sort(lines)
					lines = slices.Compact(lines)
				}
				got = append(got, lines)
			}
			if len(got[0]) == 0 || !slices.Equal(got[0], got[1]) {
				t.Errorf("bare:\n%s\nmanaged:\n%s", strings.Join(got[0], "\n"), strings.Join(got[1], "\n"))
			}
		})
	}
}

func TestRedisotelCollectsTheSameMetrics(t *testing.T) {
	s := redistest.Start(t)
	var got []string
	for _, who := range sides() {
		noGoroutineLeft(t, func() {
			rdb := who.open(t, s)
			defer rdb.Close()
			inner, ok := rdb.(*redis.Client)
			if c, managed := rdb.(*managed.Client); managed {
				inner, ok = c.Client, true
			}
			reader := sdkmetric.NewManualReader()
			provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
			if err := redisotel.InstrumentMetrics(inner, redisotel.WithMeterProvider(provider)); err != nil || !ok {
				t.Fatal(err)
			}
			for range 5 {
				if err := rdb.Set(t.Context(), "key", "value", 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error { return p.Get(t.Context(), "key").Err() }); err != nil {
				t.Fatal(err)
			}
			got = append(got, metrics(t, reader))
			if err := provider.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	if got[0] == "" || got[0] != got[1] {
		t.Errorf("bare:\n%s\nmanaged:\n%s", got[0], got[1])
	}
}

// metrics are the numbers of a reader, a line each; of times only how many there are.
// How many commands there were is left out: hooks of the client inside see pings of ours.
func metrics(t *testing.T, reader *sdkmetric.ManualReader) string {
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					lines = append(lines, fmt.Sprint(m.Name, " ", p.Attributes.ToSlice(), " ", p.Value))
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					lines = append(lines, fmt.Sprint(m.Name, " ", p.Attributes.ToSlice(), " ", p.Value))
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					n := fmt.Sprint(p.Count)
					if kind, _ := p.Attributes.Value("type"); kind.AsString() == "command" {
						n = "some"
					}
					lines = append(lines, fmt.Sprint(m.Name, " ", p.Attributes.ToSlice(), " ", n))
				}
			default:
				t.Fatalf("%s is a %T", m.Name, data)
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
