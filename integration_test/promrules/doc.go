// Package promrules has the tests of the alert rules and of the dashboard of package
// monitor/prom, with Prometheus's own parser and engine. It is a module of its own, for
// these bring much along.
package promrules
