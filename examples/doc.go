// Package examples has programs to start with. Each runs with one command and
// nothing installed, takes -addr for a server of yours, and ends with Ctrl-C:
//
//	go run ./examples/webcache   sessions and a cache in front of a database: wrong and right, measured
//	go run ./examples/httpapi    JSON over HTTP, with limits, timeouts and clear status codes
//	go run ./examples/worker     a queue whose workers finish what they began
//	go run ./examples/cluster    a cluster: leases by key, one limit for all nodes, killed connections
//	go run ./examples/tracing    the spans of redisotel, into memory
//	go run ./examples/kubernetes readiness by the pool, a graceful end on SIGTERM
//	go run ./examples/migrate    a program for go-redis, before and after
package examples
