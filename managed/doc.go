// Package managed is the front door of lifeguard: a go-redis client whose
// connections are watched over. Replace redis.NewClient by managed.NewClient and
// the program keeps working; everything that *redis.Client has is still there.
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
// Everything here is safe for concurrent use unless it says otherwise.
package managed
