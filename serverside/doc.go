// Package serverside looks at connections from the server's side: who is
// connected, and which connections nobody needs any more. It works on any
// go-redis client, also on one without lifeguard.
//
//	clients, err := serverside.List(ctx, rdb, serverside.Filter{Name: "web-*", MinIdle: time.Hour})
//
// A [Reaper] closes connections that are too old or idle for too long: what
// crashed processes, frozen functions and CI jobs left behind. A Policy
// says which it may close and which to spare, and in a fleet only one works at a time:
//
//	r, err := serverside.NewReaper(rdb, serverside.Policy{
//		User:   "ci",
//		MaxAge: 2 * time.Hour,
//		Spare:  serverside.SpareNames("web-*"),
//	})
//	go r.Run(ctx, time.Minute)
//
// # What the server counts
//
// Servers count age and idle time in whole seconds, by their own clock, as the
// difference of two times without their fractions: what they say may be up to a
// second too much or too little. This package relies on that: limits are whole
// seconds, and nothing is closed before the server says that it is that old.
//
// # Clusters
//
// CLIENT LIST and CLIENT KILL are about one node. On a ClusterClient or a Ring
// everything here is done for each node, masters and replicas, one after the
// other, and a node that fails does not keep the others from being done. A shard
// that a Ring itself takes for down is not asked.
package serverside
