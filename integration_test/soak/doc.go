// Package soak runs every feature at once, against servers and a network that
// fail in every way that the tests can make them fail, and then compares what
// callers were told, what the client counted and what the servers say. What they
// were told about objects that they share, registers, counters, sets and queues,
// must be linearizable, where a call of unknown outcome may take effect at any
// time, or never:
//
//	go test -race -count=1 -v ./integration_test/soak -soak 2m
//	go test -race -count=1 -v ./integration_test/soak -soak 8h -timeout 0
//
// from the root of the repository. It runs in rounds of at most 30 seconds, each
// with servers, clients and a seed of its own; a round that fails prints its
// seed, and -seed repeats it: the same faults in the same order, and the same
// calls of each caller. When they meet is up to the machine.
package soak
