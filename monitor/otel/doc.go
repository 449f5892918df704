// Package otel exports a Monitor to OpenTelemetry:
//
//	producer, err := otel.NewProducer(m, "cache", otel.WithOperations(rdb))
//	if err != nil {
//		return err
//	}
//	reader := metric.NewPeriodicReader(exporter, metric.WithProducer(producer))
//	provider := metric.NewMeterProvider(metric.WithReader(reader))
//
// A program that is given a MeterProvider, and does not make its readers, exports the same with one
// call of [Register]. Use one of the two; both together would export everything twice.
//
// Names, units and attributes follow the semantic conventions for database clients where these
// define some; other names begin with "lifeguard.". Unknown values are left out instead of being
// shown as zero. docs/MONITORING.md has the table of all metrics.
//
// go-redis's own hooks for OpenTelemetry are one recorder per process, set globally;
// this package does not touch it, so both can be used at once. They would then both
// record db.client.operation.duration, in different scopes.
package otel
