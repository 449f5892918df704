// Package managed is the main package of lifeguard: a go-redis client that finds connection leaks,
// explains pool exhaustion, and retries only what is safe to retry. Replace redis.NewClient with
// managed.NewClient and the program keeps working; a managed client has everything that a
// *redis.Client has.
//
//	rdb := managed.NewClient(&redis.Options{Addr: "localhost:6379"})
//	defer rdb.Close()
//
//	conn, err := rdb.Acquire(ctx) // one connection, for this caller alone
//	if err != nil {
//		return err
//	}
//	defer conn.Release()
//
// If many goroutines make calls at the same time, [Client.Adaptive] gives the same client with
// several times the throughput: it sends commands in batches while many are in flight, and one by
// one while few are. docs/PERFORMANCE.md says when it does not help.
//
// Everything here is safe for concurrent use unless it says otherwise.
package managed
