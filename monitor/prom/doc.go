// Package prom exports a Monitor to Prometheus:
//
//	c, err := prom.NewCollector(m, "cache")
//	if err != nil {
//		return err
//	}
//	prometheus.MustRegister(c)
//
// Each metric has the label client, so that several clients can be in one registry,
// and nearly each the label node, the address of a server; what belongs to no single
// node has an empty one. What is not known is left out and not shown as zero: of a
// plain client much, see monitor.FromClient. docs/MONITORING.md has the table of all
// metrics.
//
// [Dashboard] is a dashboard for Grafana and [Rules] are alert rules that fit these
// metrics; both are files in the folder of this package as well.
package prom
