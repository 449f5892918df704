// Package bench measures what lifeguard costs, beside the bare go-redis client
// in one run: short rounds of the one, the other and the one again, so that
// whatever else the machine does hits all of them. Repeat it with
//
//	go test -count=1 -timeout 30m -v ./integration_test/bench -measure
//
// from the root of the repository; -write puts the table into
// docs/PERFORMANCE.md. Without -measure the same code runs for a
// moment only, as a test of itself.
package bench
