// Package sim tests lifeguard in simulated time. A managed client, its callers,
// the network and small Redis servers run inside one testing/synctest bubble, so
// that a minute of faults takes some milliseconds. One seed decides the options,
// the calls and the faults; what the callers were told is then compared with what
// the servers did.
//
//	go test ./internal/sim                                  # a few seeds
//	go test ./internal/sim -run Sim -seeds 5000 -seed 7000  # many more
//	go test ./internal/sim -run Sim -seeds 1 -seed 78 -only late
//
// A failure is shrunk and printed with the command that repeats it. The order in
// which goroutines run is not part of the seed: a rare failure may need a few
// plays (-again 20) to show up again.
//
// # Rules inside the bubble
//
// Nobody waits for the network while holding a mutex: a goroutine that waits for
// a mutex does not count as blocked, and simulated time stands still. go-redis
// asks Sentinels under a mutex, so the simulated Sentinels answer in no time.
//
// Objects must not move from one bubble to another. go-redis keeps timers in a
// sync.Pool, which two garbage collections empty, and only one bubble may run at
// a time in a process.
//
// Finalizers run outside of all bubbles, so leases that are dropped without
// Release cannot be simulated. Sockets can: go-redis and lifeguard look at them
// through SyscallConn, which sets up a real socket that shows what a socket of the
// simulated connection would show. TCP_USER_TIMEOUT, TCP_INFO and keepalive, which
// need a *net.TCPConn, cannot.
package sim
