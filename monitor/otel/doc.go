// Package otel shows a Monitor to OpenTelemetry:
//
//	producer, err := otel.NewProducer(m, "cache")
//	if err != nil {
//		return err
//	}
//	reader := metric.NewPeriodicReader(exporter, metric.WithProducer(producer))
//	provider := metric.NewMeterProvider(metric.WithReader(reader))
//
// A [Producer] has everything. A program that is given a MeterProvider, and does not
// make its readers, has [Register]: everything but the four distributions
// (db.client.operation.duration and the create, wait and use times of connections), for
// which OpenTelemetry has no asynchronous instrument. Use one of the two; both together
// would say most of it twice.
//
// Names, units and attributes are those of the semantic conventions for database
// clients where they have some, else they begin with "lifeguard.". Not there are the
// attributes db.operation.name and error.type of db.client.operation.duration, since a
// Monitor does not tell commands apart. What is not known is left out and not shown as
// zero. docs/MONITORING.md has the table of all metrics.
//
// go-redis's own hooks for OpenTelemetry are one recorder per process, set globally;
// this package does not touch it, so both can be used at once. They would then both
// record db.client.operation.duration, in different scopes.
package otel
