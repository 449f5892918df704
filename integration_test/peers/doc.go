// Package peers runs the same calls and the same faults through other Redis
// clients for Go and through lifeguard, and counts. It is a module of its own, so
// that nobody else requires those clients. For docs/RELIABILITY.md run, here:
//
//	go test -count=1 -v -timeout 20m -measure -write -run Faults
//
// and for the table of throughput in docs/PERFORMANCE.md:
//
//	go test -count=1 -v -timeout 20m -measure -write -run Throughput
package peers
