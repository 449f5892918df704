// Package prom exports a Monitor to Prometheus:
//
//	c, err := prom.NewCollector(m, "cache")
//	if err != nil {
//		return err
//	}
//	prometheus.MustRegister(c)
//
// Each metric has the label client, so that several clients can be in one registry, and almost
// every metric has the label node, the address of a server; it is empty for what belongs to no
// single node. Unknown values are left out instead of being shown as zero; a plain client has many of
// them, see monitor.FromClient. docs/MONITORING.md has the table of all metrics.
//
// [Dashboard] is a dashboard for Grafana and [Rules] are alert rules for these metrics; both are
// also files in the directory of this package.
package prom
