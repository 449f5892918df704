// Package otel shows a Monitor to OpenTelemetry, in two halves:
//
//	producer, err := otel.NewProducer(m, "cache") // distributions
//	if err != nil {
//		return err
//	}
//	reader := metric.NewPeriodicReader(exporter, metric.WithProducer(producer))
//	provider := metric.NewMeterProvider(metric.WithReader(reader))
//	reg, err := otel.Register(provider, m, "cache") // everything else
//
// [Register] makes asynchronous instruments with the provider it is given. There is
// none of these for histograms, so the four distributions (db.client.operation.duration
// and the create, wait and use times of connections) come from a [Producer], which a
// reader of the SDK asks whenever it collects. Either half works without the other.
//
// Names, units and attributes are those of the semantic conventions for database
// clients where they have some, else they begin with "lifeguard.". Not there are
// db.client.connection.idle.max and idle.min, which a Monitor does not know, and the
// attributes db.operation.name and error.type of db.client.operation.duration, since a
// Monitor does not tell commands apart. What is not known is left out and not shown as
// zero. docs/MONITORING.md has the table of all metrics.
//
// go-redis's own hooks for OpenTelemetry are one recorder per process, set globally;
// this package does not touch it, so both can be used at once. They would then both
// record db.client.operation.duration, in different scopes.
package otel
